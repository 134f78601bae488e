"""Numba kernels: composite each tile front to back, patch by patch.

Tiles are one thread's work from start to end and write only their own pixels, so that no result depends
on the number of threads.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from sage_core.splatting._lane_access import first_bit, load, select, some, spread, store
from sage_core.splatting._lanes import LANES
from sage_core.splatting._numba import inlined, kernel, parallel_kernel
from sage_core.splatting._projection_kernels import DEPTH, OPACITY, REACH, SPLAT, X, Y
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

LIGHT, SUMS = 0, LANES
"""Where a patch's numbers begin on the canvas: what light is left, negative where the pixel has ended (it
then takes no more), and the sums of each colour channel and of z."""
_USUAL = 4
"""Most splats touch no more patches of a tile."""


@parallel_kernel  # type: ignore[untyped-decorator]
def composite(
    splats: Any,
    colours: Any,
    starts: Any,
    members: Any,
    touched: Any,
    size: tuple[int, int],
    limits: Any,
) -> tuple[Any, ...]:
    """Front to back, the sums of alpha · transmittance times colour and times z.

    Args:
        starts, members, touched: pairs of a tile and a splat, sorted, from the binning.
        limits: largest alpha, and the transmittance at which a pixel ends.

    Returns:
        drawn: colour [C, H, W, D].
        depth: [C, H, W].
        remaining: the transmittance that remains [C, H, W].
        last: each pixel's last contributor int32 [C, H, W], a position among its tile's pairs; -1 where
            there is none.
        reached: uint32 [pairs], the patches that a splat contributes to, bit by bit.
    """
    shape = (splats.shape[0], size[1], size[0])
    drawn = np.empty((*shape, colours.shape[1]), splats.dtype)
    depth, remaining = np.empty(shape, splats.dtype), np.empty(shape, splats.dtype)
    last = np.empty(shape, np.int32)
    reached = np.zeros(members.shape[0], np.uint32)
    for tile in prange(starts.shape[0] - 1):
        camera, left, top = tile_origin(tile, size)
        start, end = starts[tile], starts[tile + 1]
        canvas = np.zeros((PATCHES, SUMS + (colours.shape[1] + 1) * LANES), splats.dtype)
        latest = np.full((PATCHES, LANES), -1, np.int32)
        _light(canvas, min(size[0] - left, TILE), min(size[1] - top, TILE))
        _composite_tile(
            left,
            top,
            splats[camera],
            colours,
            members[start:end],
            touched[start:end],
            limits,
            canvas,
            latest,
            reached[start:end],
        )
        _write(
            left,
            top,
            canvas,
            latest,
            drawn[camera],
            depth[camera],
            remaining[camera],
            last[camera],
        )
    return drawn, depth, remaining, last, reached


@kernel  # type: ignore[untyped-decorator]
def _light(canvas: Any, width: int, height: int) -> None:
    """All light is there, and none in the pixels of the tile that lie outside of the image."""
    for row in range(height):
        for column in range(width):
            patch, lane = patch_of(row, column)
            canvas[patch, LIGHT + lane] = 1


@kernel  # type: ignore[untyped-decorator]
def _write(
    left: int,
    top: int,
    canvas: Any,
    latest: Any,
    drawn: Any,
    depth: Any,
    remaining: Any,
    last: Any,
) -> None:
    """A tile's pixels, from patches to their places in the images."""
    channels = drawn.shape[2]
    for row in range(top, min(top + TILE, drawn.shape[0])):
        for column in range(left, min(left + TILE, drawn.shape[1])):
            patch, lane = patch_of(row - top, column - left)
            for channel in range(channels):
                drawn[row, column, channel] = canvas[patch, SUMS + LANES * channel + lane]
            depth[row, column] = canvas[patch, SUMS + LANES * channels + lane]
            remaining[row, column] = abs(canvas[patch, LIGHT + lane])
            last[row, column] = latest[patch, lane]


@kernel  # type: ignore[untyped-decorator]
def _ended(canvas: Any) -> bool:
    brightest = load(canvas[0], LIGHT)
    for patch in range(1, canvas.shape[0]):
        brightest = max(brightest, load(canvas[patch], LIGHT))
    return not some(brightest > 0)


@kernel  # type: ignore[untyped-decorator]
def _composite_tile(
    left: int,
    top: int,
    splats: Any,
    colours: Any,
    members: Any,
    touched: Any,
    limits: Any,
    canvas: Any,
    latest: Any,
    reached: Any,
) -> None:
    table = np.empty((CHUNK, SPLAT + colours.shape[1]), splats.dtype)
    pairs = CHUNK * PATCHES + _USUAL
    owners, places = np.empty(pairs, np.uint32), np.empty(pairs, np.uint32)
    x, y = np.empty((PATCHES, LANES), splats.dtype), np.empty((PATCHES, LANES), splats.dtype)
    centres(left, top, x, y)
    for start in range(0, members.shape[0], CHUNK):
        if _ended(canvas):
            break
        own = members[start : start + CHUNK]
        gather(splats, colours, own, table)
        count = _flatten(touched[start : start + CHUNK], owners, places)
        for n in range(count):
            k, patch = owners[n], places[n]
            lit = _add(
                start + k,
                table[k],
                load(x[patch], 0),
                load(y[patch], 0),
                limits[0],
                limits[1],
                canvas[patch],
                latest[patch],
            )
            reached[start + k] |= np.uint32(lit) << patch


@inlined  # type: ignore[untyped-decorator]
def _flatten(touched: Any, owners: Any, places: Any) -> int:
    """All pairs of a member and a patch that its box touches, member by member; their number."""
    n = 0
    for k in range(touched.shape[0]):
        bits = np.int64(touched[k])
        for _ in range(
            _USUAL
        ):  # no branch that could be guessed wrong: what is too much is written over
            owners[n], places[n] = k, first_bit(bits)
            n += bits != 0
            bits &= bits - 1
        while bits != 0:
            owners[n], places[n] = k, first_bit(bits)
            n += 1
            bits &= bits - 1
    return n


@inlined  # type: ignore[untyped-decorator]
def _add(k: int, splat: Any, x: Any, y: Any, cap: Any, dark: Any, pixels: Any, latest: Any) -> Any:
    """Composite a splat into a patch; whether any of it is seen there.

    All is stored, also what stays: to store some lanes of a vector takes many times as long.
    """
    distance = exponent(splat, splat[X] - x, splat[Y] - y)
    reached = (distance >= 0) & (distance <= splat[REACH])
    alpha = min(spread(cap), splat[OPACITY] * math.exp(-distance))
    before = load(pixels, LIGHT)
    after = before * (1 - alpha)
    lit = reached & (after > dark)
    weight = select(lit, alpha * before, 0)
    store(pixels, LIGHT, select(reached, select(lit, after, min(before, -before)), before))
    store(latest, 0, max(load(latest, 0), select(lit, spread(np.int32(k)), -1)))
    channels = splat.shape[0] - SPLAT
    for channel in range(channels):
        place = SUMS + channel * LANES
        store(pixels, place, load(pixels, place) + weight * splat[SPLAT + channel])
    place = SUMS + channels * LANES
    store(pixels, place, load(pixels, place) + weight * splat[DEPTH])
    return some(lit)
