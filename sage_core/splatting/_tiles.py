"""How an image is cut: into tiles, each one thread's work, and those into patches of one pixel per lane.

Splats of a pixel in size touch few pixels, and not in rows of eight: patches are 4 x 2.
"""

from __future__ import annotations

from typing import Any

from sage_core.splatting._lane_access import load, store
from sage_core.splatting._lanes import LANES
from sage_core.splatting._numba import inlined, kernel
from sage_core.splatting._projection_kernels import SPLAT, XX, XY, YY

TILE = 16
PATCH_WIDTH, PATCH_HEIGHT = 4, LANES // 4
PATCH_COLUMNS, PATCH_ROWS = TILE // PATCH_WIDTH, TILE // PATCH_HEIGHT
PATCHES = PATCH_COLUMNS * PATCH_ROWS
"""32: a set of a tile's patches is the bits of an uint32."""
CHUNK = 64
"""So many of a tile's splats are copied side by side before they are worked on: waiting for memory, the
processor can fetch the next in a loop that does nothing else."""
_EACH_ROW = sum(1 << PATCH_COLUMNS * row for row in range(PATCH_ROWS))


@kernel  # type: ignore[untyped-decorator]
def grid(size: tuple[int, int]) -> tuple[int, int]:
    """Columns and rows of tiles."""
    return (size[0] + TILE - 1) // TILE, (size[1] + TILE - 1) // TILE


@kernel  # type: ignore[untyped-decorator]
def tile_origin(tile: int, size: tuple[int, int]) -> tuple[int, int, int]:
    """Camera of a tile, and its first pixel's column and row."""
    columns, rows = grid(size)
    camera, place = tile // (columns * rows), tile % (columns * rows)
    return camera, place % columns * TILE, place // columns * TILE


@inlined  # type: ignore[untyped-decorator]
def gather(splats: Any, colours: Any, members: Any, table: Any) -> None:
    """Fill a table [members, 8 + D] with splats and their colours, side by side."""
    for k in range(members.shape[0]):
        i = members[k]
        store(table[k], 0, load(splats[i], 0))
        for channel in range(colours.shape[1]):
            table[k, SPLAT + channel] = colours[i, channel]


@kernel  # type: ignore[untyped-decorator]
def centres(left: int, top: int, x: Any, y: Any) -> None:
    """Fill in the pixel centres [patches, 8] of a tile."""
    for patch in range(PATCHES):
        for lane in range(LANES):
            x[patch, lane] = left + patch % PATCH_COLUMNS * PATCH_WIDTH + lane % PATCH_WIDTH + 0.5
            y[patch, lane] = top + patch // PATCH_COLUMNS * PATCH_HEIGHT + lane // PATCH_WIDTH + 0.5


@kernel  # type: ignore[untyped-decorator]
def patch_of(row: int, column: int) -> tuple[int, int]:
    """Patch and lane of a pixel of a tile."""
    return (
        row // PATCH_HEIGHT * PATCH_COLUMNS + column // PATCH_WIDTH,
        row % PATCH_HEIGHT * PATCH_WIDTH + column % PATCH_WIDTH,
    )


@inlined  # type: ignore[untyped-decorator]
def exponent(splat: Any, dx: Any, dy: Any) -> Any:
    """Of the falloff: half the squared distance by the splat's own measure."""
    half = splat.dtype.type(0.5)
    return dx * (half * splat[XX] * dx + splat[XY] * dy) + half * splat[YY] * dy * dy


@inlined  # type: ignore[untyped-decorator]
def patch_bits(box: Any, left: int, top: int) -> Any:
    """Which of a tile's patches a box touches: bit by bit, row by row."""
    first_column = max(box[0] - left, 0) // PATCH_WIDTH
    end_column = (min(box[1] - left, TILE) + PATCH_WIDTH - 1) // PATCH_WIDTH
    first_row = max(box[2] - top, 0) // PATCH_HEIGHT
    end_row = (min(box[3] - top, TILE) + PATCH_HEIGHT - 1) // PATCH_HEIGHT
    rows = (1 << PATCH_COLUMNS * end_row) - (1 << PATCH_COLUMNS * first_row)
    return rows & ((1 << end_column) - (1 << first_column)) * _EACH_ROW
