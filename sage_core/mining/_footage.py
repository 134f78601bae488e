"""What is no footage: slides, screens, text and drawings by how even they are, split screens by the seam.

Drawn pictures are flat to the grey level and use few colours, which sensors and lenses never do. A seam
is an edge through the whole picture that stays where it is while all around it changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import cv2
import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.uint8]
Points = NDArray[np.float32]

_LEVELS = 32
_COLOURS = 16
_EDGE = 20
_RULE_PX = 25
_BANDS = 6
_AROUND_PX = 12
_NEAR, _FEWEST_NEAR, _CROSSING_PX = 0.15, 8, 0.5
_MARGIN = 0.12
"""Seams closer to the border than this share are letterbox bars or vignettes."""

_RULED, _FEW_COLOURS, _DRAWN = 0.15, 0.85, 0.6


class Picture(StrEnum):
    """What kind of picture a stretch of video shows."""

    FOOTAGE = "footage"
    SLIDESHOW = "slideshow"
    """Stills, each for a while, at rest or drawn over by a zoom."""
    SCREEN_CAPTURE = "screen_capture"
    TEXT_CARD = "text_card"
    CARTOON = "cartoon"
    SPLIT_SCREEN = "split_screen"
    PLAIN = "plain"
    """Too little texture to tell."""


def drawn_kind(palette: float, ruled: float) -> Picture:
    """Which kind of picture without texture it is, by its colours and its ruled edges."""
    if ruled >= _RULED:
        return Picture.SCREEN_CAPTURE
    if palette >= _FEW_COLOURS:
        return Picture.TEXT_CARD
    return Picture.CARTOON if palette >= _DRAWN else Picture.PLAIN


def palette_share(image: NDArray[np.uint8]) -> float:
    """Share of the pixels of [H, W, 3] that have one of the 16 most frequent of 32^3 colours."""
    red, green, blue = cv2.split(image[::2, ::2] // (256 // _LEVELS))
    codes = ((red.astype(np.uint16) * _LEVELS + green) * _LEVELS + blue).ravel()
    counts = np.bincount(codes, minlength=_LEVELS**3)
    return float(np.sort(counts[counts > 0])[-_COLOURS:].sum() / codes.size)


def ruled_share(grey: Grey) -> float:
    """Share of the edge pixels that lie on straight level or upright edges, as windows and tables have."""
    upright = (cv2.absdiff(grey[:, 1:], grey[:, :-1]) > _EDGE).astype(np.uint8)
    level = (cv2.absdiff(grey[1:], grey[:-1]) > _EDGE).astype(np.uint8)
    edges = int(upright.sum()) + int(level.sum())
    if edges == 0:
        return 0.0
    long_upright = cv2.morphologyEx(upright, cv2.MORPH_OPEN, np.ones((_RULE_PX, 1), np.uint8))
    long_level = cv2.morphologyEx(level, cv2.MORPH_OPEN, np.ones((1, _RULE_PX), np.uint8))
    return float((long_upright.sum() + long_level.sum()) / edges)


def seam_strength(recent: Sequence[Grey], moved: tuple[Points, Points]) -> float:
    """How much the strongest fixed line through the whole picture stands out of what lies beside it.

    The difference across a column (or row), averaged over the frames, in the weakest of six bands along
    it, over the median of the columns around. 1 where nothing stands out. A horizon, too, stays while
    the camera flies along it: only lines that tracks on either side move across count, else 0.

    Args:
        recent: frames, uint8 [H, W].
        moved: positions (x, y) of tracks before and after the latest step, float32 [N, 2] each.
    """
    stack = np.stack(recent).astype(np.int16)
    upright = np.abs(np.diff(stack, axis=2)).mean(axis=0)
    level = np.abs(np.diff(stack, axis=1)).mean(axis=0).T
    return max(_strongest(upright, moved, axis=0), _strongest(level, moved, axis=1))


def _strongest(across: NDArray[np.float64], moved: tuple[Points, Points], axis: int) -> float:
    """Of the lines between the columns of ``across``, which count positions along ``axis``."""
    profile = np.stack([band.mean(axis=0) for band in np.array_split(across, _BANDS)])
    around = np.lib.stride_tricks.sliding_window_view(profile, 2 * _AROUND_PX + 1, axis=1)
    beside = np.delete(around, [_AROUND_PX - 1, _AROUND_PX, _AROUND_PX + 1], axis=2)
    inner = profile[:, _AROUND_PX:-_AROUND_PX]
    strength = (inner / (np.median(beside, axis=2) + 1)).min(axis=0)
    margin = max(0, round(_MARGIN * profile.shape[1]) - _AROUND_PX)
    kept = strength[margin : len(strength) - margin]
    if len(kept) == 0:
        return 0.0
    line = int(np.argmax(kept)) + margin + _AROUND_PX + 1
    before, after = (points[:, axis] for points in moved)
    near = np.abs(before - line) < _NEAR * profile.shape[1]
    if near.sum() < _FEWEST_NEAR or np.median(np.abs(after - before)[near]) < _CROSSING_PX:
        return 0.0
    return float(kept.max())
