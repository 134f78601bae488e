"""Rooms as data: a convex shell, primitives, materials and lights; every scene is a function of its seed.

World frame: x and z level, y up, metres. A primitive is a box, an ellipsoid or an upright cylinder,
turned about the vertical. Two families differ as data sets do: "P" is what the base model is pretrained
on, "V" is where videos come from (other textures, larger spread of sizes, darker, other cameras);
"PV" has P's geometry and cameras in V's look, "VP" the reverse. The others are called KIND-LOOK: what
stands there, and how it is painted ("hall-worn").
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from sage_core.world.textures import texture_bank

Array = npt.NDArray[np.float64]
Range = tuple[float, float]


class Shape(IntEnum):
    """What a primitive's bounding box holds."""

    BOX = 0
    ELLIPSOID = 1
    CYLINDER = 2


@dataclass(frozen=True)
class Material:
    """How a surface is painted: ``dark + (light - dark) * p`` with p from one texture, or two mixed.

    ``period_m`` is the size (along u and v) of one repetition; ``patina`` the weight of a second,
    coarser texture, whose period is no multiple of the first, so that no two places look alike.
    """

    texture: int
    period_m: tuple[float, float]
    offset: tuple[float, float]
    dark: tuple[float, float, float]
    light: tuple[float, float, float]
    patina_texture: int
    patina_period_m: float
    patina: float


@dataclass(frozen=True)
class Look:
    """Ranges of a family's appearance; ``bank`` names its textures."""

    bank: str
    brightness: Range
    saturation: Range
    ambient: Range
    lamp: Range
    warmth: Range


@dataclass(frozen=True)
class Layout:
    """Ranges of a family's geometry and of the cameras in it: metres and degrees."""

    width_m: Range
    depth_m: Range
    height_m: Range
    furniture: tuple[int, int]
    clutter: tuple[int, int]
    camera_height_m: Range
    pitch_deg: Range
    roll_deg: Range
    fov_deg: Range
    """Field of view along the short side of the image."""
    step_m: Range
    turn_deg: float
    pace_ms: Range = (0.3, 0.5)
    """Speed of a film's camera, metres a second."""
    gaze_pitch_deg: float = -10.0
    """Where a film's camera looks on the whole."""
    lamp_gain: float = 1.0


@dataclass(frozen=True)
class Family:
    """Scenes of one kind (a name in :data:`sage_core.world.kinds.KINDS`), layout and look."""

    name: str
    layout: Layout
    look: Look
    kind: str = "room"


_LAYOUT_P = Layout(
    width_m=(4, 6.5), depth_m=(4, 6.5), height_m=(2.4, 3.0), furniture=(4, 8), clutter=(1, 4),
    camera_height_m=(1.3, 1.65), pitch_deg=(-14, 4), roll_deg=(-2, 2), fov_deg=(56, 70),
    step_m=(0.15, 0.5), turn_deg=22,
)  # fmt: skip
_LAYOUT_V = Layout(
    width_m=(3.6, 9), depth_m=(3.6, 9), height_m=(2.3, 3.8), furniture=(6, 14), clutter=(4, 12),
    camera_height_m=(1.0, 1.9), pitch_deg=(-24, 6), roll_deg=(-5, 5), fov_deg=(44, 62),
    step_m=(0.15, 0.6), turn_deg=24,
)  # fmt: skip
_LOOK_P = Look("plain", (0.75, 1.0), (0.15, 0.55), (0.45, 0.6), (0.5, 0.8), (0.0, 0.1))
_LOOK_V = Look("rich", (0.5, 0.9), (0.3, 0.8), (0.25, 0.4), (0.5, 0.9), (-0.1, 0.2))
_LAYOUTS = {
    "room": _LAYOUT_V,
    "corridor": Layout(
        width_m=(1.9, 3.2), depth_m=(8, 15), height_m=(2.3, 3.2), furniture=(3, 7), clutter=(2, 6),
        camera_height_m=(1.2, 1.75), pitch_deg=(-16, 4), roll_deg=(-3, 3), fov_deg=(50, 70),
        step_m=(0.15, 0.6), turn_deg=18, pace_ms=(0.5, 0.9), gaze_pitch_deg=-6,
    ),
    "office": Layout(
        width_m=(6, 11), depth_m=(6, 11), height_m=(2.5, 3.3), furniture=(5, 9), clutter=(2, 8),
        camera_height_m=(1.25, 1.8), pitch_deg=(-20, 2), roll_deg=(-3, 3), fov_deg=(48, 66),
        step_m=(0.15, 0.55), turn_deg=22,
    ),
    "table": Layout(
        width_m=(2.8, 4.2), depth_m=(2.8, 4.2), height_m=(2.3, 3.0), furniture=(8, 18), clutter=(1, 4),
        camera_height_m=(1.25, 1.75), pitch_deg=(-38, -16), roll_deg=(-6, 6), fov_deg=(42, 60),
        step_m=(0.08, 0.35), turn_deg=12, pace_ms=(0.2, 0.35), gaze_pitch_deg=-26,
    ),
    "court": Layout(
        width_m=(12, 22), depth_m=(12, 22), height_m=(9, 14), furniture=(6, 12), clutter=(4, 12),
        camera_height_m=(1.4, 2.2), pitch_deg=(-8, 8), roll_deg=(-4, 4), fov_deg=(48, 72),
        step_m=(0.4, 1.6), turn_deg=20, pace_ms=(0.9, 1.5), gaze_pitch_deg=-2, lamp_gain=7,
    ),
    "hall": Layout(
        width_m=(7, 12), depth_m=(10, 18), height_m=(4.5, 7), furniture=(6, 10), clutter=(3, 8),
        camera_height_m=(1.3, 1.9), pitch_deg=(-10, 10), roll_deg=(-3, 3), fov_deg=(48, 70),
        step_m=(0.25, 1.0), turn_deg=20, pace_ms=(0.5, 0.9), gaze_pitch_deg=-3, lamp_gain=2.5,
    ),
}  # fmt: skip
"""One for each kind; P's rooms are narrower than those of ``room``."""
_LOOKS = {
    "plain": _LOOK_P,
    "rich": _LOOK_V,
    "worn": Look("worn", (0.55, 0.95), (0.1, 0.5), (0.4, 0.6), (0.5, 0.9), (-0.15, 0.1)),
    "graphic": Look("graphic", (0.6, 1.0), (0.3, 0.9), (0.35, 0.55), (0.5, 0.9), (-0.15, 0.15)),
}
FAMILIES = {
    "P": Family("P", _LAYOUT_P, _LOOK_P),
    "V": Family("V", _LAYOUT_V, _LOOK_V),
    "PV": Family("PV", _LAYOUT_P, _LOOK_V),
    "VP": Family("VP", _LAYOUT_V, _LOOK_P),
    "P-graphic": Family("P-graphic", _LAYOUT_P, _LOOKS["graphic"]),
    **{
        f"{kind}-{name}": Family(f"{kind}-{name}", layout, look, kind)
        for kind, layout in _LAYOUTS.items()
        for name, look in _LOOKS.items()
    },
}


def family_named(name: str) -> Family:
    """The family of that name.

    Raises:
        ValueError: no such family.
    """
    if name not in FAMILIES:
        raise ValueError(f"no family of rooms {name!r}: choose one of {', '.join(FAMILIES)}")
    return FAMILIES[name]


@dataclass(frozen=True)
class Scene:
    """One furnished room.

    Attributes:
        seed, family: what it was made from.
        size: width (x), height (y), depth (z) of the room, metres; it spans 0..size on each axis.
        shape: int [P], :class:`Shape` of each primitive.
        centre, half: float [P, 3], metres; ``half`` before turning.
        yaw: float [P], radians about the vertical.
        material: int [P], rows of ``materials``; rows 0..5 are the room's -x, +x, floor, ceiling, -z, +z.
        lamps: float [2, 4], position and strength.
        ambient: light that is everywhere.
        tint: float [3], colour of the light.
    """

    seed: int
    family: Family
    size: tuple[float, float, float]
    shape: npt.NDArray[np.int64]
    centre: Array
    half: Array
    yaw: Array
    material: npt.NDArray[np.int64]
    materials: list[Material]
    lamps: Array
    ambient: float
    tint: Array

    def blocked(self, points: Array, clearance_m: float = 0.3) -> npt.NDArray[np.bool_]:
        """Which of the points [N, 3] lie outside the room, or nearer to a wall or thing than that."""
        size = np.asarray(self.size)
        outside = ((points < clearance_m) | (points > size - clearance_m)).any(axis=1)
        offset = points[:, None] - self.centre
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        local = np.stack(
            [
                cos * offset[..., 0] - sin * offset[..., 2],
                offset[..., 1],
                sin * offset[..., 0] + cos * offset[..., 2],
            ],
            axis=-1,
        )
        gap = np.linalg.norm(np.maximum(np.abs(local) - self.half, 0), axis=-1)
        return np.asarray(outside | (gap < clearance_m).any(axis=1))


@dataclass
class SceneBuilder:
    """Gathers primitives and materials while a room is furnished."""

    rng: np.random.Generator
    look: Look
    size: tuple[float, float, float]
    shape: list[int] = field(default_factory=list)
    centre: list[tuple[float, float, float]] = field(default_factory=list)
    half: list[tuple[float, float, float]] = field(default_factory=list)
    yaw: list[float] = field(default_factory=list)
    material: list[int] = field(default_factory=list)
    materials: list[Material] = field(default_factory=list)

    def between(self, bounds: Range) -> float:
        return float(self.rng.uniform(*bounds))

    def paint(
        self, purpose: str, period_m: Range, *, fit: tuple[float, float] | None = None
    ) -> int:
        """A new material with a texture of that purpose; returns its row.

        ``fit``: width and height of a face that the texture covers once (pictures, books).
        """
        bank = texture_bank(self.look.bank)
        period = self.between(period_m)
        walls = bank.names["wall"] + bank.names["ground"]
        dark, light = self._colours()
        pictorial = purpose in ("picture", "books")
        self.materials.append(
            Material(
                texture=int(self.rng.choice(bank.names[purpose])),
                period_m=fit or (period, period),
                offset=(0.5, 0.5) if fit else (self.rng.random(), self.rng.random()),
                dark=(0.05,) * 3 if pictorial else dark,
                light=(self.between(self.look.brightness),) * 3 if pictorial else light,
                patina_texture=int(self.rng.choice(walls)),
                patina_period_m=period * self.between((2.3, 3.9)),
                patina=0.1 if pictorial else self.between((0.3, 0.5)),
            )
        )
        return len(self.materials) - 1

    def _colours(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        hue = self.rng.random(3)
        saturation = self.between(self.look.saturation)
        colour = 1 - saturation * (1 - hue / hue.max())
        light = self.between(self.look.brightness) * colour
        dark = self.between((0.1, 0.4)) * light * self.rng.uniform(0.7, 1.0, 3)
        return tuple(map(float, dark)), tuple(map(float, light))  # type: ignore[return-value]

    def place(
        self,
        shape: Shape,
        centre: tuple[float, float, float],
        size: tuple[float, float, float],
        yaw: float,
        material: int,
    ) -> None:
        """One primitive; ``size`` is its full extent before turning."""
        self.shape.append(int(shape))
        self.centre.append(centre)
        self.half.append((size[0] / 2, size[1] / 2, size[2] / 2))
        self.yaw.append(yaw)
        self.material.append(material)
