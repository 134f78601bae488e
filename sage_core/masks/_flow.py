"""Dense optical flow between neighbouring frames, chained to frames farther away."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.geometry import pixel_centres

Floats = NDArray[np.float32]
Grey = NDArray[np.uint8]
Mask = NDArray[np.bool_]
STRIDE = 4
"""Flow is kept at every fourth pixel, as the mean of the sixteen around it."""


@dataclass(frozen=True)
class Match:
    """Where the grid's pixels of one frame are in another.

    Attributes:
        frame: position of the other frame.
        xy: float32 [h, w, 2], pixels (+0.5 rule). ``sound``: bool [h, w], whether the way there and back
            agrees at every step and stays inside the picture.
    """

    frame: int
    xy: Floats
    sound: Mask


@dataclass(frozen=True)
class _Step:
    """Flow from a frame to its neighbour [h, w, 2], pixels, and how far off the way back ends [h, w]."""

    flow: Floats
    miss: Floats


class FlowChains:
    """Matches of grey frames (uint8 [H, W], one size, in order) with those before and after them.

    ``blocked``: bool [N, H, W] pixels that no match may begin or end on, such as overlays; or None.
    """

    def __init__(self, frames: Sequence[Grey], max_miss_px: float, blocked: Mask | None) -> None:
        self._frames, self._max_miss_px, self._blocked = frames, max_miss_px, blocked
        height, width = frames[0].shape
        self._limit = np.array([width, height], np.float32)
        centres = pixel_centres(-(-width // STRIDE), -(-height // STRIDE)) * STRIDE
        self.grid: Floats = centres.astype(np.float32)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        # Whoever goes through the frames in order computes each step once, in memory that stays the same.
        self.step = lru_cache(maxsize=64)(self._step)

    def chain(self, frame: int, direction: int, steps: int, reach_px: float) -> Iterator[Match]:
        """Match frame after frame in a direction (1 or -1), until the median has moved by ``reach_px``."""
        xy = self.grid
        sound = self._free(frame, xy)
        for other in range(frame + direction, frame + direction * (steps + 1), direction):
            if not 0 <= other < len(self._frames):
                return
            step = self.step(other - direction, direction)
            sound = sound & (sample(step.miss, xy) <= self._max_miss_px)
            xy = xy + sample(step.flow, xy)
            sound = sound & ((xy > 0) & (xy < self._limit)).all(-1) & self._free(other, xy)
            yield Match(other, xy, sound)
            if np.median(np.linalg.norm(xy - self.grid, axis=-1)) >= reach_px:
                return

    def _step(self, frame: int, direction: int) -> _Step:
        there = self._between(frame, frame + direction)
        back = self._between(frame + direction, frame)
        miss = np.linalg.norm(there + sample(back, self.grid + there), axis=-1)
        return _Step(there, miss.astype(np.float32))

    @lru_cache(maxsize=64)  # noqa: B019  (lives as long as the clip)
    def _between(self, frame: int, other: int) -> Floats:
        flow = self._flow.calc(self._frames[frame], self._frames[other], None)
        size = (self.grid.shape[1], self.grid.shape[0])
        return np.asarray(cv2.resize(flow, size, interpolation=cv2.INTER_AREA), np.float32)

    def _free(self, frame: int, xy: Floats) -> Mask:
        if self._blocked is None:
            return np.ones(xy.shape[:2], bool)
        column, row = np.clip(xy, 0, self._limit - 1).astype(np.intp).transpose(2, 0, 1)
        return np.asarray(~self._blocked[frame][row, column])


def sample(field: Floats, xy: Floats) -> Floats:
    """Values of a field on the grid at pixels [h, w, 2] (+0.5 rule), bilinear, repeated at the border."""
    at = xy / STRIDE - 0.5
    found = cv2.remap(field, at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.float32)
