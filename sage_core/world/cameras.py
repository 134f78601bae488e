"""Where cameras stand and how they travel through a room."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sage_core.world.scenes import Scene

Array = npt.NDArray[np.float64]
MOTIONS = ("walkthrough", "orbit", "handheld", "static", "rotation", "drone")
_CLEARANCE_M = 0.35
_LONG = ("corridor", "hall")
"""Kinds that are walked from end to end, along z."""


def look(position: Array, yaw: Array, pitch: Array, roll: Array) -> Array:
    """``cam_from_world`` [..., 3, 4] of cameras at ``position`` [..., 3]; angles in radians.

    Yaw 0 looks along +z, positive towards +x; positive pitch looks up; positive roll turns the picture
    clockwise.
    """
    ahead = np.stack(
        [np.sin(yaw) * np.cos(pitch), np.sin(pitch), np.cos(yaw) * np.cos(pitch)], axis=-1
    )
    level = np.stack([-np.cos(yaw), np.zeros_like(yaw), np.sin(yaw)], axis=-1)
    down = np.cross(ahead, level)
    cos, sin = np.cos(roll)[..., None], np.sin(roll)[..., None]
    rotation = np.stack([cos * level + sin * down, cos * down - sin * level, ahead], axis=-2)
    translation = -(rotation @ position[..., None])
    return np.concatenate([rotation, translation], axis=-1)


def pinhole(fov_deg: float, height: int, width: int) -> Array:
    """Intrinsics [3, 3] with that field of view along the picture's short side, centred."""
    focal = 0.5 * min(height, width) / math.tan(math.radians(fov_deg) / 2)
    return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def overlapping_views(scene: Scene, count: int, rng: np.random.Generator) -> Array:
    """Poses [count, 3, 4] of which each stands a step and a turn away from an earlier one.

    Overlap comes by construction: a view is at most ``layout.step_m`` and ``layout.turn_deg`` from the
    view that it was made from. The order is shuffled, so that any of them may be the reference.
    """
    layout = scene.family.layout
    position = _free_spot(scene, rng, rng.uniform(*layout.camera_height_m))
    views = [(position, _towards_middle(scene, position) + rng.normal(0, 0.35))]
    while len(views) < count:
        views.append(_neighbour(scene, views[int(rng.integers(len(views)))], rng))
    order = rng.permutation(count)
    places = np.array([view[0] for view in views])[order]
    yaw = np.array([view[1] for view in views])[order]
    pitch = np.radians(rng.uniform(*layout.pitch_deg) + rng.normal(0, 2.0, count))
    roll = np.radians(rng.uniform(*layout.roll_deg, count))
    return look(places, yaw, pitch, roll)


def _neighbour(
    scene: Scene, view: tuple[Array, float], rng: np.random.Generator
) -> tuple[Array, float]:
    layout = scene.family.layout
    for _ in range(30):
        bearing, step = rng.uniform(0, 2 * math.pi), rng.uniform(*layout.step_m)
        offset = [step * math.sin(bearing), rng.normal(0, 0.05), step * math.cos(bearing)]
        place = view[0] + np.array(offset)
        if not scene.blocked(place[None], _CLEARANCE_M)[0]:
            turn = math.radians(rng.uniform(-layout.turn_deg, layout.turn_deg))
            return place, view[1] + turn
    return view[0], view[1] + math.radians(rng.uniform(-layout.turn_deg, layout.turn_deg))


def _towards_middle(scene: Scene, position: Array) -> float:
    return math.atan2(scene.size[0] / 2 - position[0], scene.size[2] / 2 - position[2])


def _free_spot(scene: Scene, rng: np.random.Generator, height: float) -> Array:
    """A place where a camera can be, at that height or, in a crammed room, somewhat above it."""
    margin = np.array([0.7, 0.0, 0.7])
    for lift in (0.0, 0.2, 0.4):
        low, high = margin, np.asarray(scene.size) - margin
        spots = rng.uniform(low, high, (60, 3))
        spots[:, 1] = min(height + lift, scene.size[1] - 0.45)
        free = ~scene.blocked(spots, _CLEARANCE_M)
        if free.any():
            return np.asarray(spots[int(np.argmax(free))])
    raise ValueError(f"no free place for a camera in scene {scene.seed} ({scene.family.name})")


def camera_path(scene: Scene, motion: str, frames: int, fps: float, seed: int) -> Array:
    """A film's poses [frames, 3, 4].

    ``walkthrough``: a smooth way through the room, looking about; from end to end where it is long.
    ``orbit``: around the room's middle, looking at it. ``handheld``: a walkthrough with the tremor of a
    hand. ``static``: a tripod. ``rotation``: a tripod that pans. ``drone``: an orbit from above that sinks.

    Raises:
        ValueError: unknown motion, or a room without space for the path.
    """
    rng = np.random.default_rng([scene.seed, seed, MOTIONS.index(_known(motion))])
    time = np.arange(frames) / fps
    layout = scene.family.layout
    height = float(rng.uniform(*layout.camera_height_m))
    pitch = np.full(frames, math.radians(layout.gaze_pitch_deg)) + 0.05 * _wander(rng, time, 0.15)
    roll = np.radians(1.0) * _wander(rng, time, 0.2)
    if motion in ("static", "rotation"):
        spot = _free_spot(scene, rng, height)
        turn = 0.0 if motion == "static" else math.radians(14.0)
        yaw = _towards_middle(scene, spot) - 0.5 + turn * time
        still = np.broadcast_to(spot, (frames, 3))
        return look(still, yaw, np.full(frames, pitch[0]), np.full(frames, roll[0]))
    if motion == "orbit":
        place, yaw = _orbit(scene, rng, time, height)
    elif motion == "drone":
        place, yaw = _orbit(scene, rng, time, max(height, 0.45 * scene.size[1]))
        place[:, 1] -= np.minimum(0.08 * time, 0.15 * scene.size[1])
        pitch -= math.radians(14)
    elif scene.family.kind in _LONG:
        place, yaw = _along(scene, rng, time, height)
    else:
        place, yaw = _walk(scene, rng, time, height)
    if motion == "handheld":
        place = place + 0.012 * np.stack([_tremor(rng, time) for _ in range(3)], axis=-1)
        yaw, pitch, roll = (angle + 0.008 * _tremor(rng, time) for angle in (yaw, pitch, roll))
    return look(place, yaw, pitch, roll)


def _known(motion: str) -> str:
    if motion not in MOTIONS:
        raise ValueError(f"no camera motion {motion!r}: choose one of {', '.join(MOTIONS)}")
    return motion


def _wander(rng: np.random.Generator, time: Array, frequency_hz: float) -> Array:
    """Smooth noise of about unit size: a few slow sines."""
    rates = frequency_hz * rng.uniform(0.4, 1.2, 4)
    waves = np.sin(2 * np.pi * (rates[:, None] * time + rng.random((4, 1))))
    return np.asarray(waves.mean(axis=0) * math.sqrt(2))


def _tremor(rng: np.random.Generator, time: Array) -> Array:
    return _wander(rng, time, 2.5) + 0.4 * _wander(rng, time, 6.0)


def _ellipse(
    scene: Scene, angle: Array, reach: tuple[float, float], height: float, wobble: Array
) -> Array:
    width, _, depth = scene.size
    return np.stack(
        [
            width / 2 + reach[0] * np.sin(angle),
            height + wobble,
            depth / 2 + reach[1] * np.cos(angle),
        ],
        axis=-1,
    )


def _orbit(
    scene: Scene, rng: np.random.Generator, time: Array, height: float
) -> tuple[Array, Array]:
    """Around the middle at a walking pace, looking at the opposite side."""
    place = _free_path(scene, rng, time, height, spread=1.0)
    return place, np.arctan2(scene.size[0] / 2 - place[:, 0], scene.size[2] / 2 - place[:, 2])


def _walk(
    scene: Scene, rng: np.random.Generator, time: Array, height: float
) -> tuple[Array, Array]:
    """Along an arc through the room; the gaze stays on the far side and wanders a little."""
    place = _free_path(scene, rng, time, height, spread=0.8)
    aside = rng.uniform(0.15, 0.4) * (1 if rng.random() < 0.5 else -1)
    target_x = scene.size[0] / 2 + aside * scene.size[0] * np.sin(0.25 * time)
    target_z = scene.size[2] / 2 + aside * scene.size[2] * np.cos(0.25 * time)
    yaw = np.arctan2(target_x - place[:, 0], target_z - place[:, 2])
    return place, np.unwrap(yaw) + 0.06 * _wander(rng, time, 0.2)


def _along(
    scene: Scene, rng: np.random.Generator, time: Array, height: float
) -> tuple[Array, Array]:
    """From one end of a long room towards the other, swaying, with an eye on one wall, then the other."""
    width, _, depth = scene.size
    pace = min(rng.uniform(*scene.family.layout.pace_ms), (depth - 2.0) / max(time[-1], 1e-6))
    backwards = rng.random() < 0.5
    for attempt in range(60):
        sway = 0.12 * (1 - attempt / 60) * width
        x = width / 2 + sway * _wander(rng, time, 0.12)
        z = rng.uniform(0.9, depth - 1.0 - pace * time[-1]) + pace * time
        level = height + 0.005 * attempt + 0.03 * _wander(rng, time, 0.3)
        place = np.stack([x, level, depth - z if backwards else z], axis=-1)
        if not scene.blocked(place[:: max(1, len(place) // 60)], _CLEARANCE_M).any():
            return place, (math.pi if backwards else 0.0) + 0.45 * _wander(rng, time, 0.12)
    raise ValueError(f"no free way along scene {scene.seed} ({scene.family.name})")


def _free_path(
    scene: Scene, rng: np.random.Generator, time: Array, height: float, spread: float
) -> Array:
    """An arc about the middle that touches nothing: smaller or higher arcs until one is free."""
    speed = rng.uniform(*scene.family.layout.pace_ms)
    for attempt in range(60):
        shrink = spread * (1 - 0.012 * attempt)
        room = min(scene.size[0], scene.size[2]) / 2 - 0.6
        reach = (shrink * (scene.size[0] / 2 - 0.6), shrink * (scene.size[2] / 2 - 0.6))
        start = rng.uniform(0, 2 * np.pi)
        angle = start + speed / max(0.5, shrink * room) * time
        wobble = 0.06 * _wander(rng, time, 0.15)
        level = min(height + 0.015 * attempt, scene.size[1] - 0.45)
        place = _ellipse(scene, angle, reach, level, wobble)
        if not scene.blocked(place[:: max(1, len(place) // 60)], _CLEARANCE_M).any():
            return place
    raise ValueError(f"no free path in scene {scene.seed} ({scene.family.name})")
