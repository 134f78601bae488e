"""Numba kernels: which splats touch which tile, near to far."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sage_core.splatting._numba import inlined, kernel, parallel_kernel
from sage_core.splatting._tiles import TILE, grid, patch_bits

_DIGIT_BITS = 11
_DIGITS = 1 << _DIGIT_BITS


@parallel_kernel  # type: ignore[untyped-decorator]
def bin_tiles(boxes: Any, depth_bits: Any, size: tuple[int, int]) -> tuple[Any, ...]:
    """Pairs of a tile and a splat that touches it, in the splats' order within a tile.

    What later kernels need of a splat's box is written here, where boxes are read one after the other.

    Args:
        depth_bits: [C, N] the splats' z, its bits read as whole numbers: floats above 0 keep their
            order so.

    Returns:
        first: int64 [C · N + 1], running count of the tiles that each splat touches.
        starts: int64 [C · tiles + 1], where each tile's pairs begin; tiles row by row.
        keys: [total] ``depth_bits`` of the pairs' splats.
        members: int32 [total], the splats.
        rows: int64 [total], the pairs' places if they were listed splat by splat.
        touched: uint32 [total], which of the tile's patches the splat's box touches, bit by bit.
    """
    cameras, count = boxes.shape[:2]
    columns, tiles = grid(size)[0], grid(size)[0] * grid(size)[1]
    counts = np.zeros(cameras * count + 1, np.int64)
    sizes = np.zeros(cameras * tiles + 1, np.int64)
    for camera in prange(cameras):
        base = camera * tiles + 1
        for i in range(count):
            left, right, top, bottom = _tiles(boxes[camera, i])
            counts[camera * count + i + 1] = (right - left) * (bottom - top)
            for row in range(top, bottom):
                for column in range(left, right):
                    sizes[base + row * columns + column] += 1
    first, starts = np.cumsum(counts), np.cumsum(sizes)
    keys, members = np.empty(starts[-1], depth_bits.dtype), np.empty(starts[-1], np.int32)
    rows, touched = np.empty(starts[-1], np.int64), np.empty(starts[-1], np.uint32)
    for camera in prange(cameras):
        free = starts[camera * tiles : camera * tiles + tiles].copy()
        place = first[camera * count]
        for i in range(count):
            box = boxes[camera, i]
            left, right, top, bottom = _tiles(box)
            for row in range(top, bottom):
                for column in range(left, right):
                    pair = free[row * columns + column]
                    free[row * columns + column] += 1
                    keys[pair], members[pair], rows[pair] = depth_bits[camera, i], i, place
                    touched[pair] = patch_bits(box, column * TILE, row * TILE)
                    place += 1
    return first, starts, keys, members, rows, touched


@inlined  # type: ignore[untyped-decorator]
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
def sort_tiles(starts: Any, keys: Any, members: Any, rows: Any, touched: Any) -> None:
    """Order each tile's pairs near to far, equals as they are."""
    for tile in prange(starts.shape[0] - 1):
        start, end = starts[tile], starts[tile + 1]
        order = np.arange(end - start).astype(np.int32)
        _sort(keys[start:end], order)
        _permute(members[start:end], order)
        _permute(rows[start:end], order)
        _permute(touched[start:end], order)


@kernel  # type: ignore[untyped-decorator]
def _permute(values: Any, order: Any) -> None:
    before = values.copy()
    for k in range(order.shape[0]):
        values[k] = before[order[k]]


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
