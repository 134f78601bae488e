"""How an image is cut: tiles, each one thread's work, and patches, each as many pixels as there are lanes."""

from __future__ import annotations

from typing import Any

from sage_core.splatting._lanes import LANES, ramp
from sage_core.splatting._numba import kernel
import math

TILE = 16
PATCH_WIDTH, PATCH_HEIGHT = 4, LANES // 4
PATCH_COLUMNS, PATCH_ROWS = TILE // PATCH_WIDTH, TILE // PATCH_HEIGHT
PATCHES = PATCH_COLUMNS * PATCH_ROWS


@kernel  # type: ignore[untyped-decorator]
def tile_origin(tile: int, size: tuple[int, int]) -> tuple[int, int, int]:
    """Camera of a tile, and its first pixel's column and row."""
    columns, rows = (size[0] + TILE - 1) // TILE, (size[1] + TILE - 1) // TILE
    camera, place = tile // (columns * rows), tile % (columns * rows)
    return camera, place % columns * TILE, place // columns * TILE


@kernel  # type: ignore[untyped-decorator]
def centres(left: int, top: int, like: Any) -> tuple[Any, Any]:
    """Pixel centres x and y of the patch whose first pixel is given."""
    number = ramp(like)
    row = math.floor(number / PATCH_WIDTH)
    return number - row * PATCH_WIDTH + (left + 0.5), row + (top + 0.5)


@kernel  # type: ignore[untyped-decorator]
def patch_range(box: Any, left: int, top: int) -> tuple[int, int, int, int]:
    """First and one past the last column and row of a tile's patches that a box touches."""
    return (
        max(box[0] - left, 0) // PATCH_WIDTH,
        (min(box[1] - left, TILE) + PATCH_WIDTH - 1) // PATCH_WIDTH,
        max(box[2] - top, 0) // PATCH_HEIGHT,
        (min(box[3] - top, TILE) + PATCH_HEIGHT - 1) // PATCH_HEIGHT,
    )
