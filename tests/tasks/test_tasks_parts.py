"""A clip in which two worlds were spliced unnoticed: two parts, two models, two clips in the shard."""

import shutil
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "sage_core" / "sfm"))
import box_room

from data_catalog import StageEvent, Workspace
from sage_core.config import load_config
from sage_core.sfm import load_clip_model
from sage_core.shards import ShardReader
from tasks._plan import Selection, plan_assemble, plan_reconstruct, reconstructed_clips
from tasks.assemble import assemble_shard
from tasks.reconstruct import reconstruct_clip

FIRST, SECOND = 13, 11
VIDEO = "v00000000000000cc"
CONFIG = load_config(
    overrides=[
        "reconstruct.gate.min_part_key_frames=8",
        "reconstruct.gate.min_part_s=1",
        "assemble.long_side_px=200",
        "assemble.candidates=8",
        "assemble.anchors.min_angle_deg=2",
        "assemble.sampling.n_context=2",
        "assemble.sampling.interval_frames=6",
        "assemble.sampling.jitter_frames=1",
    ]
)


@pytest.fixture(scope="module")
def spliced(tmp_path_factory):
    ws = Workspace.open(tmp_path_factory.mktemp("ws"))
    clip = box_room.make_clip(FIRST + SECOND, 1, 1, item=f"{VIDEO}_000000_{FIRST + SECOND:06d}")
    with ws.store.scratch() as area:
        folder = box_room.photograph(area / "film", box_room.walk(FIRST))
        other = box_room.photograph(area / "other", box_room.walk(FIRST)[:SECOND], seed=7)
        for frame in range(SECOND):
            shutil.move(other / f"{frame:04d}.png", folder / f"{FIRST + frame:04d}.png")
        media = ws.store.publish(folder, f"videos/{VIDEO}/images")
    common = {"verdict": "accepted", "source": "a/folder"}
    details = {"clip": clip.to_json()}
    ws.catalog.append(
        [
            StageEvent(item=VIDEO, stage="acquire", artifacts={"video": media}, **common),
            StageEvent(item=VIDEO, stage="curate", details={"children": [clip.item]}, **common),
            StageEvent(item=clip.item, stage="curate", parent=VIDEO, details=details, **common),
        ]
    )
    reconstruct_clip.fn(str(ws.root), clip.item, CONFIG, "run-1")
    return ws, clip


def test_each_part_has_its_verdict_and_its_model(spliced):
    ws, clip = spliced
    event = ws.catalog.find(clip.item, "reconstruct")
    (further,) = event.details["children"]
    assert further == f"{VIDEO}_{FIRST:06d}_{FIRST + SECOND:06d}"
    assert (event.verdict, event.parent) == ("accepted", VIDEO)
    assert event.figures["parts"]["value"] == 2
    assert event.figures["kept_share"]["value"] == 1
    assert event.details["clip"]["key_frames"] == list(range(FIRST))
    part = ws.catalog.find(further, "reconstruct")
    assert (part.verdict, part.parent) == ("accepted", clip.item)
    assert part.figures["split_half_percent"]["value"] < 2
    for one, frames in ((event, range(FIRST)), (part, range(FIRST, FIRST + SECOND))):
        model = load_clip_model(ws.store.path(one.artifacts["model"].path))
        assert [posed.frame for posed in model.frames] == list(frames)
        images = ws.store.path(one.artifacts["model"].path) / "images"
        assert len(list(images.iterdir())) == len(frames)


def test_a_second_run_finds_both(spliced):
    ws, clip = spliced
    before = ws.catalog.find(clip.item, "reconstruct")
    reconstruct_clip.fn(str(ws.root), clip.item, CONFIG, "run-2")
    after = ws.catalog.find(clip.item, "reconstruct")
    assert "cpu_s" in before.details
    assert "cpu_s" not in after.details
    assert (after.artifacts, after.details["children"]) == (
        before.artifacts,
        before.details["children"],
    )
    assert plan_reconstruct(ws, CONFIG, Selection()).missing == []


def test_both_reach_the_shard_as_clips_of_their_own(spliced):
    ws, _ = spliced
    items = reconstructed_clips(ws)
    assert len(items) == 2
    assert [inputs.item for inputs in plan_assemble(ws, CONFIG, Selection()).missing] == items
    briefs = assemble_shard.fn(str(ws.root), items, CONFIG, "run-1")
    assert [one["message"] for one in briefs] == ["", ""]
    assert plan_assemble(ws, CONFIG, Selection()).missing == []
    event = ws.catalog.find(items[1], "assemble")
    assert event.parent == VIDEO
    reader = ShardReader([ws.store.path(event.artifacts["frames"].path)])
    assert sorted(reader.names) == items


def test_parts_go_with_the_verdict_that_made_them(spliced, tmp_path):
    ws, clip = spliced
    shutil.copytree(ws.root, tmp_path / "ws")
    ws = Workspace.open(tmp_path / "ws")
    strict = load_config(overrides=["reconstruct.gate.min_rotation_residual_px=1e6"])
    reconstruct_clip.fn(str(ws.root), clip.item, strict, "run-3")
    assert reconstructed_clips(ws) == []
    assert not list(ws.store.path("sfm").iterdir())
