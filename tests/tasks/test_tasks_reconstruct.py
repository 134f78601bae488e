import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "sage_core" / "sfm"))
import box_room

from data_catalog import StageEvent, Workspace
from sage_core.config import load_config
from sage_core.errors import SageError
from sage_core.sfm import load_clip_model
from sage_core.types import Stage
from tasks._plan import reconstructed_clips
from tasks.reconstruct import reconstruct_clip, redecide_clip
from tasks.replay import replay

FRAMES = 19
CONFIG = load_config()
WALK, TURN = "v00000000000000aa", "v00000000000000bb"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A workspace with two curated clips: a walk and a turn on the spot."""
    ws = Workspace.open(tmp_path_factory.mktemp("ws"))
    with ws.store.scratch() as area:
        for video, motion in ((WALK, box_room.walk), (TURN, box_room.turn)):
            box_room.photograph(area / video, motion(FRAMES))
            _curated(ws, video, area / video)
    return ws


def _clip(video):
    return box_room.make_clip(FRAMES, key_step=3, pose_step=1, item=f"{video}_000000_000019")


def _curated(ws, video, folder):
    clip = _clip(video)
    media = ws.store.publish(folder, f"videos/{video}/images")
    common = {"verdict": "accepted", "source": "a/folder"}
    details = {"clip": clip.to_json()}
    ws.catalog.append(
        [
            StageEvent(item=video, stage="acquire", artifacts={"video": media}, **common),
            StageEvent(item=video, stage="curate", details={"children": [clip.item]}, **common),
            StageEvent(item=clip.item, stage="curate", parent=video, details=details, **common),
        ]
    )


@pytest.fixture
def ws(prepared, tmp_path):
    shutil.copytree(prepared.root, tmp_path / "ws")
    return Workspace.open(tmp_path / "ws")


def _reconstruct(ws, video, config=CONFIG):
    answer = reconstruct_clip.fn(str(ws.root), _clip(video).item, config, "run-1")
    return answer, ws.catalog.find(_clip(video).item, "reconstruct")


def _redecide(ws, video, config):
    redecide_clip.fn(str(ws.root), _clip(video).item, config, "run-2")
    return ws.catalog.find(_clip(video).item, "reconstruct")


def test_model_is_published_and_recorded_and_found_again(ws):
    answer, event = _reconstruct(ws, WALK)
    assert answer["verdict"] == event.verdict == "accepted"
    assert event.parent == WALK
    assert event.source == "a/folder"
    assert event.figures["registered_share"] == {"value": 1.0, "threshold": 0.7, "rule": ">="}
    model = event.artifacts["model"]
    assert model.path == f"sfm/{event.item}"
    assert ws.store.verify(model, deep=True)
    assert len(load_clip_model(ws.store.path(model.path)).frames) == FRAMES
    assert event.details["cpu_s"]["mapping"] > 0
    # A second run finds the model in place: nothing is mapped, the verdict is the same.
    _, again = _reconstruct(ws, WALK)
    assert "cpu_s" not in again.details
    assert (again.verdict, again.figures) == (event.verdict, event.figures)
    assert again.artifacts == event.artifacts
    # Other settings make it worthless.
    strict = load_config(overrides=["reconstruct.gate.min_rotation_residual_px=1e6"])
    answer, event = _reconstruct(ws, WALK, strict)
    assert (answer["verdict"], answer["reason"]) == ("rejected", "no_parallax")
    assert event.artifacts == {}
    assert not ws.store.exists(model.path)


def test_rejection_leaves_a_reason_and_no_files(ws):
    answer, event = _reconstruct(ws, TURN)
    assert (answer["verdict"], answer["reason"]) == ("rejected", "no_parallax")
    figure = event.figures["rotation_residual_px"]
    assert figure["value"] < figure["threshold"]
    assert not ws.store.exists(f"sfm/{event.item}")
    assert list(ws.store.path("scratch").iterdir()) == []
    # Other thresholds: what was rejected unmapped cannot be accepted, but can be rejected by them.
    looser = load_config(overrides=["reconstruct.gate.min_rotation_residual_px=0"])
    with pytest.raises(SageError, match=r"before it was mapped.*sage reconstruct --item v0000000"):
        _redecide(ws, TURN, looser)
    assert ws.catalog.find(event.item, "reconstruct") == event
    again = _redecide(
        ws, TURN, load_config(overrides=["reconstruct.gate.min_rotation_residual_px=2"])
    )
    assert again.figures["rotation_residual_px"]["threshold"] == 2
    assert again.reason == event.reason


def test_memory_limit_is_a_failed_verdict(ws):
    config = load_config(overrides=["reconstruct.max_memory_mb=64"])
    answer, event = _reconstruct(ws, WALK, config)
    assert (answer["verdict"], answer["reason"]) == ("failed", "memory_limit")
    assert not event.retryable


@pytest.mark.slow
def test_killed_between_publishing_and_recording_maps_once(ws):
    """The model of a killed run is taken over, with the same verdict as if nothing had happened."""
    code = f"""
import os, signal
from data_catalog import Workspace
import tasks.reconstruct as stage
from sage_core.config import load_config
stage._part = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
stage.reconstruct_clip.fn({str(ws.root)!r}, {_clip(WALK).item!r}, load_config(), "run-0")
"""
    ended = subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert ws.catalog.find(_clip(WALK).item, "reconstruct") is None
    _, event = _reconstruct(ws, WALK)
    assert event.verdict == "accepted"
    assert "cpu_s" not in event.details
    assert ws.store.verify(event.artifacts["model"], deep=True)


def test_replayed_it_is_the_same_and_new_thresholds_need_no_video(ws, tmp_path):
    _, before = _reconstruct(ws, WALK)
    found = replay(ws, Stage.RECONSTRUCT, before.item, CONFIG, tmp_path)
    assert found.same, [row for row in found.rows if row.difference]
    assert "sparse/0/points3D.bin, bytes" in [row.name for row in found.rows]
    shutil.rmtree(ws.root / "videos")
    strict = load_config(overrides=["reconstruct.gate.min_points_median=100000"])
    fallen = _redecide(ws, WALK, strict)
    assert (fallen.verdict, fallen.reason) == ("rejected", "quality_gate")
    assert fallen.figures["points_median"]["threshold"] == 100000
    assert fallen.attempt == before.attempt + 1
    assert fallen.config_hash == strict.stage_hash("reconstruct")
    assert ws.store.verify(fallen.artifacts["model"], deep=True)
    assert reconstructed_clips(ws) == []
    back = _redecide(ws, WALK, CONFIG)
    assert (back.verdict, back.figures, back.artifacts) == (
        "accepted",
        before.figures,
        before.artifacts,
    )
    for other in ("reconstruct.gate.min_points_frame=31", "reconstruct.recipe=paper", "run.seed=1"):
        with pytest.raises(SageError, match="settings that differ in more than thresholds"):
            _redecide(ws, WALK, load_config(overrides=[other]))
    assert ws.catalog.find(before.item, "reconstruct") == back
