"""Furniture from boxes, cylinders and ellipsoids, and the spots that it stands on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sage_core.world.scenes import SceneBuilder, Shape


@dataclass(frozen=True)
class Spot:
    """A place on the floor and the way that a piece faces: its own z axis points into the room."""

    x: float
    z: float
    yaw: float

    def at(self, x: float, y: float, z: float) -> tuple[float, float, float]:
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + cos * x + sin * z, y, self.z - sin * x + cos * z


@dataclass(frozen=True)
class Piece:
    """A kind of furniture: footprint along and out of the wall, and how to build it."""

    width_m: tuple[float, float]
    depth_m: tuple[float, float]
    build: Callable[[SceneBuilder, Spot, float, float], None]
    by_wall: bool


def wall_spot(b: SceneBuilder, wall: int, along: float, out: float) -> Spot:
    """A spot ``along`` wall 0..3 (share of its length) and ``out`` metres from it."""
    width, _, depth = b.size
    if wall == 0:
        return Spot(along * width, out, 0.0)
    if wall == 1:
        return Spot(out, along * depth, math.pi / 2)
    if wall == 2:
        return Spot(along * width, depth - out, math.pi)
    return Spot(width - out, along * depth, -math.pi / 2)


def thing(b: SceneBuilder, spot: Spot, y: float, size: float) -> None:
    shape = Shape(int(b.rng.integers(3)))
    purpose = str(b.rng.choice(["cloth", "body", "picture", "brick"]))
    height = size * (1.0 if shape is Shape.ELLIPSOID else b.between((0.6, 1.4)))
    extent = (size, height, size)
    material = b.paint(purpose, (0.3, 0.7))
    b.place(shape, spot.at(0, y + height / 2, 0), extent, spot.yaw, material)


def table(b: SceneBuilder, spot: Spot, width: float, depth: float) -> None:
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
        thing(b, Spot(x, z, b.between((0, 6))), height, b.between((0.1, 0.25)))


def chair(b: SceneBuilder, spot: Spot, width: float, depth: float) -> None:
    seat, leg = b.paint("cloth", (0.4, 0.8)), b.paint("body", (0.3, 0.6))
    b.place(Shape.BOX, spot.at(0, 0.44, 0), (width, 0.06, depth), spot.yaw, seat)
    b.place(Shape.BOX, spot.at(0, 0.72, -depth / 2), (width, 0.5, 0.05), spot.yaw, seat)
    for sx in (-1, 1):
        for sz in (-1, 1):
            x, z = sx * (width / 2 - 0.03), sz * (depth / 2 - 0.03)
            b.place(Shape.BOX, spot.at(x, 0.205, z), (0.04, 0.41, 0.04), spot.yaw, leg)


def shelf(b: SceneBuilder, spot: Spot, width: float, depth: float) -> None:
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


def cabinet(b: SceneBuilder, spot: Spot, width: float, depth: float) -> None:
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
        thing(b, Spot(*spot.at(0, 0, 0)[::2], spot.yaw), height, b.between((0.2, 0.35)))


def sofa(b: SceneBuilder, spot: Spot, width: float, depth: float) -> None:
    cloth, cushion = b.paint("cloth", (0.6, 1.2)), b.paint("cloth", (0.3, 0.6))
    b.place(Shape.BOX, spot.at(0, 0.21, 0), (width, 0.42, depth), spot.yaw, cloth)
    back = spot.at(0, 0.62, 0.11 - depth / 2)
    b.place(Shape.BOX, back, (width, 0.4, 0.22), spot.yaw, cloth)
    for sx in (-1, 1):
        arm = spot.at(sx * (width / 2 - 0.09), 0.52, 0.11)
        b.place(Shape.BOX, arm, (0.18, 0.2, depth - 0.22), spot.yaw, cloth)
        pillow = spot.at(sx * width / 5, 0.58, 0.3 - depth / 2)
        b.place(Shape.ELLIPSOID, pillow, (0.42, 0.36, 0.2), spot.yaw, cushion)


def bed(b: SceneBuilder, spot: Spot, width: float, depth: float) -> None:
    frame, cover = b.paint("body", (0.6, 1.2)), b.paint("cloth", (0.6, 1.3))
    b.place(Shape.BOX, spot.at(0, 0.15, 0), (width, 0.3, depth), spot.yaw, frame)
    b.place(Shape.BOX, spot.at(0, 0.4, 0.05), (width - 0.06, 0.2, depth - 0.14), spot.yaw, cover)
    b.place(Shape.BOX, spot.at(0, 0.5, 0.03 - depth / 2), (width, 1.0, 0.06), spot.yaw, frame)
    for sx in (-1, 1):
        pillow = spot.at(sx * width / 4, 0.55, 0.4 - depth / 2)
        b.place(Shape.ELLIPSOID, pillow, (0.6, 0.2, 0.4), spot.yaw, b.paint("cloth", (0.4, 0.8)))


def lamp(b: SceneBuilder, spot: Spot, width: float, depth: float) -> None:
    height, metal = b.between((1.3, 1.8)), b.paint("body", (0.3, 0.5))
    b.place(Shape.CYLINDER, spot.at(0, 0.02, 0), (width, 0.04, depth), spot.yaw, metal)
    b.place(Shape.CYLINDER, spot.at(0, height / 2, 0), (0.05, height, 0.05), spot.yaw, metal)
    shade = b.paint("cloth", (0.3, 0.5))
    kind = Shape.ELLIPSOID if b.rng.random() < 0.5 else Shape.CYLINDER
    b.place(kind, spot.at(0, height, 0), (0.4, 0.35, 0.4), spot.yaw, shade)


def plant(b: SceneBuilder, spot: Spot, width: float, depth: float) -> None:
    pot, leaves = b.paint("brick", (0.3, 0.6)), b.paint("ground", (0.3, 0.5))
    b.place(Shape.CYLINDER, spot.at(0, 0.2, 0), (width, 0.4, depth), spot.yaw, pot)
    for _ in range(4):
        x, z = b.between((-0.15, 0.15)), b.between((-0.15, 0.15))
        crown = spot.at(x, b.between((0.55, 1.1)), z)
        b.place(Shape.ELLIPSOID, crown, (0.35, 0.5, 0.35), b.between((0, 3)), leaves)


def rug(b: SceneBuilder, spot: Spot, width: float, depth: float) -> None:
    material = b.paint("picture", (1, 1), fit=(width, depth))
    b.place(Shape.BOX, spot.at(0, 0.006, 0), (width, 0.012, depth), spot.yaw, material)
    table(b, spot, 0.6 * width, 0.55 * depth)


PIECES = (
    Piece((0.9, 1.6), (0.6, 0.9), table, by_wall=False),
    Piece((0.4, 0.5), (0.4, 0.5), chair, by_wall=False),
    Piece((0.4, 0.5), (0.4, 0.5), chair, by_wall=True),
    Piece((0.7, 1.4), (0.25, 0.4), shelf, by_wall=True),
    Piece((0.6, 1.4), (0.4, 0.6), cabinet, by_wall=True),
    Piece((1.4, 2.2), (0.8, 0.95), sofa, by_wall=True),
    Piece((1.2, 1.8), (1.9, 2.1), bed, by_wall=True),
    Piece((0.3, 0.4), (0.3, 0.4), lamp, by_wall=True),
    Piece((0.35, 0.45), (0.35, 0.45), plant, by_wall=True),
    Piece((1.4, 2.0), (1.0, 1.5), rug, by_wall=False),
)
