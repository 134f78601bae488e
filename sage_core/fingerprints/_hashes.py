"""64-bit hashes of pictures, of the whole and of what a crop would leave of it.

A hash is the signs of the 64 lowest cosine coefficients of the grey picture, the mean left out, in order of
frequency (the DCT hash known as pHash, but with signs for its median: a mirrored picture then has the same
hash with the bits of odd horizontal frequencies turned). Of two pictures unlike each other about 32 bits
differ; of one scaled, re-encoded, or cropped by 4 % of each side, 13 at most (docs/curate.md).
"""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Hashes = NDArray[np.uint64]

_SIDE = 64
_HIGHEST = 11
_CUTS = (0.0, 0.075, 0.15)
_TELLING = 0.15

CROPS: tuple[tuple[float, float, float, float], ...] = tuple(
    (left, top, right, bottom)
    for (top, bottom), (left, right) in product(product(_CUTS, _CUTS), product(_CUTS, _CUTS))
)
"""What is cut away on the left, top, right and bottom, as shares of the picture; the first is nothing."""


def _frequencies() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Horizontal and vertical frequency of each bit, lowest first."""
    pairs = [(total - v, v) for total in range(1, _HIGHEST) for v in range(total + 1)][:64]
    u, v = np.array(pairs).T
    return u, v


def _cosines(start: float, end: float) -> NDArray[np.float64]:
    """Mean of picture times cosine over a share of a row of ``_SIDE`` pixels, [_HIGHEST, _SIDE]."""
    edges = np.arange(_SIDE + 1) / _SIDE
    low, high = np.clip(edges[:-1], start, end), np.clip(edges[1:], start, end)
    middle = ((low + high) / 2 - start) / (end - start)
    waves = np.cos(np.pi * np.arange(_HIGHEST)[:, None] * middle)
    return np.asarray(waves * (high - low) / (end - start))


_U, _V = _frequencies()
_WHOLE = _cosines(0.0, 1.0)
_PARTS = np.concatenate([_cosines(a, 1 - b) for a, b in product(_CUTS, _CUTS)])
_BITS = np.left_shift(np.uint64(1), np.arange(64, dtype=np.uint64))
_MIRROR = np.bitwise_or.reduce(_BITS[_U % 2 == 1])


def small(grey: Grey) -> Grey:
    """The picture as the hashes take it: 64 x 64, whatever its shape."""
    return np.asarray(cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA), np.uint8)


def picture_hash(picture: Grey) -> tuple[np.uint64, bool]:
    """Hash of a picture from :func:`small`, and whether it tells it from others.

    Dark, blank and foggy pictures have coefficients next to nothing, whose signs are noise or, worse, those
    of the vignette that all of a camera's pictures share.
    """
    found = (_WHOLE @ picture @ _WHOLE.T)[_V, _U]
    return _packed(found), bool(np.median(np.abs(found)) >= _TELLING)


def crop_hashes(picture: Grey) -> Hashes:
    """Hashes of what each of :data:`CROPS` leaves of a picture from :func:`small`, uint64 [81]."""
    n = len(_CUTS) ** 2
    found = (_PARTS @ picture @ _PARTS.T).reshape(n, _HIGHEST, n, _HIGHEST)
    return np.asarray(_packed(found.transpose(0, 2, 1, 3)[:, :, _V, _U]).reshape(n * n), np.uint64)


def mirrored(hashes: Hashes) -> Hashes:
    """The hashes of the same pictures, left and right exchanged."""
    return np.asarray(hashes ^ _MIRROR)


def distance(one: Hashes | np.uint64, other: Hashes | np.uint64) -> NDArray[np.uint8]:
    """Number of bits that differ, 0 to 64, with broadcasting."""
    return np.asarray(np.bitwise_count(one ^ other))


def _packed(coefficients: NDArray[np.float64]) -> np.uint64:
    """Signs of the last axis as one number (an array of them where there are more axes)."""
    chosen = np.where(coefficients > 0, _BITS, np.uint64(0))
    return np.bitwise_or.reduce(chosen, axis=-1)  # type: ignore[no-any-return]
