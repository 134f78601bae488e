"""Procedural textures that repeat without a seam, in four looks that share no pattern.

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

from sage_core.world import ornaments, patterns, weathered
from sage_core.world.patterns import SIZE, Map, Rng

LEVELS = 7
_STRIP = 2 * SIZE + 2 * LEVELS
_COLUMNS = 4


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


_LOOKS: dict[str, dict[str, tuple[Callable[[Rng], Map], int]]] = {
    "plain": {
        "wall": (patterns.plaster, 4),
        "floor": (patterns.checker, 2),
        "body": (patterns.wood, 3),
        "cloth": (patterns.dots, 2),
        "ground": (patterns.carpet, 2),
        "brick": (patterns.brick, 2),
        "picture": (patterns.poster, 6),
        "books": (patterns.spines, 2),
    },
    "rich": {
        "wall": (patterns.marble, 3),
        "floor": (patterns.planks, 2),
        "body": (patterns.terrazzo, 2),
        "cloth": (patterns.weave, 2),
        "ground": (patterns.tiles, 2),
        "brick": (patterns.stones, 3),
        "picture": (patterns.collage, 6),
        "books": (patterns.spines, 2),
    },
    "worn": {
        "wall": (weathered.concrete, 4),
        "floor": (weathered.flagstones, 2),
        "body": (weathered.rust, 3),
        "cloth": (weathered.tarpaulin, 2),
        "ground": (weathered.grass, 3),
        "brick": (weathered.rubble, 3),
        "picture": (weathered.graffiti, 6),
        "books": (weathered.crates, 2),
    },
    "graphic": {
        "wall": (ornaments.triangles, 3),
        "floor": (ornaments.hexagons, 2),
        "body": (ornaments.camouflage, 3),
        "cloth": (ornaments.chevrons, 2),
        "ground": (ornaments.ripples, 2),
        "brick": (ornaments.maze, 2),
        "picture": (ornaments.composition, 6),
        "books": (ornaments.keys, 2),
    },
}
_LOOK_SEEDS = {"plain": 11, "rich": 29, "worn": 47, "graphic": 83}


@lru_cache(maxsize=4)
def texture_bank(look: str) -> TextureBank:
    """All textures of a look ("plain", "rich", "worn", "graphic"), the same in every process."""
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
