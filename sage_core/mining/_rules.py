"""The rules that a window has to keep, in order, and the reason behind each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sage_core.mining._clips import Timeline, Window, window_figures
from sage_core.mining._footage import Picture
from sage_core.mining._kinds import Kind
from sage_core.types import Figure, Judgement, Reason


def judge_window(timeline: Timeline, window: Window) -> Judgement:
    """The verdict on one window, with every figure; the first rule that fails names the reason."""
    figures = window_figures(timeline, window)
    for name, reason, sentence in _RULES:
        figure = figures[name]
        if not _keeps(figure):
            return Judgement.reject(reason(timeline, window), _sentence(sentence, figure), figures)
    return Judgement.accept(figures)


def _what_rules(timeline: Timeline, window: Window) -> Reason:
    """The reason behind too little parallax: what the camera does instead, most of the time."""
    kind = timeline.kind[timeline.steps(window)]
    counts = np.bincount(kind[kind != Kind.PARALLAX], minlength=len(Kind))
    return {
        Kind.STILL: Reason.STATIC_CAMERA,
        Kind.MOVING: Reason.DYNAMIC_SCENE,
        Kind.TURNING: Reason.ROTATION_ONLY,
    }.get(Kind(int(np.argmax(counts))), Reason.NO_PARALLAX)


def _stillness(timeline: Timeline, window: Window) -> Reason:
    if timeline.picture(window) is Picture.FOOTAGE:
        return Reason.STATIC_CAMERA
    return Reason.NOT_FOOTAGE


def _always(reason: Reason) -> Callable[[Timeline, Window], Reason]:
    return lambda timeline, window: reason


# In this order: what the picture is, before what the camera does, before what the scene does.
_RULES: tuple[tuple[str, Callable[[Timeline, Window], Reason], str], ...] = (
    ("duration_s", _always(Reason.SHOT_TOO_SHORT), "lasts {0} s, {1} s are needed"),
    ("short_side_px", _always(Reason.RESOLUTION), "{0} px inside the bars, {1} px are needed"),
    ("frozen_share", _stillness, "the picture is frozen for {0:.0%} of the time, at most {1:.0%}"),
    (
        "textureless_share",
        _always(Reason.NOT_FOOTAGE),
        "{0:.0%} of the picture is without texture, as in slides and drawings, at most {1:.0%}",
    ),
    (
        "seam",
        _always(Reason.NOT_FOOTAGE),
        "a fixed line stands out by a factor of {0:.1f}, as in split screens, at most {1:.1f}",
    ),
    (
        "clipped_share",
        _always(Reason.EXPOSURE),
        "{0:.0%} of the pixels are clipped, at most {1:.0%}",
    ),
    (
        "travel_per_10s",
        _always(Reason.STATIC_CAMERA),
        "the picture travels {0:.2%} of its long side in 10 s, at least {1:.2%} are needed",
    ),
    ("sharpness", _always(Reason.BLURRED), "sharpness {0:.0f}, at least {1:.0f}"),
    (
        "rigid_share",
        _always(Reason.DYNAMIC_SCENE),
        "one rigid scene explains {0:.0%} of the tracks, at least {1:.0%} are needed",
    ),
    (
        "moving_share",
        _always(Reason.DYNAMIC_SCENE),
        "{0:.0%} of the tracks are on things that move by themselves, at most {1:.0%}",
    ),
    (
        "parallax_share",
        _what_rules,
        "sound parallax in {0:.0%} of the time, at least {1:.0%} are needed",
    ),
    (
        "lost_share",
        _always(Reason.NO_PARALLAX),
        "tracks break down in {0:.0%} of the time, at most {1:.0%}",
    ),
    (
        "overlay_share",
        _always(Reason.NOT_FOOTAGE),
        "a fixed overlay covers {0:.0%} of the picture, at most {1:.0%}",
    ),
)


def _keeps(figure: Figure) -> bool:
    value, threshold = figure.value, figure.threshold
    if not isinstance(value, int | float) or not isinstance(threshold, int | float):
        return True
    return value >= threshold if figure.rule == ">=" else value <= threshold


def _sentence(text: str, figure: Figure) -> str:
    return text.format(figure.value, figure.threshold)
