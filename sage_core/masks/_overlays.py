"""What never moves while the camera does: logos, subtitles and bars."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.masks._flow import Floats, Grey, Mask
from sage_core.masks._regions import grown

_WINDOW, _HOP = 8, 4
_EDGE = 24.0
"""Grey levels a pixel that a lasting edge has at least (the Sobel sum over eight)."""
_LASTING = 0.85
_MOVED = 0.02
"""Long sides that the picture around a place must have moved by, for anything to show by staying."""
_FIT_PX = 1.5
_CORNER = 0.08
_AROUND_PX = 15
_DARK, _DARK_SHARE = 24, 0.45


def overlay_masks(frames: Sequence[Grey], margin_px: int) -> Mask:
    """Masks bool [N, H, W] of grey frames (uint8 [H, W]) in order, about 0.2 s apart.

    Sought in windows of eight frames, so that subtitles may change; a frame's mask joins its windows'.
    """
    masks = np.zeros((len(frames), *frames[0].shape), bool)
    motion = [_motion(a, b) for a, b in pairwise(frames)]
    last = max(1, len(frames) - _WINDOW + _HOP)
    for begin in range(0, last, _HOP):
        window = slice(begin, begin + _WINDOW)
        if len(frames[window]) < _WINDOW // 2:
            continue
        travelled = np.cumsum(motion[begin : begin + _WINDOW - 1], axis=0)
        moved = np.linalg.norm(travelled, axis=-1).max(0)
        masks[window] |= _fixed(np.stack(frames[window]), moved, margin_px)
    return masks


def _motion(before: Grey, after: Grey) -> Floats:
    """How the picture moves, pixels [H, W, 2]: an affine field, which what stays has no say in.

    Fitted to all of the picture, it rests where a camera that flies ahead has its goal.
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST).calc(before, after, None)
    height, width = before.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    at = np.stack([x, y], -1)
    cells = np.s_[4::8, 4::8]
    start, end = at[cells].reshape(-1, 2), (at + flow)[cells].reshape(-1, 2)
    fit, _ = cv2.estimateAffine2D(start, end, ransacReprojThreshold=_FIT_PX, maxIters=500)
    if fit is None:
        return np.zeros_like(at)
    return np.asarray(at @ fit[:, :2].T + fit[:, 2] - at, np.float32)


def _fixed(window: Grey, moved: Floats, margin_px: int) -> Mask:
    """The overlay [H, W] that lasts through a window [M, H, W]."""
    judged = moved >= _MOVED * max(moved.shape)
    lasting, mean = _lasting_edges(window)
    seeds = lasting & judged & _cornered(lasting & judged, mean)
    bars = _bars(window) & (judged.mean() > 0.5)
    return np.asarray(grown(seeds, margin_px, close_px=11) | bars)


def _lasting_edges(window: Grey) -> tuple[Mask, Floats]:
    """Where nearly all frames have one and the same edge, [H, W], and their mean gradient [2, H, W]."""
    slopes = np.stack(
        [np.stack([cv2.Sobel(f, cv2.CV_32F, 1, 0), cv2.Sobel(f, cv2.CV_32F, 0, 1)]) for f in window]
    )
    slopes /= 8
    mean = slopes.mean(0)
    strength = np.linalg.norm(mean, axis=0)
    along = (slopes * mean).sum(1) / np.maximum(strength, 1e-6)
    agrees = (along >= 0.5 * strength).mean(0) >= _LASTING
    return agrees & (strength >= _EDGE), mean.astype(np.float32)


def _cornered(edges: Mask, mean: Floats) -> Mask:
    """Where the edges around run more than one way: a straight one may well slide along itself."""
    x, y = np.where(edges, mean, 0)
    size = (_AROUND_PX, _AROUND_PX)
    xx, xy, yy = (cv2.boxFilter(product, -1, size) for product in (x * x, x * y, y * y))
    spread = np.sqrt((xx - yy) ** 2 + 4 * xy**2)
    weaker, stronger = xx + yy - spread, xx + yy + spread
    return np.asarray(weaker > _CORNER * np.maximum(stronger, 1e-6))


def _bars(window: Grey) -> Mask:
    """Dark rows and columns from the border inwards, [H, W]; text may stand in them."""
    dark: NDArray[np.bool_] = window.max(0) <= _DARK
    mask = np.zeros_like(dark)
    for lines, share in ((mask, dark.mean(1)), (mask.T, dark.mean(0))):
        lit = np.flatnonzero(share < _DARK_SHARE)
        if len(lit):
            lines[: lit[0]] = True
            lines[lit[-1] + 1 :] = True
    return mask
