"""Films whose camera is known: rooms filmed from a tripod, by zooms, pans, walks, slides and orbits.

Each film is one shot of 12 s. ``KINDS`` says, for each way of filming, what a miner should call it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sage_core.world import Scene, build_scene, camera_path, look, render_views
from sage_core.world.encoding import Effects, write_pictures
from sage_core.world.videos import film_intrinsics

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]

WIDTH, HEIGHT, FPS, SECONDS = 320, 180, 5, 12
FRAMES = FPS * SECONDS
TIME = np.arange(FRAMES) / FPS
ROOMS = {"a": 43_000, "b": 44_000}
"""First seed of the rooms of each half: one to choose thresholds on, one to report."""
_CLEARANCE_M = 0.35
_TREMOR_M, _TREMOR_RAD = 0.008, 0.006


@dataclass(frozen=True)
class Move:
    """A camera on its way: ``cam_from_world`` [FRAMES, 3, 4], focal length in units of the lens's own."""

    cam_from_world: Array
    focal: Array


@dataclass(frozen=True)
class Kind:
    """A way of filming: the ``camera`` it should be called, and how it moves in a scene."""

    camera: str
    move: Callable[[Scene, np.random.Generator], Move]
    poster: bool = False
    """Whether a picture of the room on a wall is filmed instead of the room."""


def write(
    kind: str, half: str, number: int, path: Path, size: tuple[int, int] = (WIDTH, HEIGHT)
) -> None:
    """Film one room in one way, into an mp4 of that width and height."""
    seed = ROOMS[half] + number
    for attempt in range(40):
        scene = build_scene(seed + 100 * attempt, "V")
        rng = np.random.default_rng([seed, list(KINDS).index(kind)])
        try:
            move = KINDS[kind].move(scene, rng)
        except ValueError:  # no space for this way in this room
            continue
        film = _poster if KINDS[kind].poster else _room
        write_pictures(film(scene, move, size), FRAMES, path, FPS, size, Effects(crf=23), seed)
        return
    raise ValueError(f"no room near seed {seed} has space for {kind!r}")


def _room(scene: Scene, move: Move, size: tuple[int, int]) -> Iterator[Image]:
    lens, (width, height) = film_intrinsics(scene, size), size
    last: tuple[Array, float] | None = None
    for pose, focal in zip(move.cam_from_world, move.focal.tolist(), strict=True):
        if last is None or focal != last[1] or not np.array_equal(pose, last[0]):
            last = pose, focal
            lens_now = _zoomed(lens, focal)[None]
            picture = render_views(scene, pose[None], lens_now, height, width)[0][0]
        yield picture


def _poster(scene: Scene, move: Move, size: tuple[int, int]) -> Iterator[Image]:
    """The plane z = 0 with a picture of the room, 3.2 by 1.8 m, repeated as a mirror would."""
    wide = (2 * size[0], 2 * size[1])
    K = film_intrinsics(scene, wide)
    view = camera_path(scene, "static", 1, FPS, 1)
    picture = render_views(scene, view, K[None], wide[1], wide[0])[0][0]
    pixels = wide[0] / 3.2
    onto = np.array([[pixels, 0, wide[0] / 2], [0, pixels, wide[1] / 2], [0, 0, 1]])
    lens = film_intrinsics(scene, size)
    for pose, focal in zip(move.cam_from_world, move.focal, strict=True):
        plane = _zoomed(lens, float(focal)) @ pose[:, [0, 1, 3]]
        seen = plane @ np.linalg.inv(onto)
        yield cv2.warpPerspective(
            picture, seen, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT
        )


def _zoomed(K: Array, focal: float) -> Array:
    return np.asarray(np.diag([focal, focal, 1.0]) @ (K - _centre(K)) + _centre(K))


def _centre(K: Array) -> Array:
    """The part of the intrinsics that a zoom leaves as it is."""
    return np.array([[0, 0, K[0, 2]], [0, 0, K[1, 2]], [0, 0, 1.0]])


def _tripod(
    turn_deg: float = 0.0, zoom: float = 1.0, held: float = 0.0
) -> Callable[[Scene, np.random.Generator], Move]:
    """On the spot: turning by so many degrees a second, zooming, held in the hand."""

    def move(scene: Scene, rng: np.random.Generator) -> Move:
        spot = camera_path(scene, "static", 1, FPS, int(rng.integers(99)))[0]
        place, yaw = -spot[:, :3].T @ spot[:, 3], math.atan2(spot[2, 0], spot[2, 2])
        way = float(rng.choice((-1, 1)))
        yaws = yaw + way * np.radians(turn_deg) * (TIME - SECONDS / 2)
        factor = zoom if rng.random() < 0.5 else 1 / zoom
        start = 1.0 if factor > 1 else zoom
        focal = start * factor ** (TIME / TIME[-1])
        return Move(_held(np.tile(place, (FRAMES, 1)), yaws, rng, held), focal)

    return move


def _straight(
    speed: float, ahead: bool, held: float = 0.0
) -> Callable[[Scene, np.random.Generator], Move]:
    """Along a line at so many metres a second, looking along it or across it."""

    def move(scene: Scene, rng: np.random.Generator) -> Move:
        way = speed * SECONDS
        for _ in range(300):
            begin = rng.uniform([0.6, 1.2, 0.6], np.asarray(scene.size) - [0.6, 1.0, 0.6])
            bearing = float(rng.uniform(0, 2 * np.pi))
            step = np.array([math.sin(bearing), 0, math.cos(bearing)])
            place = begin + way * (TIME / SECONDS)[:, None] * step
            # Ahead there must be something to see when the walk ends, and nothing in the way.
            room = begin + np.linspace(0, way + (1.0 if ahead else 0.0), 40)[:, None] * step
            if not scene.blocked(room, _CLEARANCE_M).any():
                yaw = bearing + (0.0 if ahead else float(rng.choice((-1, 1))) * np.pi / 2)
                return Move(_held(place, np.full(FRAMES, yaw), rng, held), np.ones(FRAMES))
        raise ValueError(f"no straight way of {way} m in scene {scene.seed}")

    return move


def _orbit(pace: float, held: float = 0.0) -> Callable[[Scene, np.random.Generator], Move]:
    def move(scene: Scene, rng: np.random.Generator) -> Move:
        poses = camera_path(scene, "orbit", FRAMES, FPS / pace, int(rng.integers(99)))
        place = -np.einsum("nji,nj->ni", poses[:, :, :3], poses[:, :, 3])
        yaw = np.unwrap(np.arctan2(poses[:, 2, 0], poses[:, 2, 2]))
        return Move(_held(place, yaw, rng, held), np.ones(FRAMES))

    return move


def _before_poster(speed: float, held: float = 0.0) -> Callable[[Scene, np.random.Generator], Move]:
    """Along the wall, 1.2 m from it and not quite square to it."""

    def move(scene: Scene, rng: np.random.Generator) -> Move:
        bearing = float(rng.uniform(0, 2 * np.pi))
        step = np.array([math.cos(bearing), math.sin(bearing), 0])
        place = np.array([0, 0, -1.2]) + speed * (TIME - SECONDS / 2)[:, None] * step
        yaw = np.full(FRAMES, rng.uniform(-0.3, 0.3))
        return Move(_held(place, yaw, rng, held), np.ones(FRAMES))

    return move


def _held(place: Array, yaw: Array, rng: np.random.Generator, held: float) -> Array:
    """Poses looking a little down, with so much of a hand's tremor."""
    shake = [_tremor(rng) for _ in range(6)]
    place = place + held * _TREMOR_M * np.stack(shake[:3], axis=1)
    yaw, pitch, roll = (
        angle + held * _TREMOR_RAD * one
        for angle, one in zip(
            (yaw, np.full(FRAMES, -0.1), np.zeros(FRAMES)), shake[3:], strict=True
        )
    )
    return look(place, yaw, pitch, roll)


def _tremor(rng: np.random.Generator) -> Array:
    rates, phases = rng.uniform(0.6, 4.0, 5), rng.random(5)
    return np.asarray(np.sin(2 * np.pi * (rates * TIME[:, None] + phases)).mean(axis=1) * 1.5)


KINDS = {
    "tripod": Kind("static", _tripod()),
    "held still": Kind("static", _tripod(held=0.5)),
    "pan": Kind("rotation", _tripod(turn_deg=10)),
    "slow pan": Kind("rotation", _tripod(turn_deg=2)),
    "pan in the hand": Kind("rotation", _tripod(turn_deg=6, held=0.5)),
    "zoom": Kind("zoom", _tripod(zoom=2.0)),
    "slow zoom": Kind("zoom", _tripod(zoom=1.25)),
    "along a poster": Kind("planar", _before_poster(0.1), poster=True),
    "along a poster in the hand": Kind("planar", _before_poster(0.05, held=1), poster=True),
    "walk": Kind("walking", _straight(0.2, ahead=True)),
    "walk in the hand": Kind("walking", _straight(0.2, ahead=True, held=1)),
    "slow drone ahead": Kind("walking", _straight(0.03, ahead=True)),
    "orbit": Kind("orbit", _orbit(1.0)),
    "orbit in the hand": Kind("orbit", _orbit(1.0, held=1)),
    "slow drone orbit": Kind("orbit", _orbit(0.1)),
    "slide": Kind("travelling", _straight(0.2, ahead=False)),
    "slow drone aside": Kind("travelling", _straight(0.02, ahead=False)),
}
