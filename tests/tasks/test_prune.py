"""Retention: what nobody needs goes, nothing is done again for it, and what then lacks says how to get it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from data_catalog import DROPPED, Workspace
from flows.acquire import _is_wanted
from flows.cli import app
from sage_core.acquisition.sources import expand
from sage_core.config import load_config
from sage_core.types import Judgement, Reason, Stage
from tasks import _inputs
from tasks._plan import (
    Selection,
    accepted_clips,
    plan_assemble,
    plan_curate,
    plan_reconstruct,
)
from tasks._unit import ChildOutcome, Outcome, judge
from tasks.curate import curate_video
from tasks.prune import prune, spare

CONFIG = load_config(
    overrides=[
        *("retention.videos=assembled", "retention.models=assembled"),
        "retention.checkpoints=finished",
    ]
)
KEPT_CLIP, LOST_CLIP = "_000000_000010", "_000010_000020"


def _judge(ws, stage, item, inputs_hash, outcome, parent=None):
    return judge(
        ws,
        item=item,
        stage=stage,
        source="a.mp4",
        parent=parent,
        config=CONFIG,
        input_hash=inputs_hash,
        run="r1",
        work=lambda: outcome,
    )


def _file(ws, path, size=1000):
    return ws.store.write_bytes(path, bytes(size))


def acquired(ws, video):
    """The verdict on a local file that is there."""
    original = ws.root.parent / f"{video}.mp4"
    original.write_bytes(bytes(1000))
    (source,) = expand([str(original)], lambda _: None)
    copy = _file(ws, f"videos/{source.item}/source.mp4")
    outcome = Outcome(Judgement.accept(), {"video": copy}, {"asked": source.to_json()})
    _judge(ws, Stage.ACQUIRE, source.item, source.input_hash, outcome)
    return source


def curated(ws, video, judgement=None):
    clips = [
        ChildOutcome(video + end, made, {}, {"clip": {"item": video + end}})
        for end, made in ((KEPT_CLIP, Judgement.accept()), (LOST_CLIP, _rejection()))
    ]
    outcome = Outcome(judgement or Judgement.accept(), {}, {}, [] if judgement else clips)
    _judge(ws, Stage.CURATE, video, _inputs.curate_inputs(ws, video).hash, outcome)


def _rejection():
    return Judgement.reject(Reason.STATIC_CAMERA, "it stands")


def reconstructed(ws, video):
    clip = video + KEPT_CLIP
    model = {"model": _file(ws, f"sfm/{clip}")}
    inputs = _inputs.reconstruct_inputs(ws, clip)
    _judge(ws, Stage.RECONSTRUCT, clip, inputs.hash, Outcome(Judgement.accept(), model), video)


def assembled(ws, video, judgement=None):
    clip = video + KEPT_CLIP
    inputs = _inputs.assemble_inputs(ws, clip)
    outcome = Outcome(judgement or Judgement.accept())
    _judge(ws, Stage.ASSEMBLE, clip, inputs.hash, outcome, video)


@pytest.fixture
def ws(tmp_path):
    return Workspace.open(tmp_path / "ws")


def finished(ws, name="a"):
    source = acquired(ws, name)
    curated(ws, source.item)
    reconstructed(ws, source.item)
    assembled(ws, source.item)
    return source


def missing(ws, config=CONFIG):
    plans = (plan_curate, plan_reconstruct, plan_assemble)
    return [inputs.item for plan in plans for inputs in plan(ws, config, Selection()).missing]


def test_only_what_is_finished_goes(ws):
    done, rejected = finished(ws), acquired(ws, "rejected")
    curated(ws, rejected.item, _rejection())
    busy, failed, waiting = (acquired(ws, name) for name in ("busy", "failed", "waiting"))
    for source in (busy, failed):
        curated(ws, source.item)
        reconstructed(ws, source.item)
    assembled(ws, failed.item, Judgement.fail(Reason.DISK_FULL, "full", retryable=True))
    assert waiting.item in missing(ws)
    assert {(one.item, one.what) for one in spare(ws, CONFIG)} == {
        (done.item, "video"),
        (rejected.item, "video"),
        (done.item + KEPT_CLIP, "model"),
    }
    assert spare(ws, load_config()) == []


def test_what_was_dropped_is_not_done_again_and_can_be_brought_back(ws):
    source = finished(ws)
    clips, before = accepted_clips(ws), ws.catalog.find(source.item, "acquire")
    freed = prune(ws, spare(ws, CONFIG), "r2")
    assert freed == 2000
    assert not ws.store.exists(before.artifacts["video"].path)
    assert ws.catalog.find(source.item, "acquire").details[DROPPED].keys() == {"video"}
    assert spare(ws, CONFIG) == []
    assert missing(ws) == []
    assert accepted_clips(ws) == clips
    current = CONFIG.stage_hash(Stage.ACQUIRE)
    assert not _is_wanted(ws, source, current, Selection())
    # New settings leave the verdict as it is, and tell how to get another one.
    other = load_config(overrides=["curate.min_travel=0.5", "assemble.jpeg_quality=50"])
    plan = plan_curate(ws, other, Selection())
    assert plan.missing == []
    (told,) = plan.kept
    assert "was dropped by retention (20" in told
    assert f"`sage acquire --retry all --item {source.item}` brings it back" in told
    (told,) = plan_assemble(ws, other, Selection()).kept
    assert "sage acquire --retry all" in told
    assert plan_curate(ws, other, Selection(), stored=True).missing != []
    # Asked for, it is fetched again, and all is as before.
    again = Selection.of(ws, Stage.ACQUIRE, "all", [source.item])
    assert _is_wanted(ws, source, current, again)
    copy = _file(ws, before.artifacts["video"].path)
    outcome = Outcome(Judgement.accept(), {"video": copy}, {"asked": source.to_json()})
    _judge(ws, Stage.ACQUIRE, source.item, source.input_hash, outcome)
    assert plan_curate(ws, other, Selection()).kept == []
    assert [inputs.item for inputs in plan_curate(ws, other, Selection()).missing] == [source.item]


def test_an_item_that_was_never_judged_fails_and_says_what_lacks(ws):
    source = acquired(ws, "a")
    ws.store.remove(f"videos/{source.item}")
    answer = curate_video.fn(str(ws.root), source.item, CONFIG, "r1")
    assert (answer["verdict"], answer["reason"]) == ("failed", "missing_input")
    assert "is missing or not as recorded" in answer["message"]


def test_killed_between_mark_and_removal_the_next_time_removes_it(ws, monkeypatch):
    source = finished(ws)
    spares = spare(ws, CONFIG)
    with monkeypatch.context() as patch:
        patch.setattr(ws.store.__class__, "remove", lambda *_: None)
        prune(ws, spares, "killed")
    attempt = ws.catalog.find(source.item, "acquire").attempt
    assert spare(ws, CONFIG) == spares
    prune(ws, spares, "after")
    assert spare(ws, CONFIG) == []
    assert ws.catalog.find(source.item, "acquire").attempt == attempt


def test_the_commands_say_what_they_did(ws):
    source = finished(ws)
    _judge(ws, Stage.ADAPT, "r1", "x", Outcome(Judgement.accept()))
    _file(ws, "runs/r1/checkpoints/step_1/model.safetensors")

    def command(*words):
        done = CliRunner().invoke(app, [*words, "-w", str(ws.root)])
        assert done.exit_code == 0, done.stderr
        return done.stdout

    sets = ("--set", "retention.videos=assembled", "--set", "retention.checkpoints=finished")
    assert "retention keeps everything" in command("prune")
    found = json.loads(command("prune", "--dry-run", "--json", *sets))
    assert [(one["stage"], one["artifact"]) for one in found] == [
        ("acquire", "video"),
        ("adapt", None),
    ]
    assert Path(ws.root / "videos" / source.item / "source.mp4").exists()
    assert "are free" in command("prune", *sets)
    assert not Path(ws.root / "videos" / source.item / "source.mp4").exists()
    assert not (ws.root / "runs/r1/checkpoints").exists()
    assert json.loads(command("compact", "--json"))["removed"] == []
    with ws.catalog.lease("curate", "a night"):
        done = CliRunner().invoke(app, ["prune", "-w", str(ws.root), *sets])
    assert done.exit_code == 1
    assert "is being run by a night" in " ".join(done.stderr.split())
