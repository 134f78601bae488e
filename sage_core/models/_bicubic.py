"""Bicubic resizing of 8-bit pictures to Pillow's last digit, without Pillow.

Models were trained on pictures that Pillow had resized. Its filter (Keys' cubic with a = -0.5, widened when
it shrinks) is computed with weights of 22 binary digits, width first, and rounded to 8 bits after either
direction; OpenCV's cubic does not widen. (The newest Pillow begins with the height where it alone shrinks.
Pictures that keep their shape are not stretched like that.)
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SUPPORT = 2.0
_A = -0.5
_DIGITS = 22


def resize_bicubic(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """The picture [H, W, C] at another size, both sides >= 1 px."""
    wide = _resized_rows(picture.transpose(1, 0, 2), width).transpose(1, 0, 2)
    return np.ascontiguousarray(_resized_rows(wide, height))


def _resized_rows(picture: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """Resize the first dimension."""
    if picture.shape[0] == count:
        return picture
    taps, weights = _filter(picture.shape[0], count)
    total = np.full((count, *picture.shape[1:]), 1 << (_DIGITS - 1), np.int64)
    for tap, weight in zip(taps.T, weights.T, strict=True):
        total += picture[tap] * weight[:, None, None]
    return (total >> _DIGITS).clip(0, 255).astype(np.uint8)


@lru_cache(maxsize=64)
def _filter(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each new row the old rows that it is made of [new, T], and their weights; 0 pads both."""
    scale = old / new
    stretch = max(scale, 1.0)
    centres = (np.arange(new) + 0.5) * scale
    first = np.floor(centres - _SUPPORT * stretch + 0.5).astype(np.int64).clip(min=0)
    last = np.floor(centres + _SUPPORT * stretch + 0.5).astype(np.int64).clip(max=old)
    taps = first[:, None] + np.arange((last - first).max())
    values = _cubic((taps - centres[:, None] + 0.5) / stretch)
    values = np.where(taps < last[:, None], values, 0.0)
    values /= values.sum(1, keepdims=True)
    # Rounded half away from 0.
    weights = np.trunc(values * (1 << _DIGITS) + np.copysign(0.5, values)).astype(np.int64)
    return np.minimum(taps, old - 1), weights


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    x = np.abs(x)
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _A
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
