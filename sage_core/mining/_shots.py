"""Shots: what is left between cuts, fades, dissolves and wipes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

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
_AROUND_S = (0.25, 0.35)
"""Steps that reach into the time around a frame."""
_SAME_PICTURE = 0.5
"""Unrelated pictures are 0.74 to 1 apart, those around a flash at most this far however the camera moves."""
_FLASH_CONTRAST = 4.0
_LONGEST_HALF_S = 1.5
_OUTER_SHARE = 0.3
_EDGE_S = 0.04

Series = NDArray[np.float64]


@dataclass(frozen=True)
class Shot:
    """Positions ``start`` to ``end`` (exclusive) in :class:`FrameSeries`, transitions already cut away."""

    start: int
    end: int


class Passage(StrEnum):
    """How one shot gives way to the next."""

    CUT = "cut"
    FADE = "fade"
    """Through a blank picture, or from one or to one at the ends."""
    DISSOLVE = "dissolve"
    WIPE = "wipe"


@dataclass(frozen=True)
class Transition:
    """Positions ``start`` to ``end`` (exclusive) in :class:`FrameSeries` that belong to neither shot.

    None at a cut: there ``start`` and ``end`` are the first frame of the new shot.
    """

    kind: Passage
    start: int
    end: int


def find_shots(measures: Measures, config: CurateConfig) -> list[Shot]:
    """All shots in order, however short: what lies between transitions, without the edges of cuts."""
    end = len(measures.frames)
    found = find_transitions(measures, config)
    starts = [(0, False), *((t.end, t.kind is Passage.CUT) for t in found)]
    ends = [*((t.start, t.kind is Passage.CUT) for t in found), (end, False)]
    shots = []
    for (first, cut_before), (last, cut_after) in zip(starts, ends, strict=True):
        if last > first:
            shots.append(_trimmed(measures.frames, first, last, cut_before, cut_after))
    return [shot for shot in shots if shot.end > shot.start]


def find_transitions(measures: Measures, config: CurateConfig) -> list[Transition]:
    """Cuts, fades, dissolves and wipes in order, apart from each other."""
    dark = _blank_or_fading(measures, config)
    fades = [Transition(Passage.FADE, start, end) for start, end in _runs(dark)]
    gradual = [g for g in find_gradual(measures, config) if not dark[g.start : g.end].any()]
    covered = dark.copy()
    for one in gradual:
        covered[one.start : one.end] = True
    cuts = [
        Transition(Passage.CUT, cut, cut)
        for cut in find_cuts(measures, config)
        if not covered[cut] and not _near(measures, dark, cut)
    ]
    return sorted([*fades, *gradual, *cuts], key=lambda one: one.start)


def find_gradual(measures: Measures, config: CurateConfig) -> list[Transition]:
    """Dissolves and wipes: frames made of those before and after them, where most tracks end."""
    frames = measures.frames
    lost = 1 - survival_around(measures)
    blend, wipe = frames.blend / config.min_blend, frames.wipe / config.min_wipe
    shape = np.maximum(blend, wipe)
    score = shape * lost
    found: list[Transition] = []
    for start, end in _runs(score >= 1):
        peak = start + int(np.argmax(score[start:end]))
        kind = Passage.DISSOLVE if blend[peak] >= wipe[peak] else Passage.WIPE
        one = Transition(kind, *_extent(shape, frames.time_s, peak))
        if found and one.start <= found[-1].end:
            before = found.pop()
            one = Transition(before.kind, before.start, max(before.end, one.end))
        found.append(one)
    return found


def _extent(score: Series, times: Series, peak: int) -> tuple[int, int]:
    """The whole of a transition around its best frame.

    α (1 - α) is half of its greatest value from 0.15 to 0.85: there the score, too, has about halved,
    and 0.3 of that length is missing on either side.
    """
    high = score >= score[peak] / 2
    first, last = peak, peak
    while first > 0 and high[first - 1] and times[peak] - times[first - 1] < _LONGEST_HALF_S:
        first -= 1
    while (
        last + 1 < len(high) and high[last + 1] and times[last + 1] - times[peak] < _LONGEST_HALF_S
    ):
        last += 1
    missing = _OUTER_SHARE * (times[last] - times[first]) + _EDGE_S
    start = int(np.searchsorted(times, times[first] - missing))
    return start, int(np.searchsorted(times, times[last] + missing, side="right"))


def survival_around(measures: Measures) -> Series:
    """Share of tracks that live through the 0.6 s around each frame; a flash says nothing about them."""
    times, steps = measures.frames.time_s, measures.steps
    at = times[steps.at]
    logs = np.where(_flashed(measures), 0.0, np.log(np.maximum(steps.survival, 1e-3)))
    total = np.concatenate([[0.0], np.cumsum(logs)])
    first = np.maximum(np.searchsorted(at, times - _AROUND_S[0]), 1)
    last = np.searchsorted(at, times + _AROUND_S[1], side="right")
    return np.asarray(np.exp(total[np.maximum(first, last)] - total[first]))


def _flashed(measures: Measures) -> NDArray[np.bool_]:
    """Steps [K] that begin, end or pass at a flash."""
    at = measures.steps.at
    before = np.concatenate([[0], np.cumsum(_flashes(measures.frames))])
    first = np.concatenate([at[:1], at[:-1]])
    return np.asarray(before[at + 1] > before[first])


def _flashes(frames: FrameSeries) -> NDArray[np.bool_]:
    """Blank pictures [N] between pictures that are alike."""
    return np.asarray((frames.contrast < _FLASH_CONTRAST) & (frames.apart < _SAME_PICTURE))


def _runs(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Start and end (exclusive) of each stretch of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(np.int8), [0]])))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def find_cuts(measures: Measures, config: CurateConfig) -> list[int]:
    """Positions of frames that begin a new shot.

    A cut stands out of its neighbourhood (the rule of PySceneDetect's adaptive detector) and most
    corner tracks end there: flashes, encoder refreshes and fast turns do the first, not the second. Where
    the tracker saw the flash itself, the pictures before and after it are still the same.
    Where all of many tracks end, less change will do.
    """
    content = measures.frames.content
    candidates = (content >= min(_WEAK_SCORE, config.cut_score)) & (
        content_ratio(content, measures.frames.time_s) >= config.cut_ratio
    )
    candidates &= measures.frames.apart >= _SAME_PICTURE
    candidates[1:] &= ~_flashes(measures.frames)[
        :-1
    ]  # what a flash gives way to was there before it
    cuts = []
    for position in np.flatnonzero(candidates).tolist():
        survival = _survival(measures, position)
        strong = content[position] >= config.cut_score
        if (strong and (survival is None or survival <= config.cut_survival)) or (
            survival is not None and survival < _COLLAPSE_SURVIVAL
        ):
            cuts.append(position)
    return cuts


def content_ratio(content: Series, times: Series) -> Series:
    """Each frame's content change over the mean of the two before and the two after it.

    Where those took longer than it did, as at a variable rate, they count by so much less.
    """
    took = np.diff(times, prepend=2 * times[0] - times[min(1, len(times) - 1)])
    around = np.pad(content, 2, mode="edge")
    took_around = np.maximum(np.pad(took, 2, mode="edge"), 1e-6)
    total = np.zeros(len(content))
    for shift in (0, 1, 3, 4):
        beside = slice(shift, shift + len(content))
        total += around[beside] * np.minimum(1.0, took / took_around[beside])
    return np.asarray(content / np.maximum(total / 4, 1e-3))


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
    blank = (frames.contrast < config.blank_contrast) & (frames.apart >= _SAME_PICTURE)
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
