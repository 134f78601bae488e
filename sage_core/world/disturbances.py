"""What spoils a static scene, with exact truth: things that move, a zoom, and overlays on the picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from sage_core.geometry import camera_centres
from sage_core.world.render import render_views
from sage_core.world.scenes import Array, Scene, SceneBuilder, Shape

Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
OVERLAYS = ("letterbox", "logo", "subtitles")
_CLEARANCE_M = 0.6
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_LINES = ("the light in here is good", "walk on", "and this is the kitchen", "mind the step")


@dataclass(frozen=True)
class Mover:
    """A box or ball on a level ellipse about ``centre``, which it never stops on.

    Attributes:
        centre: float [3], metres, of the path. ``reach``: its half axes along x and z, metres.
        size: full extent (x, y, z), metres.
        period_s: of one turn, negative the other way round; ``phase``: radians at time 0.
        bounce_m: how far it hops up, twice a turn.
        scene: a scene of one primitive, whose material it wears.
    """

    centre: Array
    reach: tuple[float, float]
    period_s: float
    phase: float
    bounce_m: float
    scene: Scene

    def at(self, time_s: float) -> Array:
        """Its place [3] in metres."""
        angle = self.phase + 2 * np.pi * time_s / self.period_s
        hop = self.bounce_m * abs(np.sin(angle))
        aside = (self.reach[0] * np.cos(angle), hop, self.reach[1] * np.sin(angle))
        return np.asarray(self.centre + np.array(aside))


@dataclass(frozen=True)
class Disturbances:
    """Attributes:
    movers: what moves.
    zoom: the focal length swings between the lens's own and this many times it.
    zoom_period_s: seconds from wide to wide.
    overlays: names out of :data:`OVERLAYS`.
    """

    movers: tuple[Mover, ...] = ()
    zoom: float = 1.0
    zoom_period_s: float = 8.0
    overlays: tuple[str, ...] = ()

    def focal_scale(self, time_s: float) -> float:
        """What the focal length is multiplied by."""
        swing = (1 - np.cos(2 * np.pi * time_s / self.zoom_period_s)) / 2
        return float(1 + (self.zoom - 1) * swing)


@dataclass(frozen=True)
class TrueFrame:
    """A picture and what in it is no static scene.

    Attributes:
        image: uint8 [H, W, 3]; ``moving``, ``overlaid``: bool [H, W].
        intrinsics: [3, 3], after the zoom.
    """

    image: Image
    moving: Mask
    overlaid: Mask
    intrinsics: Array


def make_movers(scene: Scene, cam_from_world: Array, count: int, seed: int) -> tuple[Mover, ...]:
    """Movers about the middle of the room, out of the way of cameras [N, 3, 4].

    Raises:
        ValueError: the cameras leave no space for them.
    """
    rng = np.random.default_rng([scene.seed, seed, 9])
    cameras = camera_centres(cam_from_world)
    movers: list[Mover] = []
    for _ in range(200):
        if len(movers) == count:
            break
        mover = _mover(scene, rng)
        way = np.stack([mover.at(t) for t in np.linspace(0, abs(mover.period_s), 40)])
        apart = np.linalg.norm(way[:, None] - cameras, axis=2).min()
        if apart > _CLEARANCE_M + mover.scene.half.max():
            movers.append(mover)
    if len(movers) < count:
        raise ValueError(f"no space for {count} movers among the cameras of scene {scene.seed}")
    return tuple(movers)


def _mover(scene: Scene, rng: np.random.Generator) -> Mover:
    builder = SceneBuilder(rng, scene.family.look, scene.size)
    shape = Shape.BOX if rng.random() < 0.5 else Shape.ELLIPSOID
    size = rng.uniform(0.3, 0.7, 3)
    builder.place(shape, (0, 0, 0), tuple(size), 0.0, builder.paint("wall", (0.3, 0.6)))
    width, _, depth = scene.size
    offset = rng.uniform(-0.15, 0.15, 2) * (width, depth)
    return Mover(
        centre=np.array([width / 2 + offset[0], rng.uniform(0.5, 1.3), depth / 2 + offset[1]]),
        reach=(float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.2, 0.6))),
        period_s=float(rng.uniform(4, 9) * rng.choice((-1, 1))),
        phase=float(rng.uniform(0, 2 * np.pi)),
        bounce_m=float(rng.uniform(0, 0.3)),
        scene=replace(
            scene,
            shape=np.array(builder.shape),
            centre=np.zeros((1, 3)),
            half=np.array(builder.half),
            yaw=np.zeros(1),
            material=np.zeros(1, np.int64),
            materials=builder.materials,
        ),
    )


def scene_at(scene: Scene, movers: tuple[Mover, ...], time_s: float) -> Scene:
    """The scene with the movers in it, where they are at that time."""
    for mover in movers:
        thing = mover.scene
        scene = replace(
            scene,
            shape=np.concatenate([scene.shape, thing.shape]),
            centre=np.concatenate([scene.centre, mover.at(time_s)[None]]),
            half=np.concatenate([scene.half, thing.half]),
            yaw=np.append(scene.yaw, 2 * np.pi * time_s / mover.period_s),
            material=np.append(scene.material, len(scene.materials)),
            materials=[*scene.materials, *thing.materials],
        )
    return scene


def disturbed_frames(
    scene: Scene,
    cam_from_world: Array,
    intrinsics: Array,
    size: tuple[int, int],
    fps: float,
    disturbances: Disturbances,
) -> Iterator[TrueFrame]:
    """Film the scene along [N, 3, 4]; ``intrinsics`` [3, 3] of the lens at rest, size (width, height)."""
    width, height = size
    for index, pose in enumerate(cam_from_world):
        time_s = index / fps
        K = intrinsics.copy()
        K[[0, 1], [0, 1]] *= disturbances.focal_scale(time_s)
        image, moving = _with_movers(scene, disturbances.movers, time_s, pose, K, size)
        overlaid = np.zeros((height, width), bool)
        for overlay in disturbances.overlays:
            overlaid |= draw_overlay(image, overlay, time_s)
        yield TrueFrame(image, moving & ~overlaid, overlaid, K)


def _with_movers(
    scene: Scene,
    movers: tuple[Mover, ...],
    time_s: float,
    pose: Array,
    K: Array,
    size: tuple[int, int],
) -> tuple[Image, Mask]:
    """The picture, and where it shows a mover: where the scene without them lies farther away."""
    view = (pose[None], K[None], size[1], size[0])
    images, depth = render_views(scene_at(scene, movers, time_s), *view)
    if not movers:
        return images[0], np.zeros(depth.shape[1:], bool)
    _, empty = render_views(scene, *view, smooth_edges=False)
    return images[0], depth[0] < empty[0] - 1e-3


def draw_overlay(image: Image, name: str, time_s: float) -> Mask:
    """Draw an overlay into the picture [H, W, 3]; gives the pixels that it covers, bool [H, W].

    Raises:
        ValueError: unknown overlay.
    """
    if name not in OVERLAYS:
        raise ValueError(f"no overlay {name!r}: choose one of {', '.join(OVERLAYS)}")
    covered = np.zeros(image.shape[:2], np.uint8)
    before = image.copy()
    {"letterbox": _letterbox, "logo": _logo, "subtitles": _subtitles}[name](image, covered, time_s)
    return np.asarray((covered > 0) | (image != before).any(-1))  # smoothed outlines reach beyond


def _letterbox(image: Image, covered: Image, time_s: float) -> None:
    bar = round(0.11 * len(image))
    for rows in (slice(0, bar), slice(-bar, None)):
        image[rows], covered[rows] = 0, 1


def _logo(image: Image, covered: Image, time_s: float) -> None:
    """A ringed disc with a letter, in the upper right corner."""
    height, width = covered.shape
    radius = round(0.07 * height)
    at = (width - 2 * radius, 2 * radius)
    cv2.circle(covered, at, radius, 1, -1)
    cv2.circle(image, at, radius, (230, 60, 40), -1, cv2.LINE_AA)
    cv2.circle(image, at, radius - 2, (250, 250, 250), 2, cv2.LINE_AA)
    scale = radius / 18
    cv2.putText(
        image,
        "S",
        (at[0] - round(9 * scale), at[1] + round(9 * scale)),
        _FONT,
        scale,
        (250, 250, 250),
        2,
        cv2.LINE_AA,
    )


def _subtitles(image: Image, covered: Image, time_s: float) -> None:
    """A line of text on a dark bar, another one every three seconds."""
    height, width = covered.shape
    text, scale = _LINES[int(time_s / 3) % len(_LINES)], height / 480
    (across, tall), _ = cv2.getTextSize(text, _FONT, scale, 2)
    left, base = (width - across) // 2, round(0.93 * height)
    pad = round(10 * scale)
    bar = np.s_[base - tall - pad : base + pad, left - pad : left + across + pad]
    image[bar] = image[bar] // 4
    covered[bar] = 1
    cv2.putText(image, text, (left, base), _FONT, scale, (240, 240, 240), 2, cv2.LINE_AA)
