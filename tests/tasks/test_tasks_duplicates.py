"""Copies in a workspace: the better one is kept whatever came first, and every change can be taken back."""

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from data_catalog import StageEvent, Workspace, views
from flows._duplicates import settled, settled_before
from flows._summary import StageSummary
from sage_core.config import SageConfig
from sage_core.config.duplicates import DuplicatesConfig
from sage_core.errors import SageError
from sage_core.fingerprints import Recorder
from sage_core.types import Clip, Judgement, Reason, Stage
from tasks._inputs import curate_inputs
from tasks._plan import Selection, accepted_clips, plan_curate, plan_reconstruct
from tasks._unit import ChildOutcome, Outcome, judge
from tasks.duplicates import LINKS_FILE, settle_duplicates

CONFIG = DuplicatesConfig()
ALL = SageConfig()
FRAMES, FPS = 60, 5


def film(seed):
    """Something that changes all the time: a slide over blobs, grey."""
    rng = np.random.default_rng(seed)
    wide = cv2.resize(rng.integers(0, 255, (12, 120)).astype(np.uint8), (2400, 240))
    return [wide[:, 16 * t : 16 * t + 320] for t in range(FRAMES)]


def mined(ws, video, pictures, width=640, size=1000, start_s=0.0):
    """What acquire and curate record of a video with one good clip, with its real fingerprint."""
    recorder = Recorder()
    for t, picture in enumerate(pictures):
        recorder.add(start_s + t / FPS, picture)
    with ws.store.scratch() as area:
        (area / "source.mp4").write_bytes(video.encode() + bytes(size))
        source = ws.store.publish(area / "source.mp4", f"videos/{video}/source.mp4")
        recorder.fingerprint().write(area / "fingerprint.npz")
        printed = ws.store.publish(area / "fingerprint.npz", f"clips/{video}/fingerprint.npz")
    seconds = start_s + len(pictures) / FPS
    clip = Clip(
        f"{video}_000000", video, 0, 1800, start_s, seconds, 30.0, width, 480, [0], [0], [0.0]
    )
    common = {"item": video, "source": f"{video}.mp4", "parent": None, "config": ALL, "run": "r"}
    judge(
        ws, stage=Stage.ACQUIRE, input_hash="x",
        work=lambda: Outcome(Judgement.accept(), {"video": source}), **common,
    )  # fmt: skip
    child = ChildOutcome(clip.item, Judgement.accept(), {}, {"clip": clip.to_json()})
    judge(
        ws, stage=Stage.CURATE, input_hash=curate_inputs(ws, video).hash,
        work=lambda: Outcome(Judgement.accept(), {"fingerprint": printed}, {}, [child]), **common,
    )  # fmt: skip
    return clip.item


@pytest.fixture
def ws(tmp_path):
    return Workspace.open(tmp_path / "ws")


def test_the_larger_copy_is_kept_though_it_came_later(ws):
    pictures = film(1)
    small = mined(ws, "va", pictures)
    other = mined(ws, "vb", film(2))
    assert settle_duplicates(ws, CONFIG, "r1") == []
    large = mined(ws, "vc", [p[10:-20, ::-1][:, 20:] for p in pictures], width=1280)
    (event,) = settle_duplicates(ws, CONFIG, "r2")
    assert (event.item, event.verdict, event.reason) == (small, "rejected", Reason.DUPLICATE)
    assert (event.attempt, event.run) == (2, "r2")
    assert event.figures["duplicate_of"]["value"] == large
    assert event.figures["duplicate_share"]["value"] > 0.9
    assert event.figures["duplicate_mirrored"]["value"] is True
    assert f"{large} shows" in event.message
    assert accepted_clips(ws) == [other, large]
    assert [i.item for i in plan_reconstruct(ws, ALL, Selection()).missing] == [other, large]
    assert plan_curate(ws, ALL, Selection()).missing == []


def test_settling_again_records_nothing_and_reads_nothing_again(ws):
    mined(ws, "va", film(1))
    mined(ws, "vb", film(1))
    assert len(settle_duplicates(ws, CONFIG, "r1")) == 1
    before = ws.catalog.frame(all=True)
    shutil.rmtree(ws.root / "clips/va")
    assert settle_duplicates(ws, CONFIG, "r2") == []
    assert ws.catalog.frame(all=True).equals(before)
    (ws.root / LINKS_FILE).unlink()
    with pytest.raises(SageError, match=r"clips/va/fingerprint.npz is missing"):
        settle_duplicates(ws, CONFIG, "r3")


def test_any_order_of_arrival_and_settling_ends_the_same(tmp_path):
    videos = {"va": (film(1), 900), "vb": (film(1)[5:], 2000), "vc": (film(1)[:50], 1500)}
    states = []
    for number, order in enumerate((("va", "vb", "vc"), ("vc", "va", "vb"), ("vb", "vc", "va"))):
        ws = Workspace.open(tmp_path / f"ws{number}")
        for video in order:
            mined(ws, video, videos[video][0], size=videos[video][1])
            if number:
                settle_duplicates(ws, CONFIG, "r")
        settle_duplicates(ws, CONFIG, "r")
        assert len(accepted_clips(ws)) == 1
        states.append(views.canonical(ws))
    assert states[0] == states[1] == states[2]


def test_what_is_no_copy_any_more_is_taken_back(ws):
    first = mined(ws, "va", film(1))
    second = mined(ws, "vb", film(1))
    clean = ws.catalog.find(second, "curate")
    settle_duplicates(ws, CONFIG, "r1")
    assert accepted_clips(ws) == [first]
    lenient = CONFIG.model_copy(update={"max_share": 1.0})
    (event,) = settle_duplicates(ws, lenient, "r2")
    assert replace(event, **circumstances(clean)) == clean
    assert len(settle_duplicates(ws, CONFIG, "r3")) == 1
    assert len(settle_duplicates(ws, CONFIG.model_copy(update={"enabled": False}), "r4")) == 1
    settle_duplicates(ws, CONFIG, "r5")
    gone = ws.catalog.find("va", "acquire")
    ws.catalog.append([replace(gone, verdict="failed", reason="truncated", attempt=2)])
    assert accepted_clips(ws) == []
    settle_duplicates(ws, CONFIG, "r6")
    assert accepted_clips(ws) == [second]


def circumstances(event: StageEvent):
    return {name: getattr(event, name) for name in ("attempt", "sequence", "time", "run")}


def test_a_clip_without_a_fingerprint_is_compared_with_none(ws):
    mined(ws, "va", film(1))
    old = mined(ws, "vb", film(1))
    event = ws.catalog.find("vb", "curate")
    ws.catalog.append([replace(event, artifacts={}, attempt=2)])
    assert settle_duplicates(ws, CONFIG, "r") == []
    assert old in accepted_clips(ws)


def test_reconstruct_settles_what_a_killed_curate_left_unless_one_is_under_way(ws, capsys):
    mined(ws, "va", film(1))
    copy = mined(ws, "vb", film(1))
    with Workspace.open(ws.root).catalog.lease("curate", "another run"):
        settled_before(ws, ALL, "r1")
    assert copy in accepted_clips(ws)
    settled_before(ws, ALL, "r2")
    assert copy not in accepted_clips(ws)
    with ws.catalog.lease("curate", "next"):
        summary = settled(ws, ALL, "r3", StageSummary("curate"))
    assert summary.broken == []
    shutil.rmtree(ws.root / "clips")
    summary = settled(ws, ALL, "r4", StageSummary("curate"))
    assert "fingerprint.npz is missing" in summary.broken[0]
    settled_before(ws, ALL, "r5")
    said = " ".join(capsys.readouterr().err.split())
    assert "left to the run of curate" in said
    assert "not settled" in said
