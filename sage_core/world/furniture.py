"""A furnished scene from a seed."""

from __future__ import annotations

import zlib

import numpy as np

from sage_core.world.kinds import KINDS
from sage_core.world.scenes import Array, Family, Scene, SceneBuilder, family_named

_FAMILY_SEEDS = {"P": 1, "V": 2, "PV": 3, "VP": 4}


def build_scene(seed: int, family: str | Family = "P") -> Scene:
    """The furnished scene of that seed: same seed and family, same scene, everywhere."""
    kind = family_named(family) if isinstance(family, str) else family
    rng = np.random.default_rng(
        [seed, _FAMILY_SEEDS.get(kind.name, zlib.crc32(kind.name.encode()))]
    )
    layout, look = kind.layout, kind.look
    size = (
        float(rng.uniform(*layout.width_m)),
        float(rng.uniform(*layout.height_m)),
        float(rng.uniform(*layout.depth_m)),
    )
    builder = SceneBuilder(rng, look, size)
    KINDS[kind.kind](builder, layout)
    return Scene(
        seed=seed,
        family=kind,
        size=size,
        shape=np.array(builder.shape),
        centre=np.array(builder.centre),
        half=np.array(builder.half),
        yaw=np.array(builder.yaw),
        material=np.array(builder.material),
        materials=builder.materials,
        lamps=_lamps(builder, layout.lamp_gain),
        ambient=builder.between(look.ambient),
        tint=1 + builder.between(look.warmth) * np.array([1.0, 0.2, -1.0]),
    )


def _lamps(b: SceneBuilder, gain: float) -> Array:
    width, height, depth = b.size
    return np.array(
        [
            [
                width * b.between((0.2, 0.8)),
                height - b.between((0.15, 0.5)),
                depth * b.between((0.2, 0.8)),
                gain * b.between(b.look.lamp),
            ]
            for _ in range(2)
        ]
    )
