"""Procedural textures that repeat without a seam, in two looks that share no pattern.

A texture is a map p in 0..1 with three channels; a material paints it with two colours,
``dark + (light - dark) * p``, so that few maps give many surfaces. All maps of a look lie in one atlas
with their mip levels side by side, each with a border of one wrapped texel: trilinear look-up is then
plain interpolation in one picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

SIZE = 256
LEVELS = 7
_STRIP = 2 * SIZE + 2 * LEVELS
_COLUMNS = 4

Map = npt.NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class TextureBank:
    """The textures of one look.

    Attributes:
        atlas: float32 [1, 3, H, W], values 0..1.
        origin: float32 [T, 2], x and y of each texture's level 0 (without border) in the atlas.
        names: which textures serve which purpose: pattern name -> indices.
    """

    atlas: torch.Tensor
    origin: npt.NDArray[np.float32]
    names: dict[str, list[int]]

    def to(self, device: torch.device) -> torch.Tensor:
        """The atlas on a device."""
        return _on_device(self, str(device))

    def __hash__(self) -> int:
        return id(self)


@lru_cache(maxsize=8)
def _on_device(bank: TextureBank, device: str) -> torch.Tensor:
    return bank.atlas.to(device)


def _grid() -> tuple[Map, Map]:
    y, x = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    return x, y


def _unit(values: npt.NDArray[np.floating]) -> Map:
    low, high = np.percentile(values, [1, 99])
    unit: Map = np.clip((values - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    return unit


def _noise(rng: Rng, slope: float, stretch: float = 1.0) -> Map:
    """Noise with power ~ 1/f^(2 slope), periodic; ``stretch`` > 1 draws it out along y."""
    fy = np.fft.fftfreq(SIZE)[:, None] * SIZE * stretch
    fx = np.fft.rfftfreq(SIZE)[None, :] * SIZE
    gain = 1 / np.maximum(np.hypot(fx, fy), 1.0) ** slope
    gain[0, 0] = 0
    spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * gain
    return _unit(np.fft.irfft2(spectrum, (SIZE, SIZE)))


def _cells(rng: Rng, count: int) -> tuple[npt.NDArray[np.intp], Map]:
    """Nearest of ``count`` random sites on the torus, and how clearly it is the nearest."""
    from scipy.spatial import cKDTree

    tree = cKDTree(rng.random((count, 2)), boxsize=1.0)
    x, y = _grid()
    distance, site = tree.query(np.stack([x, y], -1).reshape(-1, 2), k=2)
    edge = (distance[:, 1] - distance[:, 0]).reshape(SIZE, SIZE)
    return site[:, 0].reshape(SIZE, SIZE), (edge * np.sqrt(count)).astype(np.float32)


def _courses(rng: Rng, rows: int, columns: int, joint: float, shift: float) -> Map:
    """Bricks, boards or tiles: each with its own shade, divided by dark joints."""
    x, y = _grid()
    row = np.floor(y * rows).astype(int)
    along = x * columns + shift * (row % 2)
    column = np.floor(along).astype(int) % columns
    shade = rng.uniform(0.35, 1.0, (rows, columns))[row, column]
    fx, fy = along % 1, (y * rows) % 1
    inside = (np.minimum(fx, 1 - fx) > joint) & (np.minimum(fy, 1 - fy) > joint * rows / columns)
    courses: Map = (shade * inside).astype(np.float32)
    return courses


def _mixed(pattern: npt.NDArray[np.floating], rng: Rng, share: float, slope: float = 0.9) -> Map:
    mixed: Map = ((1 - share) * pattern + share * _noise(rng, slope)).astype(np.float32)
    return mixed


def _plaster(rng: Rng) -> Map:
    return 0.55 * _noise(rng, 1.3) + 0.45 * _noise(rng, 0.6)


def _checker(rng: Rng) -> Map:
    x, y = _grid()
    count = int(rng.integers(2, 5)) * 2
    return _mixed((np.floor(x * count) + np.floor(y * count)) % 2, rng, 0.35)


def _brick(rng: Rng) -> Map:
    rows = int(rng.integers(4, 7)) * 2
    return _mixed(_courses(rng, rows, rows // 2, 0.03, 0.5), rng, 0.3)


def _wood(rng: Rng) -> Map:
    x, _ = _grid()
    warp = _noise(rng, 1.6, 6.0)
    rings = 0.5 + 0.5 * np.sin(2 * np.pi * (x * int(rng.integers(5, 12)) + 1.5 * warp))
    mixed: Map = (0.5 * rings + 0.5 * _noise(rng, 0.7, 5.0)).astype(np.float32)
    return mixed


def _dots(rng: Rng) -> Map:
    x, y = _grid()
    count = int(rng.integers(4, 9))
    inside = np.hypot((x * count) % 1 - 0.5, (y * count) % 1 - 0.5) < rng.uniform(0.2, 0.35)
    return _mixed(inside, rng, 0.4)


def _carpet(rng: Rng) -> Map:
    return 0.5 * _noise(rng, 0.25) + 0.5 * _noise(rng, 1.0)


def _planks(rng: Rng) -> Map:
    boards = _courses(rng, 3, 8, 0.02, 0.37)
    return (0.6 * boards + 0.4 * _noise(rng, 0.6, 8.0)).astype(np.float32)


def _tiles(rng: Rng) -> Map:
    count = int(rng.integers(3, 7))
    return _mixed(_courses(rng, count, count, 0.03, 0.0), rng, 0.45, 1.1)


def _stones(rng: Rng) -> Map:
    count = int(rng.integers(30, 120))
    site, edge = _cells(rng, count)
    return _mixed(rng.uniform(0.3, 1.0, count)[site] * np.clip(edge * 6, 0, 1), rng, 0.35)


def _weave(rng: Rng) -> Map:
    x, y = _grid()
    count = int(rng.integers(10, 20)) * 2
    over = (np.floor(x * count) + np.floor(y * count)) % 2
    thread = np.where(
        over > 0, np.sin(np.pi * ((x * count) % 1)), np.sin(np.pi * ((y * count) % 1))
    )
    return _mixed(thread * rng.uniform(0.6, 1.0, (SIZE, 1)), rng, 0.5)


def _marble(rng: Rng) -> Map:
    x, y = _grid()
    turns = np.sin(2 * np.pi * (2 * x + int(rng.integers(1, 4)) * y + 1.5 * _noise(rng, 2.0)))
    return _mixed(np.abs(turns) ** 0.5, rng, 0.4)


def _terrazzo(rng: Rng) -> Map:
    count = 500
    site, edge = _cells(rng, count)
    return _mixed(rng.choice([0.1, 0.5, 0.9], count)[site] * (edge > 0.18), rng, 0.25)


def _muted(rng: Rng, shape: tuple[int, int]) -> npt.NDArray[np.float64]:
    colours = rng.random(shape)
    return np.asarray(0.55 * colours + 0.45 * colours.mean(axis=1, keepdims=True))


def _print(rng: Rng) -> Map:
    """A poster: a graded ground with rectangles, discs and lines of writing, in colours."""
    x, y = _grid()
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
    return (0.8 * picture + 0.2 * _noise(rng, 0.8)[..., None]).astype(np.float32)


def _collage(rng: Rng) -> Map:
    """A picture of coloured shards and fine grain: a painting, a map, a notice board."""
    count = int(rng.integers(20, 70))
    site, edge = _cells(rng, count)
    picture = _muted(rng, (count, 3))[site] * np.clip(edge[..., None] * 10, 0.3, 1)
    return (0.75 * picture + 0.25 * _noise(rng, 0.7)[..., None]).astype(np.float32)


def _spines(rng: Rng) -> Map:
    """The backs of books."""
    edges = np.sort(rng.choice(np.arange(6, SIZE - 6), 15, replace=False))
    book = np.searchsorted(edges, np.arange(SIZE))
    picture = np.broadcast_to(_muted(rng, (16, 3))[book], (SIZE, SIZE, 3)).copy()
    band = (rng.random((16, 16)) < 0.3)[:, book].repeat(SIZE // 16, 0)
    picture[band] = 1 - 0.8 * picture[band]
    picture[:, edges] *= 0.2
    return (0.85 * picture + 0.15 * _noise(rng, 0.8)[..., None]).astype(np.float32)


_LOOKS: dict[str, dict[str, tuple[Callable[[Rng], Map], int]]] = {
    "plain": {
        "wall": (_plaster, 4),
        "floor": (_checker, 2),
        "body": (_wood, 3),
        "cloth": (_dots, 2),
        "ground": (_carpet, 2),
        "brick": (_brick, 2),
        "picture": (_print, 6),
        "books": (_spines, 2),
    },
    "rich": {
        "wall": (_marble, 3),
        "floor": (_planks, 2),
        "body": (_terrazzo, 2),
        "cloth": (_weave, 2),
        "ground": (_tiles, 2),
        "brick": (_stones, 3),
        "picture": (_collage, 6),
        "books": (_spines, 2),
    },
}
_LOOK_SEEDS = {"plain": 11, "rich": 29}


@lru_cache(maxsize=4)
def texture_bank(look: str) -> TextureBank:
    """All textures of a look ("plain" or "rich"), the same in every process."""
    rng = np.random.default_rng(_LOOK_SEEDS[look])
    maps: list[Map] = []
    names: dict[str, list[int]] = {}
    for name, (make, count) in _LOOKS[look].items():
        names[name] = list(range(len(maps), len(maps) + count))
        maps.extend(_three_channels(make(rng)) for _ in range(count))
    atlas, origin = _pack(maps)
    return TextureBank(atlas, origin, names)


def _three_channels(texture: Map) -> Map:
    return texture if texture.ndim == 3 else np.repeat(texture[..., None], 3, axis=2)


def _pack(maps: list[Map]) -> tuple[torch.Tensor, npt.NDArray[np.float32]]:
    rows = -(-len(maps) // _COLUMNS)
    atlas = np.zeros((rows * (SIZE + 2), _COLUMNS * _STRIP, 3), np.float32)
    origin = np.zeros((len(maps), 2), np.float32)
    for index, level in enumerate(maps):
        x, y = (index % _COLUMNS) * _STRIP, (index // _COLUMNS) * (SIZE + 2)
        origin[index] = x + 1, y + 1
        for _ in range(LEVELS):
            bordered = np.pad(level, ((1, 1), (1, 1), (0, 0)), mode="wrap")
            atlas[y : y + len(bordered), x : x + len(bordered)] = bordered
            x += len(bordered)
            level = level.reshape(len(level) // 2, 2, len(level) // 2, 2, 3).mean(axis=(1, 3))
    planes = torch.from_numpy(np.ascontiguousarray(atlas.transpose(2, 0, 1)))
    return planes[None], origin
