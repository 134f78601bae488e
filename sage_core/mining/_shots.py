"""Shots: cuts found by content change and by tracks that break, blank stretches and fades cut away."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sage_core.config.curate import CurateConfig
from sage_core.mining._measures import FrameSeries, Measures

_CUT_MARGIN_S = 0.1
"""Cut away on both sides of a cut: encoders blend across it."""
_FADE_STEP_S = 0.1
_FADE_GROWTH = 1.03
"""In a fade, contrast grows by at least this factor every tenth of a second."""
_LONGEST_FADE_S = 3.0
_DIM = 3.0
_WEAK_SCORE = 5.0
_COLLAPSE_SURVIVAL = 0.1
_ENOUGH_CORNERS = 60


@dataclass(frozen=True)
class Shot:
    """Positions ``start`` to ``end`` (exclusive) in :class:`FrameSeries`, fades already cut away."""

    start: int
    end: int


def find_shots(measures: Measures, config: CurateConfig) -> list[Shot]:
    """All shots in order, however short; blank stretches and fades belong to none."""
    frames = measures.frames
    dark = _blank_or_fading(measures, config)
    cuts = [cut for cut in find_cuts(measures, config) if not _near(measures, dark, cut)]
    changes = np.flatnonzero(np.diff(dark.astype(np.int8))) + 1
    borders = sorted({0, len(frames), *cuts, *changes.tolist()})
    shots = []
    for start, end in pairwise(borders):
        if not dark[start]:
            shots.append(_trimmed(frames, start, end, start in cuts, end in cuts))
    return [shot for shot in shots if shot.end > shot.start]


def find_cuts(measures: Measures, config: CurateConfig) -> list[int]:
    """Positions of frames that begin a new shot.

    A cut stands out of its neighbourhood (the rule of PySceneDetect's adaptive detector) and most
    corner tracks end there: flashes, encoder refreshes and fast turns do the first, not the second.
    Where all of many tracks end, less change will do.
    """
    content = measures.frames.content
    candidates = (content >= min(_WEAK_SCORE, config.cut_score)) & (
        content_ratio(content) >= config.cut_ratio
    )
    cuts = []
    for position in np.flatnonzero(candidates).tolist():
        survival = _survival(measures, position)
        strong = content[position] >= config.cut_score
        if (strong and (survival is None or survival <= config.cut_survival)) or (
            survival is not None and survival < _COLLAPSE_SURVIVAL
        ):
            cuts.append(position)
    return cuts


def content_ratio(content: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each frame's content change over the mean of the two before and the two after it."""
    padded = np.pad(content, 2, mode="edge")
    around = (padded[:-4] + padded[1:-3] + padded[3:-1] + padded[4:]) / 4
    return np.asarray(content / np.maximum(around, 1e-3))


def _survival(measures: Measures, position: int) -> float | None:
    """Share of tracks that survive the step around a frame; None where too few say anything."""
    steps = measures.steps
    k = int(np.searchsorted(steps.at, position))
    if k == 0 or k >= len(steps) or steps.corners[k] < _ENOUGH_CORNERS:
        return None
    return float(steps.survival[k])


def _blank_or_fading(measures: Measures, config: CurateConfig) -> NDArray[np.bool_]:
    """Blank frames, and beside them those whose contrast still grows away from the blank."""
    frames = measures.frames
    blank = frames.contrast < config.blank_contrast
    for position in np.flatnonzero(blank).tolist():
        # The tracks go on behind a flash.
        blank[position] = (_survival(measures, position) or 0.0) <= config.cut_survival
    # A video that begins or ends dim was cut inside its fade.
    dim = frames.contrast < _DIM * config.blank_contrast
    ends = np.concatenate([[dim[0]], blank, [dim[-1]]]).astype(np.int8)
    fading = blank.copy()
    for start in np.flatnonzero(np.diff(ends) == -1):
        fading[start : start + _fade_length(frames.contrast[start:], frames.time_s[start:])] = True
    for end in np.flatnonzero(np.diff(ends) == 1):
        backwards = frames.time_s[end - 1] - frames.time_s[:end][::-1] if end else frames.time_s[:0]
        length = _fade_length(frames.contrast[:end][::-1], backwards)
        fading[end - length : end] = True
    return np.asarray(fading)


def _near(measures: Measures, dark: NDArray[np.bool_], position: int) -> bool:
    """Whether the step around a frame touches a fade: tracks and content mean nothing there."""
    at = measures.steps.at
    k = int(np.searchsorted(at, position))
    first = int(at[k - 1]) if k else 0
    last = int(at[k]) if k < len(at) else len(dark) - 1
    return bool(dark[first : last + 1].any())


def _trimmed(frames: FrameSeries, start: int, end: int, cut_before: bool, cut_after: bool) -> Shot:
    times = frames.time_s[start:end]
    first, last = start, end
    if cut_before:
        first += int(np.searchsorted(times, times[0] + _CUT_MARGIN_S))
    if cut_after:
        last = start + int(np.searchsorted(times, times[-1] - _CUT_MARGIN_S, side="right"))
    return Shot(first, last)


def _fade_length(contrast: NDArray[np.float64], times: NDArray[np.float64]) -> int:
    """Frames from a blank stretch until contrast has stopped growing."""
    if len(times) == 0:
        return 0
    elapsed = times - times[0]
    position = 0
    while elapsed[position] < _LONGEST_FADE_S:
        ahead = int(np.searchsorted(elapsed, elapsed[position] + _FADE_STEP_S - 1e-6))
        if ahead >= len(contrast):
            return len(contrast)
        if contrast[ahead] < _FADE_GROWTH * contrast[position]:
            return ahead if position else 0
        position += 1
    return position
