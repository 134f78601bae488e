"""Which frames of a sequence make a test tuple: overlapping views, chosen by true depth, once and for all.

The paper draws the first view at random and each next one by its geometric overlap with the views chosen so
far. Overlap of two views is the mean, over both directions, of the share of pixels with depth that the other
view sees too: they land in its picture, and at the depth that it measured (within 10 %, since
one measurement stands for a cell of the coarse grid that is compared).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.errors import SageError
from sage_core.evaluation.datasets import Scene
from sage_core.geometry import invert, project, transform, unproject
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
_GRID = (24, 32)
_DEPTH_TOLERANCE = 0.1
_TRIES = 200


Grid = tuple[Array, Array, Array]
"""A coarse grid of a frame's pixels: their centres x [c], y [r], and depths [r, c]."""


def coarse_grids(sequence: Scene) -> list[Grid]:
    """The grids of all frames, which overlap is computed on."""
    return [_coarse(sequence.depth(index)) for index in range(len(sequence))]


def overlap_matrix(sequence: Scene, grids: list[Grid] | None = None) -> Array:
    """Overlap of all pairs of frames, float64 [N, N], 0..1, ones on the diagonal."""
    coarse = grids if grids is not None else coarse_grids(sequence)
    count = len(coarse)
    covered = np.eye(count)
    for b in range(count):
        world = _world_points(coarse[b], sequence, b)
        for a in range(count):
            if a != b and len(world):
                covered[a, b] = _seen(world, coarse[a], sequence, a).mean()
    return np.asarray((covered + covered.T) / 2)


def coverage(scene: Scene, grids: list[Grid], inputs: Sequence[int], target: int) -> float:
    """Share of a frame's pixels with depth that one of the inputs sees, too, at the depth measured there."""
    world = _world_points(grids[target], scene, target)
    if not len(world):
        return 0.0
    return float(np.any([_seen(world, grids[i], scene, i) for i in inputs], axis=0).mean())


def _coarse(depth: npt.NDArray[np.float32]) -> Grid:
    rows = ((np.arange(_GRID[0]) + 0.5) * depth.shape[0] / _GRID[0]).astype(int)
    columns = ((np.arange(_GRID[1]) + 0.5) * depth.shape[1] / _GRID[1]).astype(int)
    return columns + 0.5, rows + 0.5, depth[np.ix_(rows, columns)].astype(np.float64)


def _world_points(coarse: Grid, sequence: Scene, index: int) -> Array:
    x, y, depth = coarse
    pixels = np.stack(np.meshgrid(x, y), axis=-1)
    known = depth > 0
    frame = sequence.frames[index]
    camera = unproject(frame.intrinsics, pixels[known], depth[known])
    return transform(invert(frame.cam_from_world), camera)


def _seen(world: Array, coarse: Grid, sequence: Scene, index: int) -> npt.NDArray[np.bool_]:
    """Which world points [N, 3] a frame sees at the depth that it measured."""
    xs, ys, depth = coarse
    frame = sequence.frames[index]
    pixels, z = project(frame.intrinsics, transform(frame.cam_from_world, world))
    column = np.full(len(z), -1)
    row = column.copy()
    ahead = z > 0
    column[ahead] = np.floor(pixels[ahead, 0] / (xs[1] - xs[0])).clip(-1, len(xs))
    row[ahead] = np.floor(pixels[ahead, 1] / (ys[1] - ys[0])).clip(-1, len(ys))
    inside = (column >= 0) & (column < len(xs)) & (row >= 0) & (row < len(ys))
    measured = np.zeros(len(z))
    measured[inside] = depth[row[inside], column[inside]]
    agrees = np.abs(measured - z) < _DEPTH_TOLERANCE * z
    return np.asarray(inside & (measured > 0) & agrees)


def draw_tuples(
    overlap: Array, views: int, count: int, seed: int, min_overlap: float, max_overlap: float
) -> list[list[int]]:
    """Up to ``count`` different tuples of ``views`` frames, grown by overlap from random first views.

    A frame may join when its largest overlap with those chosen so far lies within the band.
    """
    rng = np.random.default_rng([seed, views])
    found: dict[tuple[int, ...], list[int]] = {}
    for _ in range(_TRIES * count):
        if len(found) == count:
            break
        grown = _grow(overlap, views, rng, min_overlap, max_overlap)
        if grown is not None:
            found.setdefault(tuple(sorted(grown)), grown)
    return list(found.values())


def _grow(
    overlap: Array, views: int, rng: np.random.Generator, low: float, high: float
) -> list[int] | None:
    chosen = [int(rng.integers(len(overlap)))]
    while len(chosen) < views:
        best = overlap[chosen].max(axis=0)
        fits = (best >= low) & (best <= high)
        fits[chosen] = False
        candidates = np.flatnonzero(fits)
        if not len(candidates):
            return None
        chosen.append(int(rng.choice(candidates)))
    return chosen


def frozen_tuples(
    sequence: Scene,
    views: int,
    count: int,
    seed: int,
    band: tuple[float, float],
    lists: Path | None = None,
) -> list[list[int]]:
    """The sequence's tuples under these rules: drawn once, then read from ``lists``.

    Raises:
        SageError: not a single tuple can be drawn.
    """
    rules = {
        "sequence": sequence.name,
        "frames": [frame.image.name for frame in sequence.frames],
        "views": views,
        "count": count,
        "seed": seed,
        "overlap": list(band),
    }

    def draw() -> list[list[int]]:
        tuples = draw_tuples(overlap_matrix(sequence), views, count, seed, *band)
        if not tuples:
            raise SageError(
                f"{sequence.folder}: no {views} of its {len(sequence)} frames overlap by "
                f"{band[0]:g} to {band[1]:g}: ask for fewer views or a wider band "
                "(evaluate.views, evaluate.min_overlap, evaluate.max_overlap)",
                reason=Reason.NO_DATA,
            )
        return tuples

    return _kept(rules, draw, lists)


def _kept(
    rules: dict[str, object], draw: Callable[[], list[list[int]]], lists: Path | None
) -> list[list[int]]:
    if lists is None:
        return draw()
    digest = hashlib.sha256(json.dumps(rules, sort_keys=True).encode()).hexdigest()[:16]
    file = lists / f"tuples-{digest}.json"
    if not file.exists():
        lists.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps({"rules": rules, "tuples": draw()}, indent=1))
        partial.replace(file)
    tuples: list[list[int]] = json.loads(file.read_text())["tuples"]
    return tuples
