"""The task: a verdict on the video and its clips in one commit, files in place, nothing half done."""

import subprocess
from dataclasses import replace

import imageio_ffmpeg
import pytest

from data_catalog import Workspace
from sage_core import sandbox
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.types import Judgement, Reason, Stage
from tasks._inputs import reconstruct_inputs
from tasks._plan import Selection, accepted_clips, plan_curate
from tasks._unit import Outcome, judge
from tasks.curate import curate_video, redecide_video

ITEM = "v0123456789abcdef"


@pytest.fixture
def config() -> SageConfig:
    curate = {"min_duration_s": 2, "min_clip_s": 2, "min_short_side_px": 100}
    return SageConfig.model_validate({"curate": curate})


def acquired(root, config, source: str) -> Workspace:
    """A workspace with one accepted video, drawn by ffmpeg's own source of that name."""
    ws = Workspace.open(root / "ws")
    ffmpeg = imageio_ffmpeg.get_ffmpeg_exe()
    with ws.store.scratch() as area:
        path = area / "source.mp4"
        command = [ffmpeg, "-loglevel", "error", "-f", "lavfi", "-i", source, "-pix_fmt", "yuv420p"]
        subprocess.run([*command, str(path)], check=True)
        video = ws.store.publish(path, f"videos/{ITEM}/source.mp4")
    judge(
        ws,
        item=ITEM,
        stage=Stage.ACQUIRE,
        source=source,
        parent=None,
        config=config,
        input_hash="x",
        run="r1",
        work=lambda: Outcome(Judgement.accept(), {"video": video}),
    )
    return ws


def test_a_still_video_is_judged_with_its_clip(tmp_path, config):
    ws = acquired(tmp_path, config, "testsrc2=size=320x240:rate=30:duration=3")
    answer = curate_video.fn(str(ws.root), ITEM, config, "r1")
    assert answer["verdict"] == "rejected"
    event = ws.catalog.find(ITEM, "curate")
    assert ws.store.verify(event.artifacts["curation"], deep=True)
    assert ws.store.verify(event.artifacts["contact"], deep=True)
    clips = ws.catalog.latest("curate", parent=ITEM)
    assert [clip.item for clip in clips] == event.details["children"]
    for clip in clips:
        assert clip.reason
        assert clip.figures["travel_per_10s"]["threshold"] == config.curate.min_travel
        assert clip.details["clip"]["video"] == ITEM
    assert accepted_clips(ws) == []
    assert plan_curate(ws, config, Selection()).missing == []


def test_thresholds_change_the_verdict_and_the_plan(tmp_path, config):
    ws = acquired(tmp_path, config, "testsrc2=size=320x240:rate=30:duration=3")
    curate_video.fn(str(ws.root), ITEM, config, "r1")
    config = loosened(config)
    assert len(plan_curate(ws, config, Selection()).missing) == 1
    assert curate_video.fn(str(ws.root), ITEM, config, "r2")["verdict"] == "accepted"
    clip = accepted_clips(ws)[0]
    assert reconstruct_inputs(ws, clip).details["clip"]["item"] == clip


FILM = "testsrc2=size=320x240:rate=30:duration=3"


def loosened(config: SageConfig) -> SageConfig:
    """Settings that wave the test picture through."""
    loose = {
        "max_frozen_share": 1, "max_flat_share": 1, "max_clipped_share": 1, "min_sharpness": 0,
        "min_travel": 0, "min_rigid_share": 0, "max_moving_share": 1, "min_parallax_share": 0,
        "max_lost_share": 1, "max_overlay_share": 1,
    }  # fmt: skip
    curate = {**config.curate.model_dump(), **loose}
    return SageConfig.model_validate({**config.model_dump(), "curate": curate})


def files_of(ws: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in ws.store.path(f"clips/{ITEM}").iterdir()}


def said(ws: Workspace) -> dict[str, tuple[object, ...]]:
    """What the latest events say, apart from attempt, cost and provenance."""
    return {
        e.item: (
            e.verdict,
            e.reason,
            e.message,
            e.figures,
            e.artifacts,
            e.config_hash,
            e.input_hash,
        )
        for e in ws.catalog.latest("curate")
    }


def no_children(monkeypatch) -> None:
    def refused(*_, **__):
        raise AssertionError("a child process was started")

    monkeypatch.setattr(sandbox, "call", refused)


def test_redeciding_gives_what_a_fresh_curation_gives_without_the_file(
    tmp_path, config, monkeypatch
):
    old = acquired(tmp_path / "old", config, FILM)
    new = acquired(tmp_path / "new", config, FILM)
    other = loosened(config)
    assert curate_video.fn(str(old.root), ITEM, config, "r1")["verdict"] == "rejected"
    assert curate_video.fn(str(new.root), ITEM, other, "r1")["verdict"] == "accepted"
    old.store.remove(f"videos/{ITEM}")
    no_children(monkeypatch)
    assert [inputs.item for inputs in plan_curate(old, other, Selection()).missing] == [ITEM]
    assert redecide_video.fn(str(old.root), ITEM, other, "r2")["verdict"] == "accepted"
    assert files_of(old) == files_of(new)
    assert said(old) == said(new)
    event = old.catalog.find(ITEM, "curate")
    assert (event.attempt, event.run, event.details["redecided"]) == (2, "r2", True)
    assert plan_curate(old, other, Selection()).missing == []
    assert redecide_video.fn(str(old.root), ITEM, config, "r3")["verdict"] == "rejected"


def test_what_the_header_now_rejects_can_be_taken_back(tmp_path, config, monkeypatch):
    ws = acquired(tmp_path, config, FILM)
    curate_video.fn(str(ws.root), ITEM, config, "r1")
    before = files_of(ws)
    no_children(monkeypatch)
    large = {"curate": config.curate.model_copy(update={"min_short_side_px": 480})}
    redecide_video.fn(str(ws.root), ITEM, config.model_copy(update=large), "r2")
    assert ws.catalog.find(ITEM, "curate").reason == Reason.RESOLUTION
    redecide_video.fn(str(ws.root), ITEM, config, "r3")
    assert files_of(ws) == before


def rewritten(ws: Workspace, **changed) -> None:
    """The stored curation with other contents, recorded as if it had been curated so."""
    path = f"clips/{ITEM}/curation.json"
    event = ws.catalog.find(ITEM, "curate")
    artifact = ws.store.write_json(path, {**ws.store.read_json(path), **changed})
    ws.catalog.append([replace(event, artifacts={**event.artifacts, "curation": artifact})])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda ws: rewritten(ws, format=1), "are in format 1"),
        (lambda ws: rewritten(ws, measured={"version": 1}), "were measured as {'version': 1}"),
        (
            lambda ws: rewritten(ws, glances=None, scores=None),
            "are missing: its header rejected it",
        ),
        (lambda ws: rewritten(ws, scores=None), "are missing: its key frames rejected it"),
        (lambda ws: ws.store.remove(f"clips/{ITEM}/curation.json"), "missing or not as recorded"),
        (
            lambda ws: ws.catalog.append(
                [replace(ws.catalog.find(ITEM, "curate"), input_hash="another")]
            ),
            "of another file",
        ),
        (
            lambda ws: ws.catalog.append([replace(ws.catalog.find(ITEM, "curate"), artifacts={})]),
            "has no stored scores",
        ),
    ],
)
def test_scores_that_will_not_do_are_named_and_leave_the_verdict(tmp_path, config, spoil, words):
    ws = acquired(tmp_path, config, FILM)
    curate_video.fn(str(ws.root), ITEM, config, "r1")
    spoil(ws)
    before = ws.catalog.frame(all=True)
    with pytest.raises(SageError) as caught:
        redecide_video.fn(str(ws.root), ITEM, loosened(config), "r2")
    assert words in str(caught.value)
    assert ITEM in str(caught.value)
    assert caught.value.reason is Reason.MISSING_INPUT
    assert ws.catalog.frame(all=True).equals(before)


def test_a_damaged_video_fails_and_says_why(tmp_path, config):
    ws = acquired(tmp_path, config, "testsrc2=size=320x240:rate=30:duration=3")
    path = ws.store.path(f"videos/{ITEM}/source.mp4")
    data = bytearray(path.read_bytes())
    data[2_000:-4_000] = b"\xa5" * (len(data) - 6_000)
    path.write_bytes(bytes(data))
    answer = curate_video.fn(str(ws.root), ITEM, config, "r1")
    event = ws.catalog.find(ITEM, "curate")
    assert answer["verdict"] == "failed"
    assert event.reason in (Reason.DECODE_ERROR, Reason.TRUNCATED, Reason.UNREADABLE)
    assert not event.retryable
    assert not event.artifacts
