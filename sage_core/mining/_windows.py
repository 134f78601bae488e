"""Which frames of a shot: windows of clip length, key frames by motion, frames that get a pose."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sage_core.config.curate import CurateConfig

_THIRTIETH_S = 1 / 30
_BORDER_STEP_S = 0.2
_CUT_COST = 0.5
"""A border moves by a fifth of a window, which costs 0.08, for 16 % fewer tracks that it cuts."""
_ROUNDING = 1.05
"""Container times and rates such as 29.97 are a little off; five of their frames still are five."""


def equal_windows(times_s: NDArray[np.float64], period_s: float, longest_s: float) -> list[slice]:
    """Cut frames at ``times_s`` [N] into equal windows (slices) no longer than ``longest_s``."""
    total = float(times_s[-1] - times_s[0]) + period_s
    count = max(1, math.ceil(total / longest_s - 1e-9))
    borders = times_s[0] + total * np.arange(1, count) / count
    cuts = [0, *np.searchsorted(times_s, borders).tolist(), len(times_s)]
    return [slice(a, b) for a, b in pairwise(cuts)]


def covisible_pieces(
    times_s: NDArray[np.float64],
    period_s: float,
    lasting: NDArray[np.float64],
    least: float,
    shortest_s: float,
) -> list[slice]:
    """Cut frames at ``times_s`` [N] where what is seen before and after shares less than ``least``.

    A doorway, a corner, a whip pan: COLMAP would hang what lies behind on a few points. The weakest place
    is cut first, then the weakest of either side; a cut that left less than ``shortest_s`` is not made.
    Other arguments as for :func:`covisible_windows`.
    """
    elapsed = np.append(times_s - times_s[0], times_s[-1] - times_s[0] + period_s)

    def cut(start: int, end: int) -> list[slice]:
        first, last = np.searchsorted(
            elapsed, (elapsed[start] + shortest_s - 1e-6, elapsed[end] - shortest_s + 1e-6)
        )
        first = max(int(first), start + 1)
        if first >= last or lasting[first:last].min() >= least:
            return [slice(start, end)]
        middle = first + int(np.argmin(lasting[first:last]))
        return [*cut(start, middle), *cut(middle, end)]

    return cut(0, len(times_s))


def covisible_windows(
    times_s: NDArray[np.float64],
    period_s: float,
    lasting: NDArray[np.float64],
    shortest_s: float,
    longest_s: float,
) -> list[slice]:
    """Cut frames at ``times_s`` [N] into windows of about equal length where the fewest tracks are cut.

    As many windows as :func:`equal_windows` gives; each border may move to where fewer tracks go on, against
    the square of what the windows beside it gain or lose, as a share of their length.

    Args:
        times_s: [N], increasing.
        period_s: what one frame stands for.
        lasting: [N], share of tracks that live through the time around each frame.
        shortest_s, longest_s: bounds of a window, kept wherever windows of equal length keep them.
    """
    equal = equal_windows(times_s, period_s, longest_s)
    elapsed = np.append(times_s - times_s[0], times_s[-1] - times_s[0] + period_s)
    length = float(elapsed[-1]) / len(equal)
    if len(equal) == 1 or length < shortest_s:
        return equal
    # Tracks are looked at every 0.2 s: finer borders would change nothing but the cost of searching.
    spots = _thinned(elapsed, _BORDER_STEP_S)
    cost = np.append(_CUT_COST * lasting, 0.0)[spots]
    borders = _cheapest_borders(elapsed[spots], cost, len(equal), shortest_s, longest_s)
    if borders is None:
        return equal
    return [slice(a, b) for a, b in pairwise(spots[borders].tolist())]


def _thinned(elapsed: NDArray[np.float64], step_s: float) -> NDArray[np.int64]:
    """Positions at least about ``step_s`` apart, first and last included."""
    kept = np.unique(np.searchsorted(elapsed, np.arange(0, elapsed[-1], step_s)))
    return np.append(kept[kept < len(elapsed) - 1], len(elapsed) - 1)


def _cheapest_borders(
    elapsed: NDArray[np.float64],
    cost: NDArray[np.float64],
    count: int,
    shortest_s: float,
    longest_s: float,
) -> list[int] | None:
    """Dynamic programme over the borders of ``count`` windows, first and last spot included.

    Only the spots around each border's even place are tried, so that it is linear in the length.
    """
    last = len(elapsed) - 1
    length = elapsed[last] / count
    before, total = np.array([0]), np.array([0.0])
    choices: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for number in range(1, count + 1):
        low, high = np.searchsorted(elapsed, (number + np.array([-0.5, 0.5])) * length)
        here = np.arange(low, min(high, last) + 1) if number < count else np.array([last])
        spans = elapsed[here][:, None] - elapsed[before][None]
        allowed = (spans >= shortest_s - 1e-6) & (spans <= longest_s + 1e-6)
        sums = np.where(allowed, total[None] + (spans / length - 1) ** 2, np.inf)
        best = np.argmin(sums, axis=1)
        total = sums[np.arange(len(here)), best] + (cost[here] if number < count else 0.0)
        choices.append((here, before[best]))
        before = here
    if not np.isfinite(total[-1]):
        return None
    borders = [last]
    for here, came_from in reversed(choices):
        borders.append(int(came_from[np.searchsorted(here, borders[-1])]))
    return borders[::-1]


def sound_stretches(
    good: NDArray[np.bool_], seconds: NDArray[np.float64], share: float, least_s: float
) -> list[tuple[int, int]]:
    """All stretches [start, end) of intervals with that share of good time that last long enough.

    The best one, and those that are left before and after it, in order.
    """
    start, end = best_stretch(good, seconds, share)
    if end - start < 1 or seconds[start:end].sum() < least_s:
        return []
    after = sound_stretches(good[end:], seconds[end:], share, least_s)
    return [
        *sound_stretches(good[:start], seconds[:start], share, least_s),
        (start, end),
        *((end + a, end + b) for a, b in after),
    ]


def best_stretch(
    good: NDArray[np.bool_], seconds: NDArray[np.float64], share: float
) -> tuple[int, int]:
    """The stretch [start, end) of intervals with the most good time beyond the wanted share.

    Maximum-sum subarray of ``seconds * (good - share)``: the stretch has at least that share of good
    time, as has each of its beginnings and ends.
    """
    gains = seconds * (good - share)
    best, best_range, total, start = 0.0, (0, 0), 0.0, 0
    for position, gain in enumerate(gains):
        if total <= 0:
            total, start = 0.0, position
        total += gain
        if total > best:
            best, best_range = total, (start, position + 1)
    return best_range


def choose_key_frames(
    times_s: NDArray[np.float64],
    motion: NDArray[np.float64],
    sharpness: NDArray[np.float64],
    config: CurateConfig,
) -> list[int]:
    """Positions of the key frames among a clip's frames, first and last included.

    Their number follows time and motion (one per ``key_interval_s``, but none for less motion than
    ``key_min_flow``), within the configured bounds. They are spread evenly over progress, half time and
    half motion, so that fast turns get more of them without taking them all; each is then moved to the
    sharpest frame around.

    Args:
        times_s: [N], increasing.
        motion: [N], motion up to each frame, in long sides, not decreasing.
        sharpness: [N].
        config: intervals and bounds.
    """
    count = len(times_s)
    wanted = _key_count(times_s, motion, config)
    if wanted >= count:
        return list(range(count))
    progress = (_unit(times_s) + _unit(motion)) / 2 if motion[-1] > motion[0] else _unit(times_s)
    ideal = np.interp(np.linspace(0, 1, wanted), progress, np.arange(count))
    keys = [0]
    for before, here, after in zip(ideal[:-2], ideal[1:-1], ideal[2:], strict=True):
        low = max(keys[-1] + 1, math.ceil(here - (here - before) / 4))
        high = max(low, math.floor(here + (after - here) / 4))
        if high < count - 1:
            keys.append(low + int(np.argmax(sharpness[low : high + 1])))
    return [*keys, count - 1]


def choose_pose_frames(
    times_s: NDArray[np.float64], keys: list[int], config: CurateConfig
) -> list[int]:
    """Positions of all frames that get a pose: the key frames, and between them as few more as leave no
    gap over ``pose_step_frames`` (where the video has frames that close).
    """
    longest = config.pose_step_frames * _THIRTIETH_S * _ROUNDING
    chosen = [keys[0]]
    for key in keys[1:]:
        while times_s[key] - times_s[chosen[-1]] > longest:
            step = int(np.searchsorted(times_s, times_s[chosen[-1]] + longest, side="right")) - 1
            chosen.append(max(step, chosen[-1] + 1))
        if chosen[-1] != key:
            chosen.append(key)
    return chosen


def _key_count(
    times_s: NDArray[np.float64], motion: NDArray[np.float64], config: CurateConfig
) -> int:
    by_time = (times_s[-1] - times_s[0]) / config.key_interval_s + 1
    by_motion = (
        (motion[-1] - motion[0]) / config.key_min_flow + 1 if config.key_min_flow else by_time
    )
    wanted = round(float(min(by_time, by_motion)))
    return min(max(wanted, config.min_key_frames), config.max_key_frames)


def _unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((values - values[0]) / (values[-1] - values[0]))
