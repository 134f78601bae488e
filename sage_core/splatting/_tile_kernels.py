"""Numba kernels: sort splats into tiles, composite each tile, and differentiate that.

A tile is one thread's work from start to end and writes only its own pixels, or its own rows of the
gradient list. So no result depends on the number of threads. Inside a tile, a splat touches only the
pixels of its box.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from sage_core.splatting._numba import kernel, parallel_kernel
from sage_core.splatting._projection_kernels import COLOUR, DEPTH, OPACITY, REACH, XX, XY, YY, X, Y

TILE = 16
_DIGIT_BITS = 11
_DIGITS = 1 << _DIGIT_BITS


@parallel_kernel  # type: ignore[untyped-decorator]
def bin_tiles(boxes: Any, size: tuple[int, int]) -> tuple[Any, Any, Any]:
    """Which splats touch which tile.

    Returns:
        first: int64 [C · N + 1], running count of the tiles that each splat touches.
        starts: int64 [C · tiles + 1], where each tile's members begin; tiles row by row.
        members: int32 [total], splats' indices, in their order within a tile.
    """
    cameras, count = boxes.shape[:2]
    columns, rows = (size[0] + TILE - 1) // TILE, (size[1] + TILE - 1) // TILE
    touched = np.zeros(cameras * count + 1, np.int64)
    sizes = np.zeros(cameras * columns * rows + 1, np.int64)
    for camera in prange(cameras):
        base = camera * columns * rows + 1
        for i in range(count):
            left, right, top, bottom = _tiles(boxes[camera, i])
            touched[camera * count + i + 1] = (right - left) * (bottom - top)
            for row in range(top, bottom):
                for column in range(left, right):
                    sizes[base + row * columns + column] += 1
    first, starts = np.cumsum(touched), np.cumsum(sizes)
    members = np.empty(starts[-1], np.int32)
    for camera in prange(cameras):
        base = camera * columns * rows
        free = starts[base : base + columns * rows].copy()
        for i in range(count):
            left, right, top, bottom = _tiles(boxes[camera, i])
            for row in range(top, bottom):
                for column in range(left, right):
                    tile = row * columns + column
                    members[free[tile]] = i
                    free[tile] += 1
    return first, starts, members


@kernel  # type: ignore[untyped-decorator]
def _tiles(box: Any) -> tuple[int, int, int, int]:
    """First and one past the last column and row of tiles that a box touches; equal for an empty one."""
    if box[0] >= box[1] or box[2] >= box[3]:
        return 0, 0, 0, 0
    return (
        box[0] // TILE,
        (box[1] - 1) // TILE + 1,
        box[2] // TILE,
        (box[3] - 1) // TILE + 1,
    )


@parallel_kernel  # type: ignore[untyped-decorator]
def sort_tiles(depth_bits: Any, starts: Any, members: Any) -> None:
    """Order each tile's members near to far, equals as they are.

    Args:
        depth_bits: [C, N, 8] the splats, their bits read as whole numbers: floats above 0 keep their
            order so.
    """
    tiles = (starts.shape[0] - 1) // depth_bits.shape[0]
    for tile in prange(starts.shape[0] - 1):
        own = members[starts[tile] : starts[tile + 1]]
        keys = np.empty(own.shape[0], np.int64)
        for k in range(own.shape[0]):
            keys[k] = depth_bits[tile // tiles, own[k], DEPTH]
        _sort(keys, own)


@kernel  # type: ignore[untyped-decorator]
def _sort(keys: Any, values: Any) -> None:
    """Radix sort, least significant digit first; only digits in which the keys differ."""
    if keys.shape[0] < 2:
        return
    lowest = keys.min()
    span = keys.max() - lowest
    from_keys, from_values = keys, values
    to_keys, to_values = np.empty_like(keys), np.empty_like(values)
    places = np.empty(_DIGITS, np.int64)
    shift, swapped = 0, False
    while span >> shift > 0:
        places[:] = 0
        for k in range(from_keys.shape[0]):
            places[((from_keys[k] - lowest) >> shift) & (_DIGITS - 1)] += 1
        total = 0
        for digit in range(_DIGITS):
            total, places[digit] = total + places[digit], total
        for k in range(from_keys.shape[0]):
            digit = ((from_keys[k] - lowest) >> shift) & (_DIGITS - 1)
            to_keys[places[digit]] = from_keys[k]
            to_values[places[digit]] = from_values[k]
            places[digit] += 1
        from_keys, to_keys = to_keys, from_keys
        from_values, to_values = to_values, from_values
        shift, swapped = shift + _DIGIT_BITS, not swapped
    if swapped:
        to_values[:] = from_values


@kernel  # type: ignore[untyped-decorator]
def _window(tile: int, size: tuple[int, int]) -> tuple[int, int, int, int, int]:
    """Camera of a tile, and its pixels: first and one past the last column and row."""
    columns, rows = (size[0] + TILE - 1) // TILE, (size[1] + TILE - 1) // TILE
    camera, place = tile // (columns * rows), tile % (columns * rows)
    left, top = place % columns * TILE, place // columns * TILE
    return camera, left, min(left + TILE, size[0]), top, min(top + TILE, size[1])


@parallel_kernel  # type: ignore[untyped-decorator]
def composite(
    splats: Any,
    colours: Any,
    boxes: Any,
    starts: Any,
    members: Any,
    size: tuple[int, int],
    limits: Any,
) -> tuple[Any, Any, Any, Any]:
    """Front to back, the sums of alpha · transmittance times colour and times z.

    Args:
        limits: largest alpha, and the transmittance at which a pixel ends.

    Returns:
        colour [C, H, W, D], depth [C, H, W], the transmittance that remains [C, H, W], and each pixel's
        last contributor int32 [C, H, W], a position among its tile's members; -1 where there is none.
    """
    shape = (splats.shape[0], size[1], size[0])
    drawn = np.zeros((splats.shape[0], size[1], size[0], colours.shape[1]), splats.dtype)
    depth, remaining = np.zeros(shape, splats.dtype), np.ones(shape, splats.dtype)
    last = np.full(shape, -1, np.int32)
    for tile in prange(starts.shape[0] - 1):
        camera = _window(tile, size)[0]
        _composite_tile(
            tile,
            splats[camera],
            colours,
            boxes[camera],
            members[starts[tile] : starts[tile + 1]],
            size,
            limits,
            drawn[camera],
            depth[camera],
            remaining[camera],
            last[camera],
        )
    return drawn, depth, remaining, last


@kernel  # type: ignore[untyped-decorator]
def _composite_tile(
    tile: int,
    splats: Any,
    colours: Any,
    boxes: Any,
    members: Any,
    size: tuple[int, int],
    limits: Any,
    drawn: Any,
    depth: Any,
    remaining: Any,
    last: Any,
) -> None:
    kind = splats.dtype.type
    half, one = kind(0.5), kind(1)
    cap, dark = limits
    _, left, right, top, bottom = _window(tile, size)
    light = np.ones((TILE, TILE), splats.dtype)  # 0 where a pixel has ended
    open_pixels = (bottom - top) * (right - left)
    for k in range(members.shape[0]):
        if open_pixels == 0:
            break
        i = members[k]
        splat, box = splats[i], boxes[i]
        xx, xy, yy = half * splat[XX], splat[XY], half * splat[YY]
        opacity, reach = splat[OPACITY], splat[REACH]
        for row in range(max(top, box[2]), min(bottom, box[3])):
            dy = splat[Y] - (kind(row) + half)
            for column in range(max(left, box[0]), min(right, box[1])):
                before = light[row - top, column - left]
                if before == 0:
                    continue
                dx = splat[X] - (kind(column) + half)
                exponent = xx * dx * dx + xy * dx * dy + yy * dy * dy
                if not 0 <= exponent <= reach:
                    continue
                alpha = min(cap, opacity * math.exp(-exponent))
                after = before * (one - alpha)
                if after <= dark:
                    light[row - top, column - left] = 0
                    open_pixels -= 1
                    continue
                weight = alpha * before
                for channel in range(colours.shape[1]):
                    drawn[row, column, channel] += weight * colours[i, channel]
                depth[row, column] += weight * splat[DEPTH]
                light[row - top, column - left] = remaining[row, column] = after
                last[row, column] = k


@parallel_kernel  # type: ignore[untyped-decorator]
def composite_backward(
    splats: Any,
    colours: Any,
    boxes: Any,
    first: Any,
    starts: Any,
    members: Any,
    size: tuple[int, int],
    limits: Any,
    remaining: Any,
    last: Any,
    g_drawn: Any,
    g_depth: Any,
    g_remaining: Any,
) -> Any:
    """What each tile adds to the gradients of its splats: rows [total, 7 + D], splat by splat.

    The rows of one splat lie side by side (from ``first`` on), one for each tile that it touches, so that
    they can be added up without regard to who wrote them.
    """
    count = splats.shape[1]
    parts = np.empty((members.shape[0], COLOUR + colours.shape[1]), splats.dtype)
    for tile in prange(starts.shape[0] - 1):
        camera = _window(tile, size)[0]
        _tile_backward(
            tile,
            splats[camera],
            colours,
            boxes[camera],
            first[camera * count : camera * count + count],
            members[starts[tile] : starts[tile + 1]],
            size,
            limits,
            remaining[camera],
            last[camera],
            g_drawn[camera],
            g_depth[camera],
            g_remaining[camera],
            parts,
        )
    return parts


@kernel  # type: ignore[untyped-decorator]
def _tile_backward(
    tile: int,
    splats: Any,
    colours: Any,
    boxes: Any,
    first: Any,
    members: Any,
    size: tuple[int, int],
    limits: Any,
    remaining: Any,
    last: Any,
    g_drawn: Any,
    g_depth: Any,
    g_remaining: Any,
    parts: Any,
) -> None:
    """Walk a tile's list from far to near.

    ``light`` is the transmittance in front of a splat, recovered by division. ``behind`` is what a pixel's
    objective owes to all that lies behind it, per unit of transmittance left: enough, since colours and
    depths matter only through their product with the gradient.
    """
    kind = splats.dtype.type
    half, one = kind(0.5), kind(1)
    cap = limits[0]
    _, left, right, top, bottom = _window(tile, size)
    light = remaining[top:bottom, left:right].copy()
    behind = remaining[top:bottom, left:right] * g_remaining[top:bottom, left:right]
    deepest = last[top:bottom, left:right].max()
    for k in range(members.shape[0] - 1, -1, -1):
        i = members[k]
        splat, box = splats[i], boxes[i]
        part = parts[first[i] + _tile_of(box, left, top)]
        part[:] = 0
        if k > deepest:
            continue
        xx, xy, yy = half * splat[XX], splat[XY], half * splat[YY]
        opacity, reach, z = splat[OPACITY], splat[REACH], splat[DEPTH]
        g_x, g_y, g_xx, g_xy, g_yy = kind(0), kind(0), kind(0), kind(0), kind(0)
        g_opacity, g_z = kind(0), kind(0)
        for row in range(max(top, box[2]), min(bottom, box[3])):
            dy = splat[Y] - (kind(row) + half)
            for column in range(max(left, box[0]), min(right, box[1])):
                if k > last[row, column]:
                    continue
                dx = splat[X] - (kind(column) + half)
                exponent = xx * dx * dx + xy * dx * dy + yy * dy * dy
                if not 0 <= exponent <= reach:
                    continue
                falloff = math.exp(-exponent)
                alpha = min(cap, opacity * falloff)
                through = one - alpha
                before = light[row - top, column - left] / through
                light[row - top, column - left] = before
                weight = alpha * before
                toward = g_depth[row, column] * z
                g_z += weight * g_depth[row, column]
                for channel in range(colours.shape[1]):
                    pull = g_drawn[row, column, channel]
                    part[COLOUR + channel] += weight * pull
                    toward += pull * colours[i, channel]
                owed = behind[row - top, column - left]
                behind[row - top, column - left] = owed + weight * toward
                if alpha >= cap:
                    continue
                grad = before * toward - owed / through
                g_opacity += falloff * grad
                slope = -alpha * grad
                g_x += slope * dx
                g_y += slope * dy
                g_xx += slope * dx * dx
                g_xy += slope * dx * dy
                g_yy += slope * dy * dy
        part[X], part[Y] = splat[XX] * g_x + xy * g_y, xy * g_x + splat[YY] * g_y
        part[XX], part[XY], part[YY] = half * g_xx, g_xy, half * g_yy
        part[OPACITY], part[DEPTH] = g_opacity, g_z


@kernel  # type: ignore[untyped-decorator]
def _tile_of(box: Any, left: int, top: int) -> Any:
    """Number of a tile among those that a box touches."""
    first, end, row, _ = _tiles(box)
    return (top // TILE - row) * (end - first) + left // TILE - first
