"""Curves, bands and moments from the scores of a film that is made, measured and judged for real."""

import json
from dataclasses import asdict

import cv2
import numpy as np
import pytest

from sage_core import explain
from sage_core.config.curate import CurateConfig
from sage_core.mining import (
    CURATION_FILE,
    Kind,
    Measures,
    Timeline,
    curate_file,
    follow_corners,
)
from sage_core.types import Reason
from sage_core.world.videos import Effects, write_pictures

WIDTH, HEIGHT, FPS = 320, 240, 10
CONFIG = CurateConfig(min_duration_s=2, min_clip_s=2, min_short_side_px=200)


def leaves(seed, width=WIDTH + 200):
    rng = np.random.default_rng(seed)
    picture = np.zeros((HEIGHT, width, 3), np.uint8)
    for _ in range(900):
        centre = int(rng.integers(width)), int(rng.integers(HEIGHT))
        radius = int(min(90, 6 * rng.pareto(1.5) + 4))
        cv2.circle(picture, centre, radius, rng.integers(10, 245, 3).tolist(), -1)
    return picture


def sliding_then_still():
    """Four seconds past one far picture, as in a turn; a cut; three seconds before another."""
    wide, other = leaves(1), leaves(2, WIDTH)
    yield from (wide[:, 3 * t : 3 * t + WIDTH] for t in range(40))
    yield from [other] * 30


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("explained")
    film = folder / "film.mp4"
    write_pictures(sliding_then_still(), 70, film, FPS, (WIDTH, HEIGHT), Effects(), 0)
    curate_file(str(film), "video", CONFIG.model_dump(mode="json"), str(folder), "v" + "0" * 16)
    return json.loads((folder / CURATION_FILE).read_text()) | {"film": str(film)}


@pytest.fixture(scope="module")
def timeline(record):
    return Timeline(Measures.from_json(record["scores"]), CONFIG)


def test_bands_tell_shots_clips_and_camera(record, timeline):
    shots, clips, camera = explain.bands(timeline, record["clips"])
    assert [span.label for span in shots.spans] == ["shot 1", "shot 2", "cut"]
    assert shots.spans[2].start_s < 4.0 < shots.spans[2].end_s + 0.1
    assert [span.label for span in clips.spans] == ["rotation_only", "static_camera"]
    assert {span.label for span in camera.spans} >= {"turn", "still"}
    covered = sum(span.end_s - span.start_s for span in camera.spans)
    assert covered == pytest.approx(7.0, abs=0.2)


def test_the_curve_that_decides_comes_first(timeline):
    still = explain.curves(timeline, (4.2, 7), Reason.STATIC_CAMERA, ["travel_per_10s"])
    assert still[0].figure == "travel_per_10s"
    assert [curve.decides for curve in still[:2]] == [True, False]
    late = still[0].times_s > 4.6
    assert np.nanmax(still[0].values[late]) < still[0].threshold == CONFIG.min_travel
    assert np.nanmin(still[0].values[still[0].times_s < 3.6]) > still[0].threshold


def test_of_missing_parallax_the_curve_of_what_the_camera_does_instead_decides(timeline):
    turn = explain.curves(timeline, (0, 3.8), Reason.ROTATION_ONLY, ["parallax_share"])
    still = explain.curves(timeline, (4.2, 7), Reason.STATIC_CAMERA, ["parallax_share"])
    assert next(c for c in turn if c.decides).figure == "turning_share"
    assert next(c for c in still if c.decides).figure == "travel_per_10s"


def test_every_figure_with_a_curve_reads_the_threshold_that_it_is_judged_by(record, timeline):
    """Scores that are medians or means of a series must be drawn against the figure's own limit."""
    figures = record["clips"][0]["judgement"]["figures"]
    drawn = {c.figure: c for c in explain.curves(timeline, (0, 4), None, list(figures))}
    for name in ("sharpness", "rigid_share", "moving_share", "clipped_share", "textureless_share"):
        assert drawn[name].threshold == figures[name]["threshold"]
        assert drawn[name].rule == figures[name]["rule"]


def test_the_moment_lies_in_the_span_and_shows_its_kind(timeline):
    turn = explain.telling_moment(timeline, 0, 3.9, Reason.ROTATION_ONLY)
    still = explain.telling_moment(timeline, 4.2, 7, Reason.STATIC_CAMERA)
    assert turn.kind is Kind.TURNING
    assert turn.frames[-1] < 40
    assert still.kind is Kind.STILL
    assert still.frames[0] >= 40
    assert explain.telling_moment(timeline, 100, 110, None) is None


def test_tracks_of_the_decoded_moment_follow_the_slide(record, timeline, tmp_path):
    moment = explain.telling_moment(timeline, 0, 3.9, Reason.ROTATION_ONLY)
    written = explain.decode_frames(record["film"], moment.frames, None, str(tmp_path))
    assert [one["frame"] for one in written] == moment.frames
    found = explain.evidence([explain.read_picture(one["file"]) for one in written], moment)
    way = found.tracks.paths[:, -1] - found.tracks.paths[:, 0]
    slid = 3 * (moment.frames[-1] - moment.frames[0])
    assert np.median(way, axis=0) == pytest.approx((-slid, 0), abs=1)
    assert found.tracks.odd.mean() < 0.05
    assert found.plain == "a turn explains it"


def test_a_corner_that_goes_its_own_way_is_told_apart():
    """Two patches go down, as near things would; no scene at rest lets a third go aside as well."""
    rest, patch = leaves(3, WIDTH), leaves(4, 90)[:70]
    frames = []
    for t in range(5):
        frame = rest.copy()
        frame[20 + 6 * t : 90 + 6 * t, 20:110] = patch
        frame[20 + 6 * t : 90 + 6 * t, 210:300] = patch
        frame[160:230, 100 + 9 * t : 190 + 9 * t] = patch
        frames.append(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
    tracks = follow_corners(frames)
    aside, down = (tracks.paths[:, -1] - tracks.paths[:, 0]).T > 10
    assert min(aside.sum(), down.sum()) > 10
    assert tracks.odd[aside].mean() > 0.9
    assert tracks.odd[~aside].mean() < 0.1
    assert tracks.deep[down].mean() > 0.9
    assert not (tracks.odd & tracks.deep).any()


def test_spans_are_plain_numbers(record, timeline):
    for band in explain.bands(timeline, record["clips"]):
        json.dumps([asdict(span) for span in band.spans], default=float)
