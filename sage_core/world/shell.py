"""What rooms of every kind share: painted walls, pictures, furniture that stands apart."""

from __future__ import annotations

import math

from sage_core.world.pieces import PIECES, Piece, Spot, thing, wall_spot
from sage_core.world.scenes import SceneBuilder, Shape


def paint_shell(b: SceneBuilder) -> None:
    """Six faces: walls alike or each its own, a floor, a ceiling."""
    one_wall = b.rng.random() < 0.5
    for face in range(6):
        if face == 2:
            purpose = str(b.rng.choice(["floor", "ground", "body"]))
        elif face == 3:
            purpose = "wall"
        else:
            purpose = "wall" if one_wall else str(b.rng.choice(["wall", "brick", "cloth"]))
        b.paint(purpose, (1.2, 2.4))


def hang_pictures(b: SceneBuilder) -> None:
    """Two to four on each wall."""
    for wall in range(4):
        for slot in range(int(b.rng.integers(2, 5))):
            width, height = b.between((0.5, 1.3)), b.between((0.5, 1.1))
            along = (slot + b.between((0.25, 0.75))) / 4
            spot = wall_spot(b, wall, along, 0.015)
            y = b.between((1.3, max(1.4, b.size[1] - 0.7)))
            material = b.paint("picture", (1, 1), fit=(width, height))
            b.place(Shape.BOX, spot.at(0, y, 0), (width, height, 0.03), spot.yaw, material)


def furnish(b: SceneBuilder, count: int) -> list[tuple[float, float, float]]:
    """Stand ``count`` pieces without overlap; returns discs (x, z, radius) that are taken."""
    taken: list[tuple[float, float, float]] = []
    for _ in range(count):
        piece = PIECES[int(b.rng.integers(len(PIECES)))]
        for _ in range(8):
            width, depth = b.between(piece.width_m), b.between(piece.depth_m)
            spot = _spot_for(b, piece, depth)
            radius = 0.5 * math.hypot(width, depth)
            if all(math.hypot(spot.x - x, spot.z - z) > radius + r for x, z, r in taken):
                piece.build(b, spot, width, depth)
                taken.append((spot.x, spot.z, radius))
                break
    return taken


def _spot_for(b: SceneBuilder, piece: Piece, depth: float) -> Spot:
    width, _, length = b.size
    if piece.by_wall:
        along = b.between((0.15, 0.85))
        return wall_spot(b, int(b.rng.integers(4)), along, depth / 2 + 0.04)
    return Spot(
        width * b.between((0.25, 0.75)), length * b.between((0.25, 0.75)), b.between((0, 6.28))
    )


def strew(b: SceneBuilder, count: int, taken: list[tuple[float, float, float]]) -> None:
    """Small things on the floor: balls, boxes, stools, plant pots."""
    width, _, length = b.size
    for _ in range(count):
        spot = Spot(
            b.between((0.4, width - 0.4)), b.between((0.4, length - 0.4)), b.between((0, 6))
        )
        if any(math.hypot(spot.x - x, spot.z - z) < r + 0.3 for x, z, r in taken):
            continue
        thing(b, spot, 0.0, b.between((0.2, 0.45)))
        taken.append((spot.x, spot.z, 0.25))
