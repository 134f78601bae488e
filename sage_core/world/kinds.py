"""Kinds of scenes: what is built inside the shell. Each fills a builder whose size is given."""

from __future__ import annotations

import math
from collections.abc import Callable

from sage_core.world.pieces import Spot, cabinet, chair, plant, shelf, table, thing, wall_spot
from sage_core.world.scenes import Layout, SceneBuilder, Shape
from sage_core.world.shell import furnish, hang_pictures, paint_shell, strew

_LONG_WALLS = (1, 3)
"""Those along z."""


def room(b: SceneBuilder, layout: Layout) -> None:
    """A living room: pictures, furniture by the walls and in the middle, small things on the floor."""
    paint_shell(b)
    hang_pictures(b)
    taken = furnish(b, count(b, layout.furniture))
    strew(b, count(b, layout.clutter), taken)


def count(b: SceneBuilder, bounds: tuple[int, int]) -> int:
    """How many, both ends included."""
    return int(b.rng.integers(bounds[0], bounds[1] + 1))


def corridor(b: SceneBuilder, layout: Layout) -> None:
    """Doors and notice boards along both walls, pilasters, a beam now and then, flat things by the wall."""
    paint_shell(b)
    width, height, depth = b.size
    frame, stone = b.paint("body", (0.6, 1.2)), b.paint("brick", (0.5, 1.0))
    for wall in _LONG_WALLS:
        along = 0.06
        while along < 0.94:
            _by_corridor(b, wall, along, frame)
            along += b.between((1.0, 2.2)) / depth
    for beam in range(int(b.rng.integers(2, 5))):
        z = depth * (beam + b.between((0.2, 0.8))) / 5
        for side in (0.1, width - 0.1):
            b.place(Shape.BOX, (side, height / 2, z), (0.2, height, 0.3), 0.0, stone)
        b.place(Shape.BOX, (width / 2, height - 0.12, z), (width, 0.24, 0.3), 0.0, stone)
    _at_the_ends(b)
    taken: list[tuple[float, float, float]] = []
    for _ in range(count(b, layout.furniture)):
        spot = wall_spot(b, int(b.rng.choice(_LONG_WALLS)), b.between((0.08, 0.92)), 0.2)
        if all(abs(spot.z - z) > 1.0 or abs(spot.x - x) > 0.6 for x, z, _ in taken):
            build = (cabinet, shelf, plant, chair)[int(b.rng.integers(4))]
            build(b, spot, b.between((0.4, 0.9)), 0.32)
            taken.append((spot.x, spot.z, 0.5))


def _by_corridor(b: SceneBuilder, wall: int, along: float, frame: int) -> None:
    """A door with its frame, or a picture."""
    if b.rng.random() < 0.5:
        wide, tall = b.between((0.8, 1.0)), b.between((1.95, 2.1))
        spot = wall_spot(b, wall, along, 0.03)
        b.place(
            Shape.BOX, spot.at(0, tall / 2, 0), (wide + 0.16, tall + 0.08, 0.05), spot.yaw, frame
        )
        leaf = b.paint(str(b.rng.choice(["cloth", "body", "picture"])), (0.8, 1.4))
        b.place(Shape.BOX, spot.at(0, tall / 2, 0.02), (wide, tall, 0.05), spot.yaw, leaf)
        return
    spot = wall_spot(b, wall, along, 0.015)
    wide, tall = b.between((0.4, 1.2)), b.between((0.4, 0.9))
    material = b.paint("picture", (1, 1), fit=(wide, tall))
    b.place(Shape.BOX, spot.at(0, b.between((1.3, 1.6)), 0), (wide, tall, 0.03), spot.yaw, material)


def _at_the_ends(b: SceneBuilder) -> None:
    """Something to walk towards: a window or a large picture on each short wall."""
    for wall in (0, 2):
        spot = wall_spot(b, wall, 0.5, 0.02)
        wide, tall = 0.6 * b.size[0], 0.55 * b.size[1]
        material = b.paint("picture", (1, 1), fit=(wide, tall))
        b.place(Shape.BOX, spot.at(0, 0.5 * b.size[1], 0), (wide, tall, 0.04), spot.yaw, material)


def office(b: SceneBuilder, layout: Layout) -> None:
    """Rows of desks with screens and chairs, partitions between them, shelves by the walls, pillars."""
    paint_shell(b)
    hang_pictures(b)
    width, height, depth = b.size
    rows, places = min(3, int(depth / 2.6)), min(3, int(width / 2.4))
    panel = b.paint("cloth", (0.6, 1.2))
    for row in range(rows):
        z = depth * (row + 0.5) / rows
        for place in range(places):
            if b.rng.random() < 0.8:
                x = width * (place + 0.5) / places + b.between((-0.1, 0.1))
                _desk(b, Spot(x, z, math.pi * int(b.rng.integers(2))), panel)
    for _ in range(count(b, layout.furniture)):
        build = shelf if b.rng.random() < 0.6 else cabinet
        spot = wall_spot(b, int(b.rng.integers(4)), b.between((0.1, 0.9)), 0.22)
        build(b, spot, b.between((0.8, 1.4)), 0.35)
    pillar = b.paint("brick", (0.6, 1.2))
    for x in (0.33, 0.67):
        at = (x * width, height / 2, b.between((0.4, 0.6)) * depth)
        b.place(Shape.CYLINDER, at, (0.4, height, 0.4), 0.0, pillar)


def _desk(b: SceneBuilder, spot: Spot, panel: int) -> None:
    table(b, spot, b.between((1.3, 1.8)), 0.8)
    screen = b.paint("picture", (1, 1), fit=(0.5, 0.32))
    b.place(Shape.BOX, spot.at(0, 0.98, -0.12), (0.5, 0.32, 0.04), spot.yaw, screen)
    b.place(Shape.BOX, spot.at(0, 0.6, -0.4), (1.5, b.between((1.0, 1.4)), 0.05), spot.yaw, panel)
    chair(b, Spot(*spot.at(b.between((-0.2, 0.2)), 0, 0.7)[::2], spot.yaw), 0.45, 0.45)


def tabletop(b: SceneBuilder, layout: Layout) -> None:
    """One table crowded with things, close up; little else in the room."""
    paint_shell(b)
    hang_pictures(b)
    width, _, depth = b.size
    spot = Spot(width / 2, depth / 2, b.between((0, math.pi)))
    wide, deep, height = b.between((1.0, 1.5)), b.between((0.7, 1.0)), b.between((0.6, 0.85))
    top = b.paint(str(b.rng.choice(["body", "cloth", "floor"])), (0.5, 1.0))
    b.place(Shape.BOX, spot.at(0, height - 0.03, 0), (wide, 0.06, deep), spot.yaw, top)
    b.place(Shape.BOX, spot.at(0, height / 2 - 0.03, 0), (0.7 * wide, height - 0.06, 0.6 * deep), spot.yaw,
            b.paint("body", (0.4, 0.9)))  # fmt: skip
    columns = math.ceil(math.sqrt(count(b, layout.furniture)))
    for i in range(columns):
        for j in range(columns):
            x = ((i + b.between((0.25, 0.75))) / columns - 0.5) * 0.95 * wide
            z = ((j + b.between((0.25, 0.75))) / columns - 0.5) * 0.95 * deep
            at = Spot(*spot.at(x, 0, z)[::2], b.between((0, 6)))
            thing(b, at, height, b.between((0.08, 0.85 * deep / columns)))
    strew(b, count(b, layout.clutter), [(width / 2, depth / 2, 0.9)])


def court(b: SceneBuilder, layout: Layout) -> None:
    """Outdoors: house fronts with windows on four sides, trees, benches, a fountain, under a bright sky."""
    _open_shell(b)
    width, _, depth = b.size
    taken = [(width / 2, depth / 2, 2.0)]
    _fountain(b, Spot(width / 2, depth / 2, 0.0))
    for wall in range(4):
        _windows(b, wall)
    for _ in range(count(b, layout.furniture)):
        spot = Spot(b.between((1.5, width - 1.5)), b.between((1.5, depth - 1.5)), b.between((0, 6)))
        if all(math.hypot(spot.x - x, spot.z - z) > 1.6 + r for x, z, r in taken):
            (_tree, _bench, _kiosk, _tree)[int(b.rng.integers(4))](b, spot)
            taken.append((spot.x, spot.z, 1.0))
    strew(b, count(b, layout.clutter), taken)


def _open_shell(b: SceneBuilder) -> None:
    """Four fronts, paving, and a sky, which is bright and nearly even."""
    for face in range(6):
        if face == 3:
            sky = b.paint("wall", (9.0, 14.0))
            bright = b.materials[sky]
            b.materials[sky] = type(bright)(
                **{**vars(bright), "dark": (0.6, 0.72, 0.9), "light": (0.95, 0.97, 1.0)}
            )
        else:
            b.paint("ground" if face == 2 else "brick", (2.5, 5.0))


def _windows(b: SceneBuilder, wall: int) -> None:
    glass, shutter = b.paint("picture", (1.5, 3.0)), b.paint("cloth", (0.5, 1.0))
    span = b.size[0] if wall in (0, 2) else b.size[2]
    floors, columns = max(2, int(b.size[1] / 3.4)), max(3, int(span / 3.2))
    for level in range(floors):
        for column in range(columns):
            spot = wall_spot(b, wall, (column + 0.5) / columns, 0.05)
            y, wide = 1.7 + 3.1 * level, b.between((0.9, 1.2))
            b.place(Shape.BOX, spot.at(0, y, 0), (wide, 1.6, 0.1), spot.yaw, glass)
            if b.rng.random() < 0.4:
                b.place(Shape.BOX, spot.at(wide, y, 0.06), (0.5, 1.6, 0.08), spot.yaw, shutter)


def _fountain(b: SceneBuilder, spot: Spot) -> None:
    stone = b.paint("brick", (0.8, 1.6))
    b.place(Shape.CYLINDER, spot.at(0, 0.3, 0), (2.4, 0.6, 2.4), 0.0, stone)
    b.place(Shape.CYLINDER, spot.at(0, 1.0, 0), (0.5, 2.0, 0.5), 0.0, stone)
    b.place(Shape.ELLIPSOID, spot.at(0, 2.1, 0), (1.0, 0.5, 1.0), 0.0, b.paint("body", (0.5, 1.0)))


def _tree(b: SceneBuilder, spot: Spot) -> None:
    bark, leaves = b.paint("body", (0.4, 0.8)), b.paint("ground", (0.5, 1.0))
    height = b.between((1.8, 3.0))
    b.place(Shape.CYLINDER, spot.at(0, height / 2, 0), (0.35, height, 0.35), 0.0, bark)
    for _ in range(4):
        x, z = b.between((-0.6, 0.6)), b.between((-0.6, 0.6))
        crown = spot.at(x, height + b.between((0.2, 1.2)), z)
        b.place(Shape.ELLIPSOID, crown, (1.5, 1.4, 1.5), b.between((0, 3)), leaves)


def _bench(b: SceneBuilder, spot: Spot) -> None:
    wood = b.paint("body", (0.5, 1.0))
    b.place(Shape.BOX, spot.at(0, 0.42, 0), (1.6, 0.08, 0.45), spot.yaw, wood)
    b.place(Shape.BOX, spot.at(0, 0.75, -0.2), (1.6, 0.4, 0.06), spot.yaw, wood)
    for side in (-0.65, 0.65):
        b.place(Shape.BOX, spot.at(side, 0.19, 0), (0.1, 0.38, 0.4), spot.yaw, wood)


def _kiosk(b: SceneBuilder, spot: Spot) -> None:
    side = b.between((1.0, 1.6))
    poster = b.paint("picture", (1, 1), fit=(side, 1.8))
    b.place(Shape.BOX, spot.at(0, 1.1, 0), (side, 2.2, side), spot.yaw, poster)
    roof = b.paint("cloth", (0.5, 1.0))
    b.place(Shape.BOX, spot.at(0, 2.28, 0), (side + 0.5, 0.16, side + 0.5), spot.yaw, roof)


def hall(b: SceneBuilder, layout: Layout) -> None:
    """Two rows of columns, exhibits on pedestals between them, large pictures, benches."""
    paint_shell(b)
    hang_pictures(b)
    width, height, depth = b.size
    stone, pedestal = b.paint("brick", (0.6, 1.3)), b.paint("body", (0.5, 1.0))
    columns = max(3, int(depth / 3.2))
    for row in (0.22, 0.78):
        for column in range(columns):
            at = (row * width, height / 2, depth * (column + 0.5) / columns)
            b.place(Shape.CYLINDER, at, (0.5, height, 0.5), 0.0, stone)
            foot = (at[0], 0.15, at[2])
            b.place(Shape.BOX, foot, (0.8, 0.3, 0.8), 0.0, stone)
    for exhibit in range(count(b, layout.furniture)):
        spot = Spot(
            width * b.between((0.36, 0.64)), depth * (exhibit + 0.5) / 10, b.between((0, 6))
        )
        if exhibit % 3 == 2:
            _bench(b, spot)
            continue
        tall = b.between((0.7, 1.1))
        b.place(Shape.BOX, spot.at(0, tall / 2, 0), (0.5, tall, 0.5), spot.yaw, pedestal)
        thing(b, spot, tall, b.between((0.3, 0.5)))
    strew(b, count(b, layout.clutter), [(width / 2, depth / 2, 1.0)])


KINDS: dict[str, Callable[[SceneBuilder, Layout], None]] = {
    "room": room,
    "corridor": corridor,
    "office": office,
    "table": tabletop,
    "court": court,
    "hall": hall,
}
