"""Gradual transitions: is a picture made of the one before and the one after it?

Three frames a, x, b, w seconds apart. In a dissolve x = (1 - α) a + α b; in a wipe each place shows
either a or b. What moves is neither, and what moves slowly changes little between a and b. Both are
tried on tiny pictures, where a moving camera matters less, for several w; the best one counts.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

WINDOWS_S = (0.13, 0.27, 0.5, 0.8)
_FLASH_WINDOWS_S = (0.07, 0.15, 0.25)
"""The nearest pair is best where the camera moves, the widest one spans flashes of up to six frames."""
_SIZE = (32, 18)
_SHIFTS = (1, 3)
"""Pixels of the tiny pictures, down and across, that the camera may have moved around a flash."""
_UNSURE = (0.5, 0.85)
"""Where a shift is looked for: pictures less apart are alike without, those more apart never will be."""
_BLOCK = 128
_RANDOM_BLEND = 0.866
"""Residual that three unrelated pictures leave: sqrt(3) / 2 of the distance from a to b."""
_RANDOM_WIPE = 0.6
_DIP = 0.25
_PLAIN = 36.0
"""Mean variance under which a tiny picture is blank."""
_RELIT = 0.4
"""Where less than this of a change is more than that of the mean colour, it is the light that changes."""

Pictures = NDArray[np.float32]
"""float32 [N, h, w, 3]."""
Series = NDArray[np.float64]
Positions = NDArray[np.int64]


class BlendScorer:
    """Feed every frame with :meth:`add`, then take the :meth:`series`.

    Blend is 0.5 to 1 in the middle of a dissolve and mostly under 0.3 elsewhere, wipe the same of a
    wipe; apart is 1 where the pictures 0.15 s and 0.25 s before and after are unrelated, near 0 where
    either pair is the same, as around a flash. Keeps a few seconds of tiny pictures, however long the
    video.
    """

    def __init__(self, block: int = _BLOCK) -> None:
        self._block = block
        self._blend: list[float] = []
        self._wipe: list[float] = []
        self._apart: list[float] = []
        self._pictures: list[NDArray[np.float32]] = []
        self._times: list[float] = []
        self._sharpness: list[float] = []
        self._done = 0

    def add(self, time_s: float, image: NDArray[np.uint8], sharpness: float) -> None:
        """The next frame: uint8 [H, W, 3], and the variance of its Laplacian."""
        tiny = cv2.resize(image, _SIZE, interpolation=cv2.INTER_AREA)
        self._pictures.append(np.asarray(tiny, np.float32))
        self._times.append(time_s)
        self._sharpness.append(sharpness)
        if self._times[-1] - self._times[self._done] > WINDOWS_S[-1] + 1 and (
            len(self._times) - self._done >= self._block
        ):
            self._score(int(np.searchsorted(self._times, time_s - WINDOWS_S[-1] - 1e-6)))

    def series(self) -> tuple[Series, Series, Series]:
        """Blend, wipe and apart of every frame added, [N] each; nothing can be added any more."""
        self._score(len(self._times))
        return np.array(self._blend), np.array(self._wipe), np.array(self._apart)

    def _score(self, until: int) -> None:
        """Score the frames up to ``until``, and let go of those that no later frame needs."""
        times = np.array(self._times)
        nothing = np.empty((0, *_SIZE[::-1], 3), np.float32)
        pictures = np.stack(self._pictures) if self._pictures else nothing
        sharpness = np.array(self._sharpness) + 1
        at = np.arange(self._done, until)
        best = np.zeros((2, len(at)))
        apart = np.ones(len(at))
        for window in WINDOWS_S:
            a, inside, b = _around(times, at, window)
            if inside.any():
                a, x, b = a[inside], at[inside], b[inside]
                found = blend_and_wipe(pictures[a], pictures[x], pictures[b], sharpness[[a, x, b]])
                best[:, inside] = np.maximum(best[:, inside], found)
        for window in _FLASH_WINDOWS_S:
            a, inside, b = _around(times, at, window)
            if inside.any():
                found = difference(pictures[a[inside]], pictures[b[inside]])
                apart[inside] = np.minimum(apart[inside], found)
        self._blend += best[0].tolist()
        self._wipe += best[1].tolist()
        self._apart += apart.tolist()
        self._forget(until)

    def _forget(self, until: int) -> None:
        if until == len(self._times):
            return
        oldest = self._times[until] - WINDOWS_S[-1] - 1e-2
        # One more, so that the next frame knows that it is not at the beginning.
        gone = max(0, int(np.searchsorted(self._times, oldest)) - 1)
        del self._pictures[:gone], self._times[:gone], self._sharpness[:gone]
        self._done = until - gone


def _around(
    times: Series, at: Positions, window: float
) -> tuple[Positions, NDArray[np.bool_], Positions]:
    """Positions of the frames a window before and after, and whether both are there."""
    before = np.searchsorted(times, times[at] - window - 1e-3)
    after = np.searchsorted(times, times[at] + window + 1e-3, side="right") - 1
    inside = (before < at) & (at < after) & (times[at] - times[0] >= window)
    return before, inside & (times[-1] - times[at] >= window), after


def blend_and_wipe(a: Pictures, x: Pictures, b: Pictures, sharpness: Series) -> NDArray[np.float64]:
    """Scores [2, N] of pictures x [N, h, w, 3] between a and b; ``sharpness`` [3, N] of a, x, b."""
    a, x, b = (p.reshape(len(p), -1, 3) for p in (a, x, b))
    to_a, to_b, both = _products(x - a, x - b)
    whole_a, whole_b = to_a.sum(axis=1), to_b.sum(axis=1)
    change = whole_a + whole_b - 2 * both + 1e-3
    alpha = (whole_a - both) / change
    different = _different(a, b, change)
    off_line = np.sqrt(np.maximum(whole_a - alpha**2 * change, 0) / change)
    blend = different * _middle(alpha) * np.maximum(0, 1 - off_line / _RANDOM_BLEND)
    # Detail of unrelated pictures adds up by its variance: halfway, half of it is left.
    expected = (1 - alpha) ** 2 * sharpness[0] + alpha**2 * sharpness[2]
    kept = np.log2(sharpness[1] / np.maximum(expected, 1e-3))
    blend = np.maximum(0, blend - _DIP * np.maximum(0, kept))
    weight = np.abs(to_a - to_b)
    shown = (weight * (to_b < to_a)).sum(axis=1) / (weight.sum(axis=1) + 1e-3)
    unexplained = np.sqrt(np.minimum(to_a, to_b).sum(axis=1) / change)
    wipe = different * _middle(shown) * np.maximum(0, 1 - unexplained / _RANDOM_WIPE)
    return np.stack([blend, wipe])


def difference(a: Pictures, b: Pictures) -> Series:
    """How unrelated two pictures [N, h, w, 3] are, 0 to about 1 [N]; 1, too, where one is blank.

    The root of one less their correlation, which neither brightness nor contrast changes, at the best of a
    few shifts: what the camera moves in the meantime.
    """
    apart = _unlike(a, b)
    unsure = (apart > _UNSURE[0]) & (apart < _UNSURE[1])
    if unsure.any():
        apart[unsure] = np.minimum(apart[unsure], _unlike_shifted(a[unsure], b[unsure]))
    return apart


def _unlike_shifted(a: Pictures, b: Pictures) -> Series:
    down, right = _SHIFTS
    likeness = [
        cv2.matchTemplate(one, other[down:-down, right:-right], cv2.TM_CCOEFF_NORMED).max()
        for one, other in zip(a, b, strict=True)
    ]
    return np.sqrt(np.clip(1 - np.array(likeness, np.float64), 0, None))


def _unlike(a: Pictures, b: Pictures) -> Series:
    a, b = (p - p.mean(axis=(1, 2), keepdims=True) for p in (a, b))
    size_a, size_b = _product(a, a), _product(b, b)
    likeness = _product(a, b) / np.sqrt(size_a * size_b + 1)
    blank = np.minimum(size_a, size_b) < _PLAIN * a[:1].size
    return np.asarray(np.where(blank, 1.0, np.sqrt(np.clip(1 - likeness, 0, None))), np.float64)


def _products(from_a: Pictures, from_b: Pictures) -> tuple[Series, Series, Series]:
    """Squared length of each at each place [N, P], and their scalar product [N]."""
    to_a = np.einsum("npc,npc->np", from_a, from_a)
    to_b = np.einsum("npc,npc->np", from_b, from_b)
    return to_a, to_b, _product(from_a, from_b)


def _product(one: Pictures, other: Pictures) -> Series:
    return np.asarray(
        np.einsum("nd,nd->n", one.reshape(len(one), -1), other.reshape(len(other), -1))
    )


def _different(a: Pictures, b: Pictures, change: Series) -> Series:
    """How unrelated a and b [N, P, 3] are, 0 to 1; 0, too, if little but their mean colour changes.

    Unrelated pictures differ by the root of the sum of their variances.
    """
    size = a.shape[1] * 3
    spread = sum(_product(p, p) / size - p.mean(axis=(1, 2)) ** 2 for p in (a, b)) + 1
    light = np.square(b.mean(axis=1) - a.mean(axis=1)).sum(axis=1) * a.shape[1] / change
    apart = np.minimum(1, np.sqrt(change / size / spread))
    return np.asarray(apart * np.clip((1 - light) / _RELIT, 0, 1))


def _middle(share: NDArray[np.floating]) -> Series:
    """1 at a half, 0 at both ends."""
    return np.clip(4 * share * (1 - share), 0, 1)
