"""The page as pixels and as HTML, from plain data."""

import re
from dataclasses import replace

import cv2
import numpy as np
import pytest

from sage_core import explain
from sage_core.explain import Band, Curve, Evidence, Explanation, Mark, Scene, Span, Still, Timeline
from sage_core.mining import Tracks
from sage_core.types import Figure, Judgement, Reason

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 255, (48, 64, 3), np.uint8)
TIMES = np.linspace(0, 12, 60)
HOSTILE = "<script>alert('x')</script>\x07"


def told(**more):
    curve = Curve(
        "sharpness", "sharpness", TIMES, 5 + TIMES, 20, ">=", logarithmic=True, decides=True
    )
    broken = Curve(
        "rigid_share", "share of tracks", TIMES, np.where(TIMES > 6, np.nan, 0.9), 0.8, ">="
    )
    bands = [Band("shots", [Span(0, 6, "#c9d3e0", "shot 1"), Span(6, 6.1, "#4d5761", "cut")])]
    paths = RNG.uniform(0, 48, (30, 4, 2)).astype(np.float32)
    tracks = Tracks(paths, np.arange(30) % 3 == 0, np.arange(30) % 3 == 1, 0.75)
    figures = {"sharpness": Figure(11.0, 20.0, ">="), "kind": Figure("footage", "footage", "==")}
    judgement = Judgement.reject(Reason.BLURRED, "sharpness 11, at least 20", figures)
    common = {
        "title": "a film", "item": "v0", "source": "https://example.org/v", "stage": "curate",
        "judgement": judgement, "figures": figures, "figures_of": "figures of curate",
        "strip": [Still(PICTURE, f"{t} s", mark) for t, mark in enumerate(Mark)],
        "timeline": Timeline(0.0, 12.0, bands, [curve, broken], [("parallax", "#5aae7f")]),
        "evidence": Evidence(PICTURE, "corners", tracks, "on one plane"),
        "stages": {"curate": judgement},
    }  # fmt: skip
    return Explanation(**{**common, **more})


def scene():
    axes = np.tile(np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]), (5, 1, 1))
    centres = np.stack([np.linspace(0, 1, 5), np.zeros(5), np.ones(5)], -1)
    points = RNG.uniform((-2, 2, 0), (2, 4, 2), (200, 3))
    colours = RNG.integers(0, 255, (200, 3), np.uint8)
    xy, depth = RNG.uniform(0, 48, (20, 2)), RNG.uniform(2, 4, 20)
    masked = np.zeros(PICTURE.shape[:2], bool)
    masked[:10, :10] = True
    return Scene(points, colours, centres, axes, PICTURE, "frame 3", xy, depth, masked)


def test_the_same_explanation_gives_the_same_bytes():
    one = told(scene=scene())
    first, second = explain.draw(one), explain.draw(one)
    assert first.dtype == np.uint8
    assert explain.to_jpeg(first) == explain.to_jpeg(second)
    decoded = cv2.imdecode(np.frombuffer(explain.to_png(first), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert (decoded == first).all()


def test_each_part_has_its_place():
    """What a part adds are pixels of its own: without it the page is shorter, or other."""
    bare = {"timeline": None, "evidence": None, "strip": []}
    least = explain.draw(told(**bare)).shape
    assert explain.draw(told(**bare, scene=scene())).shape[0] > least[0] + 300
    assert explain.draw(told(**bare | {"strip": told().strip})).shape[0] > least[0] + 60
    assert explain.draw(told(**bare | {"evidence": told().evidence})).shape[0] > least[0] + 100
    assert explain.draw(told(**bare, notes=["The file is gone."])).shape[0] > least[0] + 10


def test_colours_of_verdicts_and_tracks_are_on_the_page():
    page = explain.draw(told()).reshape(-1, 3)
    for colour in ((178, 106, 0), (180, 35, 24), (253, 227, 223)):  # rejected, broken, forbidden
        assert (page == colour).all(1).any()
    accepted = replace(told().judgement, verdict=Judgement.accept().verdict, reason=None)
    assert (explain.draw(told(judgement=accepted)).reshape(-1, 3) == (24, 121, 78)).all(1).any()


def test_words_from_outside_neither_break_the_picture_nor_the_page():
    hostile = told(title=HOSTILE, source=HOSTILE, notes=[HOSTILE], facts=["$x_{1}$ 100 %"])
    page = explain.to_html(hostile, explain.draw(hostile))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "\x07" not in page
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "sharpness" in page


@pytest.mark.parametrize(
    ("figure", "fails"),
    [
        (Figure(11.0, 20.0, ">="), True),
        (Figure(0.1, 0.2, "<="), False),
        (Figure("cartoon", "footage", "=="), True),
        (Figure("footage", "footage", "=="), False),
        (Figure(3.0), False),
    ],
)
def test_figures_that_fail(figure, fails):
    assert explain.fails(figure) is fails


def test_a_small_picture_lies_in_the_space_that_it_should_fill():
    seen = explain.within(np.full((240, 320, 3), 10, np.uint8), (320, 240), 480)
    dark = (seen.image < 50).all(-1)
    assert dark.mean() == pytest.approx(0.25, abs=0.01)
    assert dark[: dark.shape[0] // 2 - 1, : dark.shape[1] // 2 - 1].all()
    assert "240 of the 480" in seen.caption


@pytest.mark.parametrize(
    ("start", "end", "count", "found"),
    [
        (0, 8, 8, list(range(8))),
        (0, 3, 8, [0, 1, 2]),
        (10, 110, 4, [22, 47, 72, 97]),
        (0, 0, 8, []),
    ],
)
def test_spread(start, end, count, found):
    assert explain.spread(start, end, count) == found
