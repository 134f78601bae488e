"""Numba kernels: the gradient of compositing, tile by tile and patch by patch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from sage_core.splatting._lane_access import first_bit, load, select, spread, store, total, totals
from sage_core.splatting._lanes import LANES
from sage_core.splatting._numba import inlined, kernel, parallel_kernel
from sage_core.splatting._projection_kernels import (
    COLOUR,
    DEPTH,
    OPACITY,
    REACH,
    SPLAT,
    XX,
    XY,
    YY,
    X,
    Y,
)
from sage_core.splatting._tiles import (
    CHUNK,
    PATCHES,
    TILE,
    centres,
    exponent,
    gather,
    patch_of,
    tile_origin,
)

LIGHT, BEHIND, PULLS = 0, LANES, 2 * LANES
"""Where a patch's numbers begin on the canvas: the light in front of the splat, recovered by division; what
the pixel's objective owes to all that lies behind it, per unit of light left; and the gradients of the sums
of each colour channel and of z. The second is one number, since colours and z matter only through their
product with those gradients."""


@parallel_kernel  # type: ignore[untyped-decorator]
def composite_backward(
    splats: Any,
    colours: Any,
    starts: Any,
    members: Any,
    rows: Any,
    reached: Any,
    size: tuple[int, int],
    limits: Any,
    remaining: Any,
    last: Any,
    g_drawn: Any,
    g_depth: Any,
    g_remaining: Any,
) -> Any:
    """What each tile adds to the gradients of its splats: rows [total, 8 + D], splat by splat.

    The rows of one splat lie side by side, one for each tile that it touches, so that they can be added
    up without regard to who wrote them.
    """
    channels = colours.shape[1]
    parts = np.empty((members.shape[0], COLOUR + channels), splats.dtype)
    for tile in prange(starts.shape[0] - 1):
        camera, left, top = tile_origin(tile, size)
        canvas = np.zeros((PATCHES, PULLS + (channels + 1) * LANES), splats.dtype)
        latest = np.full((PATCHES, LANES), -1, np.int32)
        _read(
            left,
            top,
            remaining[camera],
            last[camera],
            g_drawn[camera],
            g_depth[camera],
            g_remaining[camera],
            canvas,
            latest,
        )
        start, end = starts[tile], starts[tile + 1]
        _tile_backward(
            left,
            top,
            splats[camera],
            colours,
            members[start:end],
            rows[start:end],
            reached[start:end],
            limits[0],
            canvas,
            latest,
            parts,
        )
    return parts


@kernel  # type: ignore[untyped-decorator]
def _read(
    left: int,
    top: int,
    remaining: Any,
    last: Any,
    g_drawn: Any,
    g_depth: Any,
    g_remaining: Any,
    canvas: Any,
    latest: Any,
) -> None:
    """A tile's pixels, sorted into patches."""
    channels = g_drawn.shape[2]
    for row in range(top, min(top + TILE, remaining.shape[0])):
        for column in range(left, min(left + TILE, remaining.shape[1])):
            patch, lane = patch_of(row - top, column - left)
            light = remaining[row, column]
            canvas[patch, LIGHT + lane] = light
            canvas[patch, BEHIND + lane] = light * g_remaining[row, column]
            for channel in range(channels):
                canvas[patch, PULLS + LANES * channel + lane] = g_drawn[row, column, channel]
            canvas[patch, PULLS + LANES * channels + lane] = g_depth[row, column]
            latest[patch, lane] = last[row, column]


@kernel  # type: ignore[untyped-decorator]
def _tile_backward(
    left: int,
    top: int,
    splats: Any,
    colours: Any,
    members: Any,
    rows: Any,
    reached: Any,
    cap: Any,
    canvas: Any,
    latest: Any,
    parts: Any,
) -> None:
    """Walk a tile's splats from far to near, each through the patches that it contributes to."""
    table = np.empty((CHUNK, SPLAT + colours.shape[1]), splats.dtype)
    g_colours = np.empty((colours.shape[1], LANES), splats.dtype)
    x, y = np.empty((PATCHES, LANES), splats.dtype), np.empty((PATCHES, LANES), splats.dtype)
    centres(left, top, x, y)
    for start in range((members.shape[0] - 1) // CHUNK * CHUNK, -1, -CHUNK):
        own = members[start : start + CHUNK]
        gather(splats, colours, own, table)
        for k in range(own.shape[0] - 1, -1, -1):
            splat, part = table[k], parts[rows[start + k]]
            zero = spread(splats.dtype.type(0))
            g_x, g_y, g_xx, g_xy, g_yy, g_opacity, g_z = zero, zero, zero, zero, zero, zero, zero
            for channel in range(g_colours.shape[0]):
                store(g_colours[channel], 0, zero)
            bits = np.int64(reached[start + k])
            while bits != 0:
                patch = first_bit(bits)
                bits &= bits - 1
                dx, dy = splat[X] - load(x[patch], 0), splat[Y] - load(y[patch], 0)
                mine = load(latest[patch], 0) >= start + k
                slope, z = _patch_backward(splat, dx, dy, mine, cap, canvas[patch], g_colours)
                along, across = slope * dx, slope * dy
                g_opacity, g_z = g_opacity - slope, g_z + z
                g_x, g_y = g_x + along, g_y + across
                g_xx, g_xy, g_yy = g_xx + along * dx, g_xy + along * dy, g_yy + across * dy
            # In the order of a splat's columns.
            sums = totals(
                splat[XX] * g_x + splat[XY] * g_y,
                splat[XY] * g_x + splat[YY] * g_y,
                g_xx / 2,
                g_xy,
                g_yy / 2,
                g_opacity / splat[OPACITY],
                g_z,
                zero,
            )
            store(part, 0, sums)
            for channel in range(g_colours.shape[0]):
                part[COLOUR + channel] = total(load(g_colours[channel], 0))


@inlined  # type: ignore[untyped-decorator]
def _patch_backward(
    splat: Any, dx: Any, dy: Any, mine: Any, cap: Any, pixels: Any, g_colours: Any
) -> tuple[Any, Any]:
    """Take a splat off a patch: gradients of the exponent and of z; those of its colour are added.

    Args:
        mine: where no pixel had ended yet.
    """
    channels = g_colours.shape[0]
    distance = exponent(splat, dx, dy)
    lit = mine & (distance >= 0) & (distance <= splat[REACH])
    unbounded = splat[OPACITY] * math.exp(-distance)
    alpha = min(spread(cap), unbounded)
    gain = 1 / (1 - alpha)
    light, owed = load(pixels, LIGHT), load(pixels, BEHIND)
    before = light * gain
    weight = select(lit, alpha * before, 0)
    pull = load(pixels, PULLS + channels * LANES)
    toward, g_z = splat[DEPTH] * pull, weight * pull
    for channel in range(channels):
        pull = load(pixels, PULLS + channel * LANES)
        toward = toward + splat[SPLAT + channel] * pull
        store(g_colours[channel], 0, load(g_colours[channel], 0) + weight * pull)
    store(pixels, LIGHT, select(lit, before, light))
    store(pixels, BEHIND, owed + weight * toward)
    slope = alpha * (owed * gain - before * toward)
    return select(lit & (unbounded < cap), slope, 0), g_z
