"""A stage at rest: the plan of a night without news reads no event, and misses nothing that has changed."""

import shutil
from dataclasses import replace

import pytest

from data_catalog import DROPPED, StageEvent, Workspace
from sage_core.config import load_config
from sage_core.types import Clip, Reason, Stage
from tasks._inputs import curate_inputs, reconstruct_inputs
from tasks._plan import Retry, Selection, Selector, plan_curate, plan_reconstruct
from tasks.freeze import freeze

CONFIG = load_config()
ALL = Selection()
VIDEOS = ("v1", "v2", "v3")


def clip_of(video):
    return Clip(video, f"{video}-c", 0, 1, 0.0, 1.0, 64, 48, (0, 10, 20), True).to_json()


def judged(ws, item, stage, inputs=None, **more):
    fields = {
        "verdict": "accepted",
        "source": f"{item}.mp4",
        "attempt": ws.catalog.next_attempt(item, stage),
    }
    if inputs is not None:
        fields |= {"input_hash": inputs.hash, "config_hash": CONFIG.stage_hash(Stage(stage))}
    ws.catalog.append([StageEvent(item=item, stage=stage, **{**fields, **more})])


@pytest.fixture
def ws(tmp_path):
    """Three videos, of which all was done: fetched, curated, each one's clip reconstructed."""
    ws = Workspace.open(tmp_path / "ws")
    for video in VIDEOS:
        media = ws.store.write_bytes(f"videos/{video}/source.mp4", video.encode())
        judged(ws, video, "acquire", artifacts={"video": media})
        sheet = ws.store.write_bytes(f"clips/{video}/contact.jpg", b"jpeg")
        found = {"children": [f"{video}-c"]}
        judged(
            ws,
            video,
            "curate",
            curate_inputs(ws, video),
            artifacts={"contact": sheet},
            details=found,
        )
        clip = {"clip": {"item": f"{video}-c", "frames": [0, 10, 20]}}
        judged(ws, f"{video}-c", "curate", parent=video, details=clip)
        with ws.store.scratch() as area:
            (area / "model").mkdir()
            (area / "model" / "points.bin").write_bytes(b"points")
            model = ws.store.publish(area / "model", f"sfm/{video}-c")
        inputs = reconstruct_inputs(ws, f"{video}-c")
        judged(ws, f"{video}-c", "reconstruct", inputs, parent=video, artifacts={"model": model})
    return ws


def another(ws):
    """The workspace as another process has it, which has read nothing."""
    return Workspace(ws.root)


def planned(ws, plan=plan_reconstruct, config=CONFIG, selection=ALL):
    """What is missing, how many are done, and whether the log was read for it."""
    fresh = another(ws)
    found = plan(fresh, config, selection)
    read = any(log.latest for log in fresh.catalog._logs.values())
    return [i.item for i in found.missing], found.done, read


def test_the_second_plan_reads_no_event(ws):
    for plan in (plan_curate, plan_reconstruct):
        assert planned(ws, plan) == ([], 3, True)
        assert planned(ws, plan) == ([], 3, False)


def test_what_has_a_hole_is_planned_again(ws):
    assert planned(ws) == ([], 3, True)
    shutil.rmtree(ws.root / "sfm/v2-c")
    assert planned(ws) == (["v2-c"], 2, True)
    (ws.root / "clips/v3/contact.jpg").write_bytes(b"cut")
    assert planned(ws, plan_curate) == (["v3"], 2, True)


def test_nothing_is_kept_of_a_plan_that_finds_work(ws):
    shutil.rmtree(ws.root / "sfm/v2-c")
    for _ in range(2):
        assert planned(ws) == (["v2-c"], 2, True)


def test_news_at_an_earlier_stage_are_seen(ws):
    planned(ws)
    media = ws.store.write_bytes("videos/v1/source.mp4", b"another film")
    judged(ws, "v1", "acquire", artifacts={"video": media})
    assert planned(ws) == (["v1-c"], 2, True)


def test_other_settings_and_other_wishes_are_not_what_was_asked(ws):
    planned(ws)
    stricter = load_config(overrides=["reconstruct.gate.min_registered_share=0.99"])
    assert planned(ws, config=stricter)[0] == ["v1-c", "v2-c", "v3-c"]
    assert len(planned(ws, selection=Selection(retry=Retry.ALL))[0]) == 3
    assert planned(ws, selection=Selection(scopes=(frozenset({"v1"}),))) == ([], 1, True)
    wish = Selector(reasons=(Reason.BLURRED,))
    assert planned(ws, selection=Selection.of(ws, Stage.RECONSTRUCT, "missing", None, wish))[1] == 0
    assert planned(ws) == ([], 3, False)


def test_what_was_dropped_on_purpose_is_not_missed(ws):
    event = ws.catalog.find("v1-c", "reconstruct")
    dropped = {**event.details, DROPPED: {"model": "2026-01-01"}}
    ws.catalog.append([replace(event, attempt=2, details=dropped)])
    ws.store.remove("sfm/v1-c")
    assert planned(ws) == ([], 3, True)
    assert planned(ws) == ([], 3, False)


def test_the_same_snapshot_is_found_again_unless_a_shard_is_gone(ws):
    for video in VIDEOS:
        shard = {
            n: ws.store.write_bytes(f"shards/{n}-{video}.parquet", b"x")
            for n in ("frames", "clips")
        }
        judged(ws, f"{video}-c", "assemble", parent=video, artifacts=shard)
    name = freeze(another(ws))
    again = another(ws)
    assert freeze(again) == name
    assert not again.catalog._logs["assemble"].latest
    (ws.root / f"catalog/snapshots/{name}.json").unlink()
    assert freeze(another(ws)) == name, "frozen again"
    ws.store.remove("shards/frames-v1.parquet")
    with pytest.raises(Exception, match=r"frames-v1.parquet is missing"):
        freeze(another(ws))
