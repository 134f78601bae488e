"""Patterns of the look "graphic": designed surfaces. No training ever sees it; tests do."""

from __future__ import annotations

import numpy as np

from sage_core.world.patterns import SIZE, Map, Rng, grid, mixed, muted, noise


def triangles(rng: Rng) -> Map:
    """Facets in a few greys."""
    x, y = grid()
    count = int(rng.integers(4, 8))
    column, row = np.floor(x * count).astype(int), np.floor(y * count).astype(int)
    upper = ((x * count) % 1 > (y * count) % 1).astype(int)
    return mixed(rng.uniform(0.2, 1.0, (count, count, 2))[row, column, upper], rng, 0.35)


def hexagons(rng: Rng) -> Map:
    """A honeycomb, each cell with its own shade."""
    x, y = grid()
    count = int(rng.integers(2, 5)) * 2
    nearest = np.full((SIZE, SIZE), np.inf)
    shade = np.zeros((SIZE, SIZE))
    for row in range(count):
        for column in range(count):
            cx, cy = (column + 0.5 * (row % 2)) / count, row / count
            dx, dy = np.abs(x - cx), np.abs(y - cy)
            distance = np.hypot(np.minimum(dx, 1 - dx), 1.15 * np.minimum(dy, 1 - dy))
            shade = np.where(distance < nearest, rng.uniform(0.3, 1), shade)
            nearest = np.minimum(nearest, distance)
    joint = np.clip((0.62 / count - nearest) * count * 9, 0, 1)
    return mixed(shade * joint, rng, 0.35)


def camouflage(rng: Rng) -> Map:
    """Blobs in steps of grey."""
    steps = np.floor(4 * noise(rng, 1.5)) / 4 + np.floor(3 * noise(rng, 1.2)) / 6
    return mixed(np.clip(steps, 0, 1), rng, 0.3, 0.5)


def chevrons(rng: Rng) -> Map:
    """Zigzag bands."""
    x, y = grid()
    teeth, bands = int(rng.integers(3, 7)), int(rng.integers(3, 6)) * 2
    zigzag = np.abs(((x * teeth) % 1) - 0.5)
    return mixed(np.floor((y + zigzag / bands) * bands) % 2, rng, 0.4)


def ripples(rng: Rng) -> Map:
    """Rings about a few centres, interfering."""
    x, y = grid()
    rings = np.zeros((SIZE, SIZE))
    for _ in range(3):
        cx, cy = rng.random(2)
        dx, dy = np.abs(x - cx), np.abs(y - cy)
        distance = np.hypot(np.minimum(dx, 1 - dx), np.minimum(dy, 1 - dy))
        rings += np.sin(2 * np.pi * distance * int(rng.integers(8, 16)))
    return mixed(0.5 + rings / 6, rng, 0.45)


def maze(rng: Rng) -> Map:
    """Diagonal strokes, one way or the other in each cell."""
    x, y = grid()
    count = int(rng.integers(7, 12))
    column, row = np.floor(x * count).astype(int), np.floor(y * count).astype(int)
    u, v = (x * count) % 1, (y * count) % 1
    way = rng.random((count, count))[row, column] < 0.5
    gap = np.where(way, np.abs(u - v), np.abs(u + v - 1))
    return mixed(np.clip(gap * 5 - 0.6, 0, 1), rng, 0.3)


def composition(rng: Rng) -> Map:
    """Discs, bars and arcs in clear colours on a pale ground."""
    x, y = grid()
    picture = np.full((SIZE, SIZE, 3), 1.0) * rng.uniform(0.7, 0.95, 3)
    for _ in range(int(rng.integers(7, 12))):
        cx, cy, radius = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.22)
        distance = np.hypot(x - cx, y - cy)
        kind = int(rng.integers(3))
        angle = rng.uniform(0, np.pi)
        along = np.abs((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle))
        inside = (
            distance < radius,
            np.abs(distance - radius) < 0.02,
            (along < 0.02) & (distance < 2 * radius),
        )[kind]
        picture[inside] = rng.random(3) ** 1.5
    return (0.85 * picture + 0.15 * noise(rng, 0.8)[..., None]).astype(np.float32)


def keys(rng: Rng) -> Map:
    """Upright bars of two widths in a few colours."""
    colours = muted(rng, (5, 3))
    edges = np.sort(rng.choice(np.arange(4, SIZE - 4), 25, replace=False))
    bar = np.searchsorted(edges, np.arange(SIZE))
    picture = np.broadcast_to(colours[bar % 5], (SIZE, SIZE, 3)).copy()
    picture[int(rng.integers(30, 120)) :, (bar % 3) == 0] *= 0.35
    return (0.85 * picture + 0.15 * noise(rng, 0.8)[..., None]).astype(np.float32)
