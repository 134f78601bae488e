import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "sage_core" / "assembly"))
import glide

from data_catalog import StageEvent, Workspace
from sage_core.config import load_config
from sage_core.shards import ShardReader
from sage_core.shards.validate import validate
from tasks.assemble import assemble_shard

CONFIG = load_config(
    overrides=[
        "assemble.long_side_px=200",
        "assemble.candidates=8",
        "assemble.anchors.min_angle_deg=2",
        "assemble.sampling.interval_frames=6",
        "assemble.sampling.jitter_frames=2",
    ]
)
VIDEOS = ["v00000000000000aa", "v00000000000000bb"]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """Two clips that were reconstructed; the second's video was cut off since."""
    ws = Workspace.open(tmp_path_factory.mktemp("ws"))
    xyz = glide.dots(0)
    with ws.store.scratch() as area:
        glide.film(area / "video.mp4", xyz)
        glide.reconstruct(area / "model", xyz, 0)
        for video in VIDEOS:
            _accepted(ws, video, area)
    return ws


def _accepted(ws, video, area):
    clip = glide.make_clip(video)
    source, copy = area / f"{video}.mp4", area / f"{video}-model"
    data = (area / "video.mp4").read_bytes()
    source.write_bytes(data if video == VIDEOS[0] else data[: len(data) // 2])
    shutil.copytree(area / "model", copy)
    media = ws.store.publish(source, f"videos/{video}/source.mp4")
    model = ws.store.publish(copy, f"sfm/{clip.item}")
    figures = {"reprojection_px": {"value": 0.3, "threshold": 0.9, "rule": "<="}}
    ws.catalog.append(
        [
            StageEvent(
                item=video,
                stage="acquire",
                verdict="accepted",
                source="a.mp4",
                artifacts={"video": media},
                details={"title": "dots", "license": "CC0"},
            ),
            StageEvent(
                item=video,
                stage="curate",
                verdict="accepted",
                source="a.mp4",
                details={"children": [clip.item]},
            ),
            StageEvent(
                item=clip.item,
                stage="curate",
                verdict="accepted",
                parent=video,
                source="a.mp4",
                details={"clip": clip.to_json()},
            ),
            StageEvent(
                item=clip.item,
                stage="reconstruct",
                verdict="accepted",
                parent=video,
                source="a.mp4",
                artifacts={"model": model},
                figures=figures,
            ),
        ]
    )


def clip_ids():
    return [glide.make_clip(video).item for video in VIDEOS]


def shard_bytes(ws):
    return {path.name: path.read_bytes() for path in (ws.root / "shards").iterdir()}


def test_each_clip_gets_its_verdict_and_a_broken_one_harms_nobody(workspace):
    good, bad = clip_ids()
    briefs = assemble_shard.fn(str(workspace.root), [good, bad], CONFIG, "run-1")
    assert [(b["item"], b["verdict"]) for b in briefs] == [(good, "accepted"), (bad, "failed")]
    event, failed = (workspace.catalog.find(item, "assemble") for item in (good, bad))
    assert failed.reason in ("unreadable", "truncated", "decode_error")
    assert not failed.artifacts
    assert workspace.store.verify(event.artifacts["frames"], deep=True)
    assert event.figures["trajectories"]["value"] > 0
    assert event.parent == VIDEOS[0]
    assert event.cpu_seconds > 0
    assert 0 < event.details["peak_mb"] < 2000

    frames = workspace.store.path(event.artifacts["frames"].path)
    reader = ShardReader([frames])
    assert reader.names == [good]
    clip = reader.clip(good)
    assert clip.provenance["license"] == "CC0"
    assert clip.figures["reprojection_px"]["value"] == 0.3
    assert validate([workspace.root / "shards"]) == []

    before = shard_bytes(workspace)
    assemble_shard.fn(str(workspace.root), [good, bad], CONFIG, "run-2")
    assert shard_bytes(workspace) == before
    assert workspace.catalog.find(good, "assemble").attempt == 2


@pytest.mark.slow
def test_a_kill_before_the_verdict_changes_nothing_in_the_end(workspace):
    good, _ = clip_ids()
    config = load_config(
        overrides=[
            "assemble.long_side_px=160",
            "assemble.candidates=8",
            "assemble.anchors.min_angle_deg=2",
            "assemble.sampling.interval_frames=6",
        ]
    )
    script = f"""
import os, signal
import tasks.assemble
from sage_core.config import SageConfig
tasks.assemble.record = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
config = SageConfig.model_validate({config.model_dump(mode="json")!r})
tasks.assemble.assemble_shard.fn({str(workspace.root)!r}, [{good!r}], config, "killed")
"""
    done = subprocess.run([sys.executable, "-c", script], check=False, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    event = workspace.catalog.find(good, "assemble")
    assert event is None or event.run != "killed"
    left = shard_bytes(workspace)
    assemble_shard.fn(str(workspace.root), [good], config, "after")
    assert shard_bytes(workspace) == left
    assert workspace.catalog.find(good, "assemble").run == "after"
