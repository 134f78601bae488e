"""Patterns of the look "worn": what weather and use leave, indoors and out."""

from __future__ import annotations

import numpy as np

from sage_core.world.patterns import SIZE, Map, Rng, cells, courses, grid, mixed, muted, noise


def _lines(rng: Rng, count: int) -> Map:
    """Fine dark lines where two fields of smooth noise are equal: cracks, creases."""
    lines = np.ones((SIZE, SIZE), np.float32)
    for _ in range(count):
        gap = np.abs(noise(rng, 1.7) - noise(rng, 1.7))
        lines = np.minimum(lines, np.clip(gap * 14, 0, 1))
    return lines


def concrete(rng: Rng) -> Map:
    """Stained, with cracks and pores."""
    pores = (rng.random((SIZE, SIZE)) > 0.004).astype(np.float32)
    stained: Map = (0.6 * noise(rng, 1.1) + 0.25 * _lines(rng, 2) + 0.15 * pores).astype(np.float32)
    return stained


def flagstones(rng: Rng) -> Map:
    """Large uneven stones with wide joints."""
    count = int(rng.integers(10, 24))
    site, edge = cells(rng, count)
    stone = rng.uniform(0.4, 0.95, count)[site] * np.clip(edge * 9 - 0.3, 0, 1)
    return mixed(stone, rng, 0.4, 0.8)


def rust(rng: Rng) -> Map:
    """Paint that flakes off."""
    paint = np.clip(8 * (noise(rng, 1.2) - rng.uniform(0.35, 0.6)), 0, 1)
    return mixed(paint, rng, 0.45, 0.6)


def tarpaulin(rng: Rng) -> Map:
    """Broad stripes, creased."""
    x, _ = grid()
    stripes = np.floor(x * 2 * int(rng.integers(3, 7))) % 2
    creased: Map = (0.5 * stripes + 0.3 * _lines(rng, 3) + 0.2 * noise(rng, 0.9)).astype(np.float32)
    return creased


def grass(rng: Rng) -> Map:
    """Tufts and bare patches."""
    tufts = noise(rng, 0.35, 3.0)
    return (tufts * (0.4 + 0.6 * noise(rng, 1.3))).astype(np.float32)


def rubble(rng: Rng) -> Map:
    """A wall of rough blocks, no two rows alike."""
    rows = int(rng.integers(5, 9))
    blocks = courses(rng, rows, int(rng.integers(3, 6)), 0.05, 0.43)
    return mixed(blocks * (0.5 + 0.5 * noise(rng, 0.9)), rng, 0.25)


def graffiti(rng: Rng) -> Map:
    """Strokes and blots over one another."""
    x, y = grid()
    picture = np.full((SIZE, SIZE, 3), rng.uniform(0.4, 0.8), np.float64)
    for _ in range(int(rng.integers(6, 12))):
        a, b, c = rng.uniform(-1, 1, 3)
        stroke = np.abs(a * (x - 0.5) + b * (y - 0.5) + 0.2 * c + 0.15 * np.sin(6 * (x + y) + c))
        picture[stroke < rng.uniform(0.015, 0.06)] = rng.random(3)
    blots = noise(rng, 1.5) > 0.78
    picture[blots] = 0.5 * picture[blots] + 0.5 * rng.random(3)
    return (0.8 * picture + 0.2 * noise(rng, 0.6)[..., None]).astype(np.float32)


def crates(rng: Rng) -> Map:
    """Slatted boxes side by side, each with its own colour and stencil."""
    x, y = grid()
    box = np.floor(x * 6).astype(int)
    picture = muted(rng, (6, 3))[box] * (0.6 + 0.4 * ((y * 9) % 1 > 0.12))[..., None]
    stencil = (rng.random((12, 24)) < 0.4).repeat(SIZE // 12 + 1, 0).repeat(SIZE // 24 + 1, 1)
    inside = (np.abs((x * 6) % 1 - 0.5) < 0.3) & (np.abs(y - 0.5) < 0.12)
    picture[inside & stencil[:SIZE, :SIZE]] *= 0.3
    boxes: Map = (0.85 * picture + 0.15 * noise(rng, 0.8)[..., None]).astype(np.float32)
    return boxes
