"""Numba kernels: bin splats into tiles, composite each tile, and differentiate that.

A tile is one thread's work from start to end and writes only its own pixels, or its own entries of
the gradient list. So no result depends on the number of threads. Inside a tile, a splat touches only
the pixels of its bounding box.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange

TILE = 16


class TileLists(NamedTuple):
    """For every tile, the splats whose boxes touch it, near to far."""

    boxes: Any
    """int32 [N, 4]: first and one-past-last column, first and one-past-last row; empty if not seen."""
    starts: Any
    """int64 [tiles + 1]: where each tile's members begin."""
    members: Any
    """int32 [total]: splat indices."""
    width: int
    height: int


@njit(cache=True)  # type: ignore[untyped-decorator]
def pixel_boxes(xy: Any, extent: Any, width: int, height: int) -> Any:
    """The pixels whose centres (+0.5) lie within ``extent`` of each splat's centre, cut to the image."""
    boxes = np.zeros((xy.shape[0], 4), np.int32)
    for i in range(xy.shape[0]):
        if extent[i, 0] > 0 and extent[i, 1] > 0:
            for axis in range(2):
                size = width if axis == 0 else height
                low = math.ceil(xy[i, axis] - extent[i, axis] - 0.5)
                high = math.floor(xy[i, axis] + extent[i, axis] - 0.5) + 1
                boxes[i, 2 * axis] = int(min(max(low, 0), size))
                boxes[i, 2 * axis + 1] = int(min(max(high, 0), size))
    return boxes


@njit(cache=True)  # type: ignore[untyped-decorator]
def bin_tiles(boxes: Any, order: Any, width: int, height: int) -> tuple[Any, Any]:
    """Count, then fill in depth order: every tile's list comes out sorted."""
    columns, rows = (width + TILE - 1) // TILE, (height + TILE - 1) // TILE
    starts = np.zeros(columns * rows + 1, np.int64)
    for i in range(boxes.shape[0]):
        if boxes[i, 0] < boxes[i, 1] and boxes[i, 2] < boxes[i, 3]:
            for row in range(boxes[i, 2] // TILE, (boxes[i, 3] - 1) // TILE + 1):
                for column in range(boxes[i, 0] // TILE, (boxes[i, 1] - 1) // TILE + 1):
                    starts[row * columns + column + 1] += 1
    starts = np.cumsum(starts)
    members = np.empty(starts[-1], np.int32)
    free = starts[:-1].copy()
    for i in order:
        if boxes[i, 0] < boxes[i, 1] and boxes[i, 2] < boxes[i, 3]:
            for row in range(boxes[i, 2] // TILE, (boxes[i, 3] - 1) // TILE + 1):
                for column in range(boxes[i, 0] // TILE, (boxes[i, 1] - 1) // TILE + 1):
                    tile = row * columns + column
                    members[free[tile]] = i
                    free[tile] += 1
    return starts, members


@njit(inline="always")  # type: ignore[untyped-decorator]
def _falloff(dx: Any, dy: Any, conic: Any) -> Any:
    """exp(-½ dᵀ Σ⁻¹ d)."""
    half = conic.dtype.type(0.5)
    return math.exp(-half * (conic[0] * dx * dx + conic[2] * dy * dy) - conic[1] * dx * dy)


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def composite(
    xy: Any,
    conic: Any,
    opacities: Any,
    features: Any,
    boxes: Any,
    starts: Any,
    members: Any,
    width: int,
    height: int,
    limits: Any,
) -> tuple[Any, Any, Any]:
    """Features [H, W, F], remaining transmittance [H, W], and each pixel's last contributor [H, W].

    The last contributor is a position in ``members``; -1 where there is none.
    """
    kind = xy.dtype.type
    half, one = kind(0.5), kind(1)
    cap, faint, dark = limits
    channels = features.shape[1]
    drawn = np.zeros((height, width, channels), xy.dtype)
    remaining = np.ones((height, width), xy.dtype)
    last = np.full((height, width), -1, np.int64)
    columns = (width + TILE - 1) // TILE
    for tile in prange(starts.shape[0] - 1):
        top, left = tile // columns * TILE, tile % columns * TILE
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        ended = np.zeros((TILE, TILE), np.bool_)
        open_pixels = (bottom - top) * (right - left)
        for k in range(starts[tile], starts[tile + 1]):
            if open_pixels == 0:
                break
            i = members[k]
            for row in range(max(top, boxes[i, 2]), min(bottom, boxes[i, 3])):
                for column in range(max(left, boxes[i, 0]), min(right, boxes[i, 1])):
                    if ended[row - top, column - left]:
                        continue
                    dx = xy[i, 0] - (kind(column) + half)
                    dy = xy[i, 1] - (kind(row) + half)
                    alpha = min(cap, opacities[i] * _falloff(dx, dy, conic[i]))
                    if not alpha >= faint:  # also when it is not a number
                        continue
                    after = remaining[row, column] * (one - alpha)
                    if after <= dark:
                        ended[row - top, column - left] = True
                        open_pixels -= 1
                        continue
                    weight = alpha * remaining[row, column]
                    for f in range(channels):
                        drawn[row, column, f] += weight * features[i, f]
                    remaining[row, column] = after
                    last[row, column] = k
    return drawn, remaining, last


@njit(parallel=True, cache=True)  # type: ignore[untyped-decorator]
def composite_backward(
    xy: Any,
    conic: Any,
    opacities: Any,
    features: Any,
    boxes: Any,
    starts: Any,
    members: Any,
    width: int,
    height: int,
    limits: Any,
    remaining: Any,
    last: Any,
    grad_drawn: Any,
    grad_alpha: Any,
) -> Any:
    """Gradients [total, 6 + F] per member: xy (2), conic (3), opacity, features (F).

    Walks each tile's list from far to near. ``light`` is the transmittance in front of the splat,
    recovered by division; ``behind`` is what the splats behind it add to the pixel's objective, per
    unit of gradient: enough, since the features only matter through their product with it.
    """
    kind = xy.dtype.type
    half, one = kind(0.5), kind(1)
    cap, faint, _ = limits
    channels = features.shape[1]
    grads = np.zeros((members.shape[0], 6 + channels), xy.dtype)
    columns = (width + TILE - 1) // TILE
    for tile in prange(starts.shape[0] - 1):
        top, left = tile // columns * TILE, tile % columns * TILE
        bottom, right = min(top + TILE, height), min(left + TILE, width)
        light = remaining[top:bottom, left:right].copy()
        behind = np.zeros((TILE, TILE), xy.dtype)
        for k in range(starts[tile + 1] - 1, starts[tile] - 1, -1):
            i = members[k]
            for row in range(max(top, boxes[i, 2]), min(bottom, boxes[i, 3])):
                for column in range(max(left, boxes[i, 0]), min(right, boxes[i, 1])):
                    if k > last[row, column]:
                        continue
                    dx = xy[i, 0] - (kind(column) + half)
                    dy = xy[i, 1] - (kind(row) + half)
                    falloff = _falloff(dx, dy, conic[i])
                    alpha = min(cap, opacities[i] * falloff)
                    if not alpha >= faint:
                        continue
                    y, x = row - top, column - left
                    through = one - alpha
                    light[y, x] /= through
                    weight = alpha * light[y, x]
                    toward = kind(0)
                    for f in range(channels):
                        pull = grad_drawn[row, column, f]
                        grads[k, 6 + f] += weight * pull
                        toward += pull * features[i, f]
                    rest = behind[y, x] - grad_alpha[row, column] * remaining[row, column]
                    grad = light[y, x] * toward - rest / through
                    behind[y, x] += weight * toward
                    if alpha >= cap:
                        continue
                    grads[k, 5] += falloff * grad
                    slope = -alpha * grad
                    grads[k, 0] += slope * (conic[i, 0] * dx + conic[i, 1] * dy)
                    grads[k, 1] += slope * (conic[i, 1] * dx + conic[i, 2] * dy)
                    grads[k, 2] += half * slope * dx * dx
                    grads[k, 3] += slope * dx * dy
                    grads[k, 4] += half * slope * dy * dy
    return grads


@njit(cache=True)  # type: ignore[untyped-decorator]
def sum_members(per_member: Any, members: Any, count: int) -> Any:
    """Per-member gradients to per-splat gradients [count, 6 + F], added in the members' order."""
    grads = np.zeros((count, per_member.shape[1]), per_member.dtype)
    for k in range(members.shape[0]):
        for f in range(per_member.shape[1]):
            grads[members[k], f] += per_member[k, f]
    return grads
