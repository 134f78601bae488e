"""Procedural patterns that repeat without a seam: maps in 0..1, [256, 256] or [256, 256, 3]."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIZE = 256

Map = npt.NDArray[np.float32]
Rng = np.random.Generator


def grid() -> tuple[Map, Map]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    return x, y


def unit(values: npt.NDArray[np.floating]) -> Map:
    low, high = np.percentile(values, [1, 99])
    unit: Map = np.clip((values - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return unit


def noise(rng: Rng, slope: float, stretch: float = 1.0) -> Map:
    """Noise with power ~ 1/f^(2 slope), periodic; ``stretch`` > 1 draws it out along y."""
    fy = np.fft.fftfreq(SIZE)[:, None] * SIZE * stretch
    fx = np.fft.rfftfreq(SIZE)[None, :] * SIZE
    gain = 1 / np.maximum(np.hypot(fx, fy), 1.0) ** slope
    gain[0, 0] = 0
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * gain
    return unit(np.fft.irfft2(spectrum, (SIZE, SIZE)))


def cells(rng: Rng, count: int) -> tuple[npt.NDArray[np.intp], Map]:
    """Nearest of ``count`` random sites on the torus, and how clearly it is the nearest."""
    from scipy.spatial import cKDTree

    tree = cKDTree(rng.random((count, 2)), boxsize=1.0)
    x, y = grid()
    distance, site = tree.query(np.stack([x, y], -1).reshape(-1, 2), k=2)
    edge = (distance[:, 1] - distance[:, 0]).reshape(SIZE, SIZE)
    return site[:, 0].reshape(SIZE, SIZE), (edge * np.sqrt(count)).astype(np.float32)


def courses(rng: Rng, rows: int, columns: int, joint: float, shift: float) -> Map:
    """Bricks, boards or tiles: each with its own shade, divided by dark joints."""
    x, y = grid()
    row = np.floor(y * rows).astype(int)
    along = x * columns + shift * (row % 2)
    column = np.floor(along).astype(int) % columns
    shade = rng.uniform(0.35, 1.0, (rows, columns))[row, column]
    fx, fy = along % 1, (y * rows) % 1
    inside = (np.minimum(fx, 1 - fx) > joint) & (np.minimum(fy, 1 - fy) > joint * rows / columns)
    courses: Map = (shade * inside).astype(np.float32)
    return courses


def mixed(pattern: npt.NDArray[np.floating], rng: Rng, share: float, slope: float = 0.9) -> Map:
    mixed: Map = ((1 - share) * pattern + share * noise(rng, slope)).astype(np.float32)
    return mixed


def plaster(rng: Rng) -> Map:
    return 0.55 * noise(rng, 1.3) + 0.45 * noise(rng, 0.6)


def checker(rng: Rng) -> Map:
    x, y = grid()
    count = int(rng.integers(2, 5)) * 2
    return mixed((np.floor(x * count) + np.floor(y * count)) % 2, rng, 0.35)


def brick(rng: Rng) -> Map:
    rows = int(rng.integers(4, 7)) * 2
    return mixed(courses(rng, rows, rows // 2, 0.03, 0.5), rng, 0.3)


def wood(rng: Rng) -> Map:
    x, _ = grid()
    warp = noise(rng, 1.6, 6.0)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (x * int(rng.integers(5, 12)) + 1.5 * warp))
    mixed: Map = (0.5 * rings + 0.5 * noise(rng, 0.7, 5.0)).astype(np.float32)
    return mixed


def dots(rng: Rng) -> Map:
    x, y = grid()
    count = int(rng.integers(4, 9))
    inside = np.hypot((x * count) % 1 - 0.5, (y * count) % 1 - 0.5) < rng.uniform(0.2, 0.35)
    return mixed(inside, rng, 0.4)


def carpet(rng: Rng) -> Map:
    return 0.5 * noise(rng, 0.25) + 0.5 * noise(rng, 1.0)


def planks(rng: Rng) -> Map:
    boards = courses(rng, 3, 8, 0.02, 0.37)
    return (0.6 * boards + 0.4 * noise(rng, 0.6, 8.0)).astype(np.float32)


def tiles(rng: Rng) -> Map:
    count = int(rng.integers(3, 7))
    return mixed(courses(rng, count, count, 0.03, 0.0), rng, 0.45, 1.1)


def stones(rng: Rng) -> Map:
    count = int(rng.integers(30, 120))
    site, edge = cells(rng, count)
    return mixed(rng.uniform(0.3, 1.0, count)[site] * np.clip(edge * 6, 0, 1), rng, 0.35)


def weave(rng: Rng) -> Map:
    x, y = grid()
    count = int(rng.integers(10, 20)) * 2
    over = (np.floor(x * count) + np.floor(y * count)) % 2
    thread = np.where(
        over > 0, np.sin(np.pi * ((x * count) % 1)), np.sin(np.pi * ((y * count) % 1))
    )
    return mixed(thread * rng.uniform(0.6, 1.0, (SIZE, 1)), rng, 0.5)


def marble(rng: Rng) -> Map:
    x, y = grid()
    turns = np.sin(2 * np.pi * (2 * x + int(rng.integers(1, 4)) * y + 1.5 * noise(rng, 2.0)))
    return mixed(np.abs(turns) ** 0.5, rng, 0.4)


def terrazzo(rng: Rng) -> Map:
    count = 500
    site, edge = cells(rng, count)
    return mixed(rng.choice([0.1, 0.5, 0.9], count)[site] * (edge > 0.18), rng, 0.25)


def muted(rng: Rng, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    colours = rng.random(shape)
    return np.asarray(0.55 * colours + 0.45 * colours.mean(axis=1, keepdims=True))


def poster(rng: Rng) -> Map:
    """A poster: a graded ground with rectangles, discs and lines of writing, in colours."""
    x, y = grid()
    top, bottom = rng.random(3), rng.random(3)
    picture = top + (bottom - top) * y[..., None]
    for _ in range(int(rng.integers(10, 18))):
        cx, cy, rx, ry = rng.random(), rng.random(), *rng.uniform(0.03, 0.25, 2)
        if rng.random() < 0.5:
            inside = (np.abs(x - cx) < rx) & (np.abs(y - cy) < ry)
        else:
            inside = ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
        picture[inside] = rng.random(3)
    for line in range(int(rng.integers(2, 6))):
        row = (np.abs(y - 0.12 - 0.07 * line) < 0.014) & (np.abs(x - 0.5) < 0.36)
        picture[row & (np.repeat(rng.random(SIZE // 4), 4)[None, :] < 0.6)] = rng.random(3) * 0.4
    return (0.8 * picture + 0.2 * noise(rng, 0.8)[..., None]).astype(np.float32)


def collage(rng: Rng) -> Map:
    """A picture of coloured shards and fine grain: a painting, a map, a notice board."""
    count = int(rng.integers(20, 70))
    site, edge = cells(rng, count)
    picture = muted(rng, (count, 3))[site] * np.clip(edge[..., None] * 10, 0.3, 1)
    return (0.75 * picture + 0.25 * noise(rng, 0.7)[..., None]).astype(np.float32)


def spines(rng: Rng) -> Map:
    """The backs of books."""
    edges = np.sort(rng.choice(np.arange(6, SIZE - 6), 15, replace=False))
    book = np.searchsorted(edges, np.arange(SIZE))
    picture = np.broadcast_to(muted(rng, (16, 3))[book], (SIZE, SIZE, 3)).copy()
    band = (rng.random((16, 16)) < 0.3)[:, book].repeat(SIZE // 16, 0)
    picture[band] = 1 - 0.8 * picture[band]
    picture[:, edges] *= 0.2
    return (0.85 * picture + 0.15 * noise(rng, 0.8)[..., None]).astype(np.float32)
