"""What is done again and what follows: by verdict, reason, snapshot, number; shards without dead rows."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

sys.path.append(str(Path(__file__).parents[1] / "sage_core" / "assembly"))
import glide

from data_catalog import CatalogError, StageEvent, Workspace
from flows.reconstruct import reconstruct
from sage_core.config import load_config
from sage_core.shards import ShardReader
from sage_core.shards.validate import validate
from sage_core.types import Stage
from tasks._inputs import reconstruct_inputs
from tasks._plan import Descent, Retry, Selection, Selector, plan_assemble, plan_reconstruct
from tasks.adapt import adapt_inputs
from tasks.assemble import assemble_shard
from tasks.compact import compact_shards, leave_shards

CONFIG = load_config(
    overrides=[
        "assemble.long_side_px=160",
        "assemble.candidates=4",
        "assemble.anchors.min_angle_deg=2",
        "assemble.sampling.interval_frames=6",
        "assemble.sampling.jitter_frames=2",
    ]
)
VIDEOS = ["v00000000000000aa", "v00000000000000bb", "v00000000000000cc"]
CLIPS = [glide.make_clip(video).item for video in VIDEOS]


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    """Three clips of one film, reconstructed, and in one shard."""
    ws = Workspace.open(tmp_path_factory.mktemp("rerun"))
    xyz = glide.dots(0)
    with ws.store.scratch() as area:
        glide.film(area / "video.mp4", xyz)
        glide.reconstruct(area / "model", xyz, 0)
        for video in VIDEOS:
            _accepted(ws, video, area)
    assemble_shard.fn(str(ws.root), CLIPS, CONFIG, "run-1")
    return ws


def _accepted(ws, video, area):
    clip = glide.make_clip(video)
    media = ws.store.publish(_copy(area / "video.mp4", video), f"videos/{video}/source.mp4")
    model = ws.store.publish(_copy(area / "model", video), f"sfm/{clip.item}")
    common = {"verdict": "accepted", "source": "a.mp4"}
    ws.catalog.append(
        [
            StageEvent(item=video, stage="acquire", artifacts={"video": media}, **common),
            StageEvent(item=video, stage="curate", details={"children": [clip.item]}, **common),
            StageEvent(
                item=clip.item,
                stage="curate",
                parent=video,
                details={"clip": clip.to_json()},
                **common,
            ),
            StageEvent(
                item=clip.item,
                stage="reconstruct",
                parent=video,
                artifacts={"model": model},
                **common,
            ),
        ]
    )


def _copy(path, name):
    copy = path.with_name(f"{name}-{path.name}")
    (shutil.copytree if path.is_dir() else shutil.copyfile)(path, copy)
    return copy


@pytest.fixture
def ws(assembled, tmp_path):
    shutil.copytree(assembled.root, tmp_path / "ws")
    return Workspace.open(tmp_path / "ws")


def _judge(ws, clip, stage, verdict, reason=None):
    """Another verdict on a clip, as a run with other settings gives."""
    last = ws.catalog.find(clip, stage)
    changed = {"verdict": verdict, "reason": reason, "attempt": last.attempt + 1}
    ws.catalog.append([replace(last, **changed)])


def _frames(ws):
    return {
        e.item: e.artifacts["frames"].path
        for e in ws.catalog.latest("assemble", verdict="accepted")
    }


def _selected(ws, plan, stage, retry="missing", items=None, **selector):
    selection = Selection.of(ws, stage, retry, items, Selector(**selector))
    return [inputs.item for inputs in plan(ws, CONFIG, selection).missing]


def test_a_fallen_clip_leaves_its_shard_and_comes_back(ws):
    before = _frames(ws)
    assert len({*before.values()}) == 1
    _judge(ws, CLIPS[1], "reconstruct", "rejected", "quality_gate")
    done = leave_shards(ws, "run-2")
    assert done.left == [CLIPS[1]]
    assert len(done.rewritten) == 1
    left = ws.catalog.find(CLIPS[1], "assemble")
    assert (left.verdict, left.reason) == ("rejected", "superseded")
    assert "quality_gate" in left.message
    assert [*ws.root.glob("shards/frames-*")] == [ws.root / _frames(ws)[CLIPS[0]]]
    reader = ShardReader([ws.root / "shards"])
    assert reader.names == [CLIPS[0], CLIPS[2]]
    assert validate([ws.root / "shards"]) == []
    # The rows are those that assembling these two clips alone gives, under the same name.
    kept = {path.name: path.read_bytes() for path in ws.root.glob("shards/*")}
    assemble_shard.fn(str(ws.root), [CLIPS[0], CLIPS[2]], CONFIG, "run-3")
    assert {path.name: path.read_bytes() for path in ws.root.glob("shards/*")} == kept
    assert leave_shards(ws, "run-4").left == []
    _judge(ws, CLIPS[1], "reconstruct", "accepted")
    assert _selected(ws, plan_assemble, Stage.ASSEMBLE) == [CLIPS[1]]


def test_a_clip_that_could_not_be_judged_anew_stays_in_its_shard(ws):
    _judge(ws, CLIPS[0], "reconstruct", "failed", "crashed")
    _judge(ws, VIDEOS[1], "curate", "failed", "disk_full")
    assert leave_shards(ws, "run-2").left == []
    assert _frames(ws).keys() == {*CLIPS}


def test_what_a_snapshot_holds_stays_and_can_be_trained_on_again(ws, tmp_path):
    weights = tmp_path / "base.safetensors"
    weights.write_bytes(b"weights")
    config = CONFIG.model_copy(
        update={"adapt": CONFIG.adapt.model_copy(update={"base": str(weights)})}
    )
    old = adapt_inputs(ws, config)
    _judge(ws, CLIPS[1], "reconstruct", "rejected", "quality_gate")
    leave_shards(ws, "run-2")
    now = adapt_inputs(ws, config)
    assert [len(clips) for clips in now.parts.values()] == [2]
    assert now.item != old.item
    assert adapt_inputs(ws, config, old.snapshot) == old
    held_out = config.adapt.model_copy(update={"held_out": (CLIPS[0],)})
    fewer = adapt_inputs(ws, config.model_copy(update={"adapt": held_out}), old.snapshot)
    assert [*fewer.parts.values()] == [CLIPS[1:]]
    assert ws.catalog.load_snapshot(fewer.snapshot).parent == old.snapshot
    assert compact_shards(ws, "run-3").removed == []
    shard = ws.root / next(iter(old.parts))
    shard.write_bytes(shard.read_bytes()[::-1])
    with pytest.raises(CatalogError, match="not there as it was frozen"):
        adapt_inputs(ws, config, old.snapshot)


def test_compaction_drops_rows_that_were_assembled_again_and_files_of_no_use(ws):
    old = _frames(ws)[CLIPS[0]]
    assemble_shard.fn(str(ws.root), [CLIPS[0]], CONFIG, "run-2")
    (ws.root / "shards" / "frames-0123456789abcdef.parquet").write_bytes(b"of a killed run")
    done = compact_shards(ws, "run-3")
    assert old in done.removed
    assert "shards/frames-0123456789abcdef.parquet" in done.removed
    assert done.freed_bytes > 0
    assert ShardReader([ws.root / "shards"]).names == CLIPS
    assert compact_shards(ws, "run-4").removed == []


def test_killed_after_copying_the_next_time_ends_it(ws):
    _judge(ws, CLIPS[1], "reconstruct", "rejected", "quality_gate")
    script = f"""
import os, signal
import tasks.compact as compact
from data_catalog import Workspace
compact._remove = lambda *a: os.kill(os.getpid(), signal.SIGKILL)
compact.leave_shards(Workspace.open({str(ws.root)!r}), "killed")
"""
    assert (
        subprocess.run([sys.executable, "-c", script], check=False, env={**os.environ}).returncode
        < 0
    )
    compact_shards(ws, "after")
    assert ShardReader([ws.root / "shards"]).names == [CLIPS[0], CLIPS[2]]
    assert all(
        ws.store.verify(a) for e in ws.catalog.latest("assemble") for a in e.artifacts.values()
    )


def test_selection_by_reason_verdict_item_and_number(ws):
    for clip, verdict, reason in (
        (CLIPS[0], "rejected", "quality_gate"),
        (CLIPS[1], "failed", "time_limit"),
    ):
        last = ws.catalog.find(clip, "reconstruct")
        done = {
            "config_hash": CONFIG.stage_hash("reconstruct"),
            "verdict": verdict,
            "reason": reason,
        }
        inputs = reconstruct_inputs(ws, clip)
        ws.catalog.append([replace(last, attempt=2, input_hash=inputs.hash, **done)])

    def selected(*words, **selector):
        return _selected(ws, plan_reconstruct, Stage.RECONSTRUCT, *words, **selector)

    assert selected() == [CLIPS[2]]  # judged under other settings
    assert selected("failed") == CLIPS[1:]
    assert selected("all") == CLIPS
    assert selected("all", limit=2) == CLIPS[:2]
    assert selected(reasons=("quality_gate",)) == [CLIPS[0]]
    assert selected(verdict="failed") == [CLIPS[1]]
    assert selected(verdict="failed", reasons=("quality_gate",)) == []
    assert selected("missing", [VIDEOS[0]], reasons=("quality_gate",)) == [CLIPS[0]]
    assert selected("missing", [CLIPS[1]], reasons=("quality_gate",)) == []
    with pytest.raises(ValidationError):
        Selector(limit=0)
    # As the form in the UI gives it.
    form = {"workspace": "ws", "retry": "none", "select": {"reasons": ["quality_gate"], "limit": 3}}
    given = reconstruct.validate_parameters(form)
    assert given["select"] == Selector(reasons=("quality_gate",), limit=3)
    assert given["retry"] is Retry.MISSING
    assert Retry("none") is Retry.MISSING


def test_what_follows_from_the_chosen_is_done_and_nothing_else(ws):
    _judge(ws, CLIPS[0], "reconstruct", "rejected", "quality_gate")
    descent = Descent(ws, None, Selector(reasons=("quality_gate",)))
    assert descent.at(Stage.CURATE) == []
    assert descent.at(Stage.RECONSTRUCT) == [CLIPS[0]]
    _judge(ws, CLIPS[0], "reconstruct", "accepted")
    assert descent.at(Stage.ASSEMBLE) == [CLIPS[0]]
    assert Descent(ws, None, Selector(limit=1)).at(Stage.CURATE) is None


def test_a_snapshot_names_its_videos_and_clips(ws):
    event = ws.catalog.find(CLIPS[0], "assemble")
    query = {"clips": {event.artifacts["frames"].path: [CLIPS[0]]}}
    name = ws.catalog.snapshot(list(event.artifacts.values()), query).id
    of = {stage: Selection.of(ws, stage, "all", None, Selector(snapshot=name)) for stage in Stage}
    assert of[Stage.CURATE].names(VIDEOS[0], None)
    assert not of[Stage.CURATE].names(VIDEOS[1], None)
    assert _selected(ws, plan_reconstruct, Stage.RECONSTRUCT, "all", snapshot=name) == [CLIPS[0]]
    assert not of[Stage.EVALUATE].names("r0", None)
    with pytest.raises(CatalogError, match="no snapshot 'f00'"):
        Selection.of(ws, Stage.CURATE, "all", None, Selector(snapshot="f00"))
