"""Numba kernels: composite each tile front to back, patch by patch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from sage_core.splatting._lanes import LANES, load, select, some, spread, store
from sage_core.splatting._numba import kernel, parallel_kernel
from sage_core.splatting._projection_kernels import DEPTH, OPACITY, REACH, XX, XY, YY, X, Y
from sage_core.splatting._tiles import (
    PATCH_COLUMNS,
    PATCH_HEIGHT,
    PATCH_WIDTH,
    PATCHES,
    TILE,
    centres,
    patch_range,
    tile_origin,
)

LIGHT, REMAINING, SUMS = 0, LANES, 2 * LANES
_PAUSE = 32


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
    shape = (splats.shape[0], size[1], size[0])
    drawn = np.empty((splats.shape[0], size[1], size[0], colours.shape[1]), splats.dtype)
    depth, remaining = np.empty(shape, splats.dtype), np.empty(shape, splats.dtype)
    last = np.empty(shape, np.int32)
    for tile in prange(starts.shape[0] - 1):
        camera, left, top = tile_origin(tile, size)
        canvas = np.zeros((PATCHES, SUMS + (colours.shape[1] + 1) * LANES), splats.dtype)
        latest = np.full((PATCHES, LANES), -1, np.int32)
        _clear(canvas, min(size[0] - left, TILE), min(size[1] - top, TILE))
        _composite_tile(
            left,
            top,
            splats[camera],
            colours,
            boxes[camera],
            members[starts[tile] : starts[tile + 1]],
            limits,
            canvas,
            latest,
        )
        _write(left, top, canvas, latest, drawn[camera], depth[camera], remaining[camera], last[camera])
    return drawn, depth, remaining, last


@kernel  # type: ignore[untyped-decorator]
def _clear(canvas: Any, width: int, height: int) -> None:
    """All light is there, but outside of the image, where there is nothing to draw."""
    for row in range(height):
        for column in range(width):
            patch = row // PATCH_HEIGHT * PATCH_COLUMNS + column // PATCH_WIDTH
            lane = row % PATCH_HEIGHT * PATCH_WIDTH + column % PATCH_WIDTH
            canvas[patch, LIGHT + lane] = canvas[patch, REMAINING + lane] = 1


@kernel  # type: ignore[untyped-decorator]
def _write(left: int, top: int, canvas: Any, latest: Any, drawn: Any, depth: Any, remaining: Any, last: Any) -> None:
    channels = drawn.shape[2]
    for row in range(top, min(top + TILE, drawn.shape[0])):
        for column in range(left, min(left + TILE, drawn.shape[1])):
            y, x = row - top, column - left
            patch = y // PATCH_HEIGHT * PATCH_COLUMNS + x // PATCH_WIDTH
            lane = y % PATCH_HEIGHT * PATCH_WIDTH + x % PATCH_WIDTH
            for channel in range(channels):
                drawn[row, column, channel] = canvas[patch, SUMS + LANES * channel + lane]
            depth[row, column] = canvas[patch, SUMS + LANES * channels + lane]
            remaining[row, column] = canvas[patch, REMAINING + lane]
            last[row, column] = latest[patch, lane]


@kernel  # type: ignore[untyped-decorator]
def _dark(canvas: Any) -> bool:
    for patch in range(canvas.shape[0]):
        if some(load(canvas[patch], LIGHT) > 0):
            return False
    return True


@kernel  # type: ignore[untyped-decorator]
def _composite_tile(
    left: int,
    top: int,
    splats: Any,
    colours: Any,
    boxes: Any,
    members: Any,
    limits: Any,
    canvas: Any,
    latest: Any,
) -> None:
    channels = colours.shape[1]
    kind = splats.dtype.type
    cap, dark = limits
    for k in range(members.shape[0]):
        if k % _PAUSE == 0 and _dark(canvas):
            break
        i = members[k]
        splat = splats[i]
        first_column, end_column, first_row, end_row = patch_range(boxes[i], left, top)
        x, y = centres(left, top, kind(0))
        across, down = splat[X] - x, splat[Y] - y
        xx, xy, yy = splat[XX] * kind(0.5), splat[XY], splat[YY] * kind(0.5)
        opacity, reach, z = splat[OPACITY], splat[REACH], splat[DEPTH]
        for column in range(first_column, end_column):
            dx = across - column * PATCH_WIDTH
            bent, flat = xy * dx, xx * dx * dx
            for row in range(first_row, end_row):
                dy = down - row * PATCH_HEIGHT
                pixels = canvas[row * PATCH_COLUMNS + column]
                exponent = flat + dy * (bent + yy * dy)
                before = load(pixels, LIGHT)
                reached = (exponent >= 0) & (exponent <= reach) & (before > 0)
                if not some(reached):
                    continue
                alpha = min(spread(cap), opacity * math.exp(-exponent))
                after = before * (1 - alpha)
                lit = reached & (after > dark)
                weight = select(lit, alpha * before, 0)
                store(pixels, LIGHT, select(reached, select(lit, after, 0), before))
                store(pixels, REMAINING, select(lit, after, load(pixels, REMAINING)))
                late = latest[row * PATCH_COLUMNS + column]
                store(late, 0, select(lit, k, load(late, 0)))
                for channel in range(channels):
                    place = SUMS + channel * LANES
                    store(pixels, place, load(pixels, place) + weight * colours[i, channel])
                place = SUMS + channels * LANES
                store(pixels, place, load(pixels, place) + weight * z)
