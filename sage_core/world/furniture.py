"""Furniture from boxes, cylinders and ellipsoids, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sage_core.world.scenes import (
    Array,
    Family,
    Scene,
    SceneBuilder,
    Shape,
    family_named,
)

_FAMILY_SEEDS = {"P": 1, "V": 2, "PV": 3, "VP": 4}


@dataclass(frozen=True)
class _Spot:
    """A place on the floor and the way that a piece faces: its own z axis points into the room."""

    x: float
    z: float
    yaw: float

    def at(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + cos * x + sin * z, y, self.z - sin * x + cos * z


@dataclass(frozen=True)
class _Piece:
    """A kind of furniture: footprint along and out of the wall, and how to build it."""

    width_m: tuple[float, float]
    depth_m: tuple[float, float]
    build: Callable[[SceneBuilder, _Spot, float, float], None]
    by_wall: bool


def build_scene(seed: int, family: str | Family = "P") -> Scene:
    """The furnished room of that seed: same seed and family, same scene, everywhere."""
    kind = family_named(family) if isinstance(family, str) else family
    rng = np.random.default_rng([seed, _FAMILY_SEEDS[kind.name]])
    layout, look = kind.layout, kind.look
    size = (
        float(rng.uniform(*layout.width_m)),
        float(rng.uniform(*layout.height_m)),
        float(rng.uniform(*layout.depth_m)),
    )
    builder = SceneBuilder(rng, look, size)
    _paint_shell(builder)
    _hang_pictures(builder)
    taken = _furnish(builder, int(rng.integers(layout.furniture[0], layout.furniture[1] + 1)))
    _strew(builder, int(rng.integers(layout.clutter[0], layout.clutter[1] + 1)), taken)
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
        lamps=_lamps(builder),
        ambient=builder.between(look.ambient),
        tint=1 + builder.between(look.warmth) * np.array([1.0, 0.2, -1.0]),
    )


def _paint_shell(b: SceneBuilder) -> None:
    one_wall = b.rng.random() < 0.5
    for face in range(6):
        if face == 2:
            purpose = str(b.rng.choice(["floor", "ground", "body"]))
        elif face == 3:
            purpose = "wall"
        else:
            purpose = "wall" if one_wall else str(b.rng.choice(["wall", "brick", "cloth"]))
        b.paint(purpose, (1.2, 2.4))


def _lamps(b: SceneBuilder) -> Array:
    width, height, depth = b.size
    lamps = [
        [
            width * b.between((0.2, 0.8)),
            height - b.between((0.15, 0.5)),
            depth * b.between((0.2, 0.8)),
            b.between(b.look.lamp),
        ]
        for _ in range(2)
    ]
    return np.array(lamps)


def _wall_spot(b: SceneBuilder, wall: int, along: float, out: float) -> _Spot:
    """A spot ``along`` wall 0..3 (share of its length) and ``out`` metres from it."""
    width, _, depth = b.size
    if wall == 0:
        return _Spot(along * width, out, 0.0)
    if wall == 1:
        return _Spot(out, along * depth, math.pi / 2)
    if wall == 2:
        return _Spot(along * width, depth - out, math.pi)
    return _Spot(width - out, along * depth, -math.pi / 2)


def _hang_pictures(b: SceneBuilder) -> None:
    for wall in range(4):
        for slot in range(int(b.rng.integers(2, 5))):
            width, height = b.between((0.5, 1.3)), b.between((0.5, 1.1))
            along = (slot + b.between((0.25, 0.75))) / 4
            spot = _wall_spot(b, wall, along, 0.015)
            y = b.between((1.3, max(1.4, b.size[1] - 0.7)))
            material = b.paint("picture", (1, 1), fit=(width, height))
            b.place(Shape.BOX, spot.at(0, y, 0), (width, height, 0.03), spot.yaw, material)


def _furnish(b: SceneBuilder, count: int) -> list[tuple[float, float, float]]:
    """Stand ``count`` pieces without overlap; returns discs (x, z, radius) that are taken."""
    taken: list[tuple[float, float, float]] = []
    for _ in range(count):
        piece = _PIECES[int(b.rng.integers(len(_PIECES)))]
        for _ in range(8):
            width, depth = b.between(piece.width_m), b.between(piece.depth_m)
            spot = _spot_for(b, piece, depth)
            radius = 0.5 * math.hypot(width, depth)
            if all(math.hypot(spot.x - x, spot.z - z) > radius + r for x, z, r in taken):
                piece.build(b, spot, width, depth)
                taken.append((spot.x, spot.z, radius))
                break
    return taken


def _spot_for(b: SceneBuilder, piece: _Piece, depth: float) -> _Spot:
    width, _, length = b.size
    if piece.by_wall:
        along = b.between((0.15, 0.85))
        return _wall_spot(b, int(b.rng.integers(4)), along, depth / 2 + 0.04)
    return _Spot(
        width * b.between((0.25, 0.75)), length * b.between((0.25, 0.75)), b.between((0, 6.28))
    )


def _strew(b: SceneBuilder, count: int, taken: list[tuple[float, float, float]]) -> None:
    """Small things on the floor: balls, boxes, stools, plant pots."""
    width, _, length = b.size
    for _ in range(count):
        spot = _Spot(
            b.between((0.4, width - 0.4)), b.between((0.4, length - 0.4)), b.between((0, 6))
        )
        if any(math.hypot(spot.x - x, spot.z - z) < r + 0.3 for x, z, r in taken):
            continue
        _thing(b, spot, 0.0, b.between((0.2, 0.45)))
        taken.append((spot.x, spot.z, 0.25))


def _thing(b: SceneBuilder, spot: _Spot, y: float, size: float) -> None:
    shape = Shape(int(b.rng.integers(3)))
    purpose = str(b.rng.choice(["cloth", "body", "picture", "brick"]))
    height = size * (1.0 if shape is Shape.ELLIPSOID else b.between((0.6, 1.4)))
    extent = (size, height, size)
    material = b.paint(purpose, (0.3, 0.7))
    b.place(shape, spot.at(0, y + height / 2, 0), extent, spot.yaw, material)


def _table(b: SceneBuilder, spot: _Spot, width: float, depth: float) -> None:
    height, top = b.between((0.45, 0.78)), b.paint("body", (0.6, 1.2))
    leg = b.paint("body", (0.3, 0.6))
    b.place(Shape.BOX, spot.at(0, height - 0.02, 0), (width, 0.04, depth), spot.yaw, top)
    kind = Shape.BOX if b.rng.random() < 0.5 else Shape.CYLINDER
    for sx in (-1, 1):
        for sz in (-1, 1):
            x, z = sx * (width / 2 - 0.05), sz * (depth / 2 - 0.05)
            b.place(
                kind, spot.at(x, height / 2 - 0.02, z), (0.06, height - 0.04, 0.06), spot.yaw, leg
            )
    for _ in range(int(b.rng.integers(1, 4))):
        x, z = b.between((-0.4, 0.4)) * width, b.between((-0.35, 0.35)) * depth
        x, _, z = spot.at(x, 0, z)
        _thing(b, _Spot(x, z, b.between((0, 6))), height, b.between((0.1, 0.25)))


def _chair(b: SceneBuilder, spot: _Spot, width: float, depth: float) -> None:
    seat, leg = b.paint("cloth", (0.4, 0.8)), b.paint("body", (0.3, 0.6))
    b.place(Shape.BOX, spot.at(0, 0.44, 0), (width, 0.06, depth), spot.yaw, seat)
    b.place(Shape.BOX, spot.at(0, 0.72, -depth / 2), (width, 0.5, 0.05), spot.yaw, seat)
    for sx in (-1, 1):
        for sz in (-1, 1):
            x, z = sx * (width / 2 - 0.03), sz * (depth / 2 - 0.03)
            b.place(Shape.BOX, spot.at(x, 0.205, z), (0.04, 0.41, 0.04), spot.yaw, leg)


def _shelf(b: SceneBuilder, spot: _Spot, width: float, depth: float) -> None:
    height, boards = b.between((1.4, 2.1)), int(b.rng.integers(3, 6))
    wood = b.paint("body", (0.6, 1.2))
    for sx in (-1, 1):
        x = sx * (width / 2 - 0.015)
        b.place(Shape.BOX, spot.at(x, height / 2, 0), (0.03, height, depth), spot.yaw, wood)
    rise = height / boards
    for level in range(boards + 1):
        y = level * (height - 0.03) / boards + 0.015
        b.place(Shape.BOX, spot.at(0, y, 0), (width - 0.06, 0.03, depth), spot.yaw, wood)
    for level in range(boards):
        row, tall = b.between((0.4, 0.9)) * (width - 0.1), b.between((0.55, 0.85)) * rise
        books = b.paint("books", (1, 1), fit=(row, tall))
        y = level * (height - 0.03) / boards + 0.03 + tall / 2
        b.place(Shape.BOX, spot.at(0, y, -0.03), (row, tall, 0.7 * depth), spot.yaw, books)


def _cabinet(b: SceneBuilder, spot: _Spot, width: float, depth: float) -> None:
    height = b.between((0.7, 1.9))
    b.place(
        Shape.BOX,
        spot.at(0, height / 2, 0),
        (width, height, depth),
        spot.yaw,
        b.paint("body", (0.8, 1.6)),
    )
    doors = 2 if width > 0.8 else 1
    front = b.paint(str(b.rng.choice(["picture", "cloth", "brick"])), (0.6, 1.2))
    for door in range(doors):
        x = (door + 0.5) / doors * width - width / 2
        extent = (width / doors - 0.04, height - 0.08, 0.02)
        b.place(Shape.BOX, spot.at(x, height / 2, depth / 2 + 0.01), extent, spot.yaw, front)
    if height < 1.2:
        _thing(b, _Spot(*spot.at(0, 0, 0)[::2], spot.yaw), height, b.between((0.2, 0.35)))


def _sofa(b: SceneBuilder, spot: _Spot, width: float, depth: float) -> None:
    cloth, cushion = b.paint("cloth", (0.6, 1.2)), b.paint("cloth", (0.3, 0.6))
    b.place(Shape.BOX, spot.at(0, 0.21, 0), (width, 0.42, depth), spot.yaw, cloth)
    back = spot.at(0, 0.62, 0.11 - depth / 2)
    b.place(Shape.BOX, back, (width, 0.4, 0.22), spot.yaw, cloth)
    for sx in (-1, 1):
        arm = spot.at(sx * (width / 2 - 0.09), 0.52, 0.11)
        b.place(Shape.BOX, arm, (0.18, 0.2, depth - 0.22), spot.yaw, cloth)
        pillow = spot.at(sx * width / 5, 0.58, 0.3 - depth / 2)
        b.place(Shape.ELLIPSOID, pillow, (0.42, 0.36, 0.2), spot.yaw, cushion)


def _bed(b: SceneBuilder, spot: _Spot, width: float, depth: float) -> None:
    frame, cover = b.paint("body", (0.6, 1.2)), b.paint("cloth", (0.6, 1.3))
    b.place(Shape.BOX, spot.at(0, 0.15, 0), (width, 0.3, depth), spot.yaw, frame)
    b.place(Shape.BOX, spot.at(0, 0.4, 0.05), (width - 0.06, 0.2, depth - 0.14), spot.yaw, cover)
    b.place(Shape.BOX, spot.at(0, 0.5, 0.03 - depth / 2), (width, 1.0, 0.06), spot.yaw, frame)
    for sx in (-1, 1):
        pillow = spot.at(sx * width / 4, 0.55, 0.4 - depth / 2)
        b.place(Shape.ELLIPSOID, pillow, (0.6, 0.2, 0.4), spot.yaw, b.paint("cloth", (0.4, 0.8)))


def _lamp(b: SceneBuilder, spot: _Spot, width: float, depth: float) -> None:
    height, metal = b.between((1.3, 1.8)), b.paint("body", (0.3, 0.5))
    b.place(Shape.CYLINDER, spot.at(0, 0.02, 0), (width, 0.04, depth), spot.yaw, metal)
    b.place(Shape.CYLINDER, spot.at(0, height / 2, 0), (0.05, height, 0.05), spot.yaw, metal)
    shade = b.paint("cloth", (0.3, 0.5))
    kind = Shape.ELLIPSOID if b.rng.random() < 0.5 else Shape.CYLINDER
    b.place(kind, spot.at(0, height, 0), (0.4, 0.35, 0.4), spot.yaw, shade)


def _plant(b: SceneBuilder, spot: _Spot, width: float, depth: float) -> None:
    pot, leaves = b.paint("brick", (0.3, 0.6)), b.paint("ground", (0.3, 0.5))
    b.place(Shape.CYLINDER, spot.at(0, 0.2, 0), (width, 0.4, depth), spot.yaw, pot)
    for _ in range(4):
        x, z = b.between((-0.15, 0.15)), b.between((-0.15, 0.15))
        crown = spot.at(x, b.between((0.55, 1.1)), z)
        b.place(Shape.ELLIPSOID, crown, (0.35, 0.5, 0.35), b.between((0, 3)), leaves)


def _rug(b: SceneBuilder, spot: _Spot, width: float, depth: float) -> None:
    material = b.paint("picture", (1, 1), fit=(width, depth))
    b.place(Shape.BOX, spot.at(0, 0.006, 0), (width, 0.012, depth), spot.yaw, material)
    _table(b, spot, 0.6 * width, 0.55 * depth)


_PIECES = (
    _Piece((0.9, 1.6), (0.6, 0.9), _table, by_wall=False),
    _Piece((0.4, 0.5), (0.4, 0.5), _chair, by_wall=False),
    _Piece((0.4, 0.5), (0.4, 0.5), _chair, by_wall=True),
    _Piece((0.7, 1.4), (0.25, 0.4), _shelf, by_wall=True),
    _Piece((0.6, 1.4), (0.4, 0.6), _cabinet, by_wall=True),
    _Piece((1.4, 2.2), (0.8, 0.95), _sofa, by_wall=True),
    _Piece((1.2, 1.8), (1.9, 2.1), _bed, by_wall=True),
    _Piece((0.3, 0.4), (0.3, 0.4), _lamp, by_wall=True),
    _Piece((0.35, 0.45), (0.35, 0.45), _plant, by_wall=True),
    _Piece((1.4, 2.0), (1.0, 1.5), _rug, by_wall=False),
)
