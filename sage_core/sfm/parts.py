"""Parts of a clip: ranges of its frames that COLMAP mapped coherently, each with a model of its own."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from sage_core.sfm.copies import only, posed_images
from sage_core.sfm.model import frame_name, frame_of

MAX_GAP = 4
"""Key frames are matched 1, 2 and 4 places apart: what lies farther apart hangs together by little."""


def split_models(models: Sequence[Any], key_frames: Sequence[int], fewest: int) -> list[Any]:
    """COLMAP's sub-models as models of disjoint, unbroken ranges of a clip's frames, largest first.

    A sub-model that leaves out more than three key frames in a row is cut there. Frames of two parts stay
    in the larger one, whose whole range is its own.

    Args:
        models: sub-models, the most important first.
        key_frames: the clip's, sorted.
        fewest: key frames that a part needs, the first excepted.
    """
    taken: list[range] = []
    parts: list[tuple[int, Any]] = []
    for model in models:
        free = [f for f in frames_of(model) if not any(f in span for span in taken)]
        for run in _runs(free, key_frames):
            count = len(set(run) & set(key_frames))
            if count >= fewest or not parts:
                parts.append((count, within(model, run)))
                taken.append(range(run[0], run[-1] + 1))
    return [model for _, model in sorted(parts, key=lambda part: -part[0])]


def frames_of(model: Any) -> list[int]:
    """Source frames with a pose, sorted."""
    return sorted(frame_of(str(image.name)) for image in posed_images(model))


def within(model: Any, frames: Collection[int]) -> Any:
    """The model with these frames alone."""
    return only(model, {frame_name(frame) for frame in frames})


def _runs(frames: Sequence[int], key_frames: Sequence[int]) -> Iterator[list[int]]:
    """Stretches of sorted frames between which no more than three key frames are missing, longest first."""
    runs: list[list[int]] = []
    for frame in frames:
        place = bisect_right(key_frames, frame)
        if not runs or place - bisect_right(key_frames, runs[-1][-1]) > MAX_GAP:
            runs.append([])
        runs[-1].append(frame)
    yield from sorted(runs, key=len, reverse=True)
