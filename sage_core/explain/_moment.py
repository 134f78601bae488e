"""Where to look: the stretch of a clip whose tracks say most about its verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sage_core.mining import Kind, Timeline
from sage_core.types import Reason

_MOST_STEPS = 24
_KIND = {
    Reason.STATIC_CAMERA: (Kind.STILL,),
    Reason.ROTATION_ONLY: (Kind.TURNING,),
    Reason.NO_PARALLAX: (Kind.ZOOMING, Kind.FLAT, Kind.LOST),
}
_SHADED = {
    Reason.NOT_FOOTAGE: "without texture",
    Reason.EXPOSURE: "clipped to black or white",
}


@dataclass(frozen=True)
class Moment:
    """Source frames to follow corners through, the first of which is shown, and how long that is.

    ``kind``: what the camera does. ``shaded``: what is to be marked in the first frame instead of
    tracks, or nothing.
    """

    frames: list[int]
    seconds: float
    kind: Kind
    shaded: str = ""


def telling_moment(
    timeline: Timeline, start_s: float, end_s: float, reason: Reason | None, kind: str = ""
) -> Moment | None:
    """The stretch between two times that shows best what decided; None if nothing was tracked there.

    ``kind`` is what ``not_footage`` calls it.
    """
    frames, steps = timeline.measures.frames, timeline.measures.steps
    times = frames.time_s[steps.at]
    first, last = np.searchsorted(times, (start_s - 0.05, end_s + 0.05)).tolist()
    inside = [
        chain for chain in timeline.measures.chains if chain.start < last - 1 and chain.end > first
    ]
    if not inside:
        return None
    chain = _telling(timeline, inside, reason)
    begin = max(chain.start, first)
    end = min(chain.end, begin + _MOST_STEPS, last - 1)
    chosen = frames.index[steps.at[begin : end + 1]].tolist()
    of_chain = Kind(int(timeline.kind[chain.end]))
    shaded = _SHADED.get(reason, "") if reason and kind not in ("slideshow", "split_screen") else ""
    return Moment(chosen, float(times[end] - times[begin]), of_chain, shaded)


def _telling(timeline: Timeline, inside: list[Any], reason: Reason | None) -> Any:
    """Of some chains the one that moves most by itself, or the middle one of the kind that decided."""
    if reason is Reason.DYNAMIC_SCENE:
        return max(inside, key=lambda chain: (not chain.lost, 1 - chain.epipolar + chain.moving))
    wanted = _KIND.get(reason, (Kind.PARALLAX,)) if reason else (Kind.PARALLAX,)
    for kind in wanted:
        of_kind = [c for c in inside if timeline.kind[c.end] == kind]
        if of_kind:
            return of_kind[len(of_kind) // 2]
    return max(inside, key=lambda chain: (not chain.lost, chain.end - chain.start))


def spread(start: int, end: int, count: int) -> list[int]:
    """Middles of ``count`` equal parts of a range of numbers, without repeats."""
    middles = start + (np.arange(count) + 0.5) * (end - start) / count
    return sorted({int(m) for m in middles if start <= m < end})
