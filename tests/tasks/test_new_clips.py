"""What a night's training takes: a frozen snapshot, no held-out clip, enough that is new; from what."""

from data_catalog import StageEvent, Workspace
from sage_core.config import load_config
from sage_core.types import Stage
from tasks.adapt import adapt_inputs, too_few_new
from tasks.freeze import freeze
from tasks.latest import Promoted, make_latest


def config(*overrides):
    return load_config(overrides=["adapt.base=mini", *overrides])


def assemble(ws, *videos):
    """A clip of each video, in a shard of its own, as the stages leave them."""
    for video in videos:
        clip = f"{video}-c"
        common = {"verdict": "accepted", "source": f"{video}.mp4"}
        shard = {
            name: ws.store.write_bytes(f"shards/{name}-{video}.parquet", video.encode())
            for name in ("frames", "clips")
        }
        ws.catalog.append(
            [
                StageEvent(item=video, stage="acquire", **common),
                StageEvent(item=video, stage="curate", details={"children": [clip]}, **common),
                StageEvent(item=clip, stage="curate", parent=video, **common),
                StageEvent(item=clip, stage="assemble", parent=video, artifacts=shard, **common),
            ]
        )
    return ws


def clips_of(inputs):
    return {clip for part in inputs.parts.values() for clip in part}


def promote_run_on(ws, inputs):
    weights = ws.store.write_bytes("runs/r1/model.safetensors", b"adapted")
    event = StageEvent(
        item="r1",
        stage=Stage.ADAPT.value,
        verdict="accepted",
        source="mini",
        artifacts={"checkpoint": weights},
        details={"snapshot": inputs.snapshot},
    )
    make_latest(ws, Promoted.of(event, {}))


def test_the_night_freezes_all_and_trains_on_all_but_the_held_out(tmp_path):
    ws = assemble(Workspace.open(tmp_path / "ws"), *(f"v{n}" for n in range(20)))
    half = config("adapt.held_out_share=0.5")
    inputs = adapt_inputs(ws, half, freeze(ws))
    assert 0 < len(clips_of(inputs)) < 20
    assert ws.catalog.load_snapshot(inputs.snapshot).parent == freeze(ws)
    more = clips_of(adapt_inputs(ws, config("adapt.held_out_share=0.2")))
    assert clips_of(inputs) < more, "a smaller share holds out a part of the same clips"
    assert adapt_inputs(ws, half).item == inputs.item, "alone it is the same run"
    kept = {c for c in (f"v{n}-c" for n in range(20)) if c not in clips_of(inputs)}
    assert all(half.adapt.holds_out(c, c.removesuffix("-c"), "") for c in kept)


def test_a_new_clip_that_is_held_out_trains_nothing_anew(tmp_path):
    ws = assemble(Workspace.open(tmp_path / "ws"), "v1", "v2")
    settings = config("adapt.held_out=[v3]")
    before = adapt_inputs(ws, settings)
    assemble(ws, "v3")
    after = adapt_inputs(ws, settings)
    assert after.item == before.item
    assert adapt_inputs(ws, config()).item != before.item


def test_nothing_begins_below_the_new_clips_that_are_wanted(tmp_path):
    ws = assemble(Workspace.open(tmp_path / "ws"), "v1", "v2")
    three = config("adapt.min_new_clips=3")
    first = adapt_inputs(ws, three)
    assert first.new_clips == 2
    assert "2 new clips in all, and adapt.min_new_clips wants 3" in too_few_new(first, ws, three)
    promote_run_on(ws, first)
    assert too_few_new(adapt_inputs(ws, config()), ws, config()) is None, "none are wanted"
    assemble(ws, "v3")
    later = adapt_inputs(ws, three)
    assert later.new_clips == 1
    assert "since latest (r1)" in too_few_new(later, ws, three)
    assemble(ws, "v4", "v5")
    assert too_few_new(adapt_inputs(ws, three), ws, three) is None


def test_from_latest_its_weights_are_the_base_and_something_must_be_new(tmp_path):
    ws = assemble(Workspace.open(tmp_path / "ws"), "v1", "v2")
    onwards = config("adapt.start=latest")
    first = adapt_inputs(ws, onwards)
    assert first.base == "mini", "until there is one"
    promote_run_on(ws, first)
    again = adapt_inputs(ws, onwards)
    assert again.base == str(ws.store.path("runs/r1/model.safetensors"))
    assert again.item != first.item
    assert too_few_new(again, ws, onwards)
    assemble(ws, "v3")
    assert too_few_new(adapt_inputs(ws, onwards), ws, onwards) is None
