"""One film for each reason that a miner gives: rooms filmed well and badly, and what is no footage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks import motions
from sage_core.types import Reason
from sage_core.world import Scene, build_scene, camera_path, render_views
from sage_core.world.disturbances import Disturbances, Mover, disturbed_frames, make_movers
from sage_core.world.videos import Effects, film_intrinsics, write_pictures

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]
Pictures = Iterator[Image]

SIZE, FPS, SECONDS = (640, 480), 15, 12
_FRAMES = FPS * SECONDS
_SLOW = 5
"""Frames a second where rendering them is dear and no cut has to be told from motion."""
_ROOM = 45_000
"""First seed of the rooms filmed here."""
_A, _B = 10, 6
"""Numbers of two rooms that are easily seen."""
_CAMERA, _SCREEN, _OPEN = Effects(), Effects(0, 0, 0), Effects(vignette=0, flicker=0)
_SANS = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Film:
    """A film to be made.

    Attributes:
        name: of the file.
        title: what is filmed, in a few words.
        reason: the right verdict's; None where it is to be accepted.
        make: writes it.
        kind: what ``not_footage`` should call it.
        clip: whether its first clip is shown as reconstruct judged it, or all of it as curate did.
    """

    name: str
    title: str
    reason: Reason | None
    make: Callable[[Path], None]
    kind: str = ""
    clip: bool = False


def _moved(kind: str, number: int = 0) -> Callable[[Path], None]:
    """A way of filming out of :mod:`.motions`, five frames a second."""
    return lambda path: motions.write(kind, "a", number, path, SIZE)


def _pictures(
    make: Callable[[], Pictures],
    count: int = _FRAMES,
    size: tuple[int, int] = SIZE,
    effects: Effects = _CAMERA,
    fps: int = FPS,
) -> Callable[[Path], None]:
    return lambda path: write_pictures(make(), count, path, fps, size, effects, _ROOM)


@cache
def _walk(number: int, count: int = _FRAMES, fps: int = FPS) -> tuple[Image, ...]:
    """A walk through the room of that number; rendered once, since several films show it."""
    scene, poses = _way(number, "walkthrough", count, fps)
    lens = film_intrinsics(scene, SIZE)[None]
    return tuple(render_views(scene, pose[None], lens, SIZE[1], SIZE[0])[0][0] for pose in poses)


def _slow_walk(number: int) -> tuple[Image, ...]:
    return _walk(number, _SLOW * SECONDS, _SLOW)


def _way(number: int, motion: str, count: int, fps: int) -> tuple[Scene, Array]:
    """The first room from that number on that has space for the motion."""
    for attempt in range(40):
        scene = build_scene(_ROOM + number + 100 * attempt, "V")
        try:
            return scene, camera_path(scene, motion, count, fps, 0)
        except ValueError:
            continue
    raise ValueError(f"no room near {_ROOM + number} has space for {motion!r}")


def _shots() -> Pictures:
    """Black for 1 s, a fade of 1 s, 11 s of a walk, a cut, 3 s, a dissolve of 1 s, 3 s."""
    first, second, third = _walk(_B), _walk(9, 4 * FPS), _walk(14, 4 * FPS)
    yield from [np.zeros_like(first[0])] * FPS
    yield from (cv2.convertScaleAbs(f, alpha=min(1.0, t / FPS)) for t, f in enumerate(first))
    yield from second[:-FPS]
    for t in range(FPS):
        share = (t + 0.5) / FPS
        yield cv2.addWeighted(second[t - FPS], 1 - share, third[t], share, 0)
    yield from third[FPS:]


def _montage() -> Pictures:
    for number, count in ((_A, _FRAMES), (9, 4 * FPS), (_B, _FRAMES), (14, 4 * FPS), (_A, _FRAMES)):
        begin = count // 2 if number in (_A, _B) else 0
        yield from _walk(number, count)[begin : begin + 3 * FPS]


def _crowded() -> Pictures:
    """Things of a metre that go round and round in the middle of the room."""
    for attempt in range(200):
        scene, poses = _way(20 + attempt, "walkthrough", _SLOW * SECONDS, _SLOW)
        try:
            movers = make_movers(scene, poses, 6, 0)
        except ValueError:  # no space in this room
            continue
        spoilt = Disturbances(tuple(_larger(mover, 2.2) for mover in movers))
        view = (film_intrinsics(scene, (80, 60)), (80, 60), _SLOW / 8, spoilt)
        seen = [frame.moving.mean() for frame in disturbed_frames(scene, poses[::8], *view)]
        if min(seen) > 0.25 and np.mean(seen) < 0.7:
            break
    lens = film_intrinsics(scene, SIZE)
    for frame in disturbed_frames(scene, poses, lens, SIZE, _SLOW, spoilt):
        yield frame.image


def _larger(mover: Mover, times: float) -> Mover:
    thing = replace(mover.scene, half=mover.scene.half * times)
    return replace(mover, scene=thing, period_s=mover.period_s / 2)


def _blurred() -> Pictures:
    yield from (cv2.GaussianBlur(frame, (0, 0), 6) for frame in _slow_walk(_A))


def _overexposed() -> Pictures:
    yield from (cv2.convertScaleAbs(frame, alpha=4) for frame in _slow_walk(_A))


def _slides() -> Pictures:
    """Six photographs, each for two seconds."""
    for number in (0, 3, 9, 12, 13, 14):
        photo = _walk(number, 1)[0]
        yield from [photo] * (2 * FPS)


def _noisy(number: int, noise: float) -> Pictures:
    """A walk in the dark, at five frames a second: little light, much noise."""
    rng = np.random.default_rng(number)
    for frame in _slow_walk(number):
        yield np.clip(0.35 * frame + rng.normal(0, noise, frame.shape) + 40, 0, 255).astype(
            np.uint8
        )


def _halves() -> Pictures:
    """Two films side by side, with a thin bar between them."""
    left = SIZE[0] // 2 - 2
    bar = np.full((SIZE[1], 4, 3), 16, np.uint8)
    for one, other in zip(_slow_walk(_A), _slow_walk(_B), strict=True):
        yield np.hstack([one[:, :left], bar, other[:, :left]])


def _screen() -> Pictures:
    """Two windows with lines of code that scroll, and a pointer."""
    for t in range(_FRAMES):
        frame = np.full((SIZE[1], SIZE[0], 3), (58, 110, 165), np.uint8)
        _window(frame, (24, 24, 380, 360), t // 4)
        _window(frame, (260, 140, 350, 260), t // 3 + 100)
        frame[-36:] = 30
        x, y = int(300 + 180 * np.sin(t / 9)), int(220 + 120 * np.cos(t / 7))
        cv2.fillPoly(frame, [np.array([[x, y], [x + 16, y + 16], [x, y + 24]])], (0, 0, 0))
        yield frame


def _window(frame: Image, box: tuple[int, int, int, int], scrolled: int) -> None:
    left, top, width, height = box
    cv2.rectangle(frame, (left, top), (left + width, top + height), (250,) * 3, -1)
    cv2.rectangle(frame, (left, top), (left + width, top + 24), (60,) * 3, -1)
    cv2.rectangle(frame, (left, top), (left + width, top + height), (40,) * 3, 1)
    for line in range((height - 48) // 22):
        rng = np.random.default_rng(line + scrolled)
        letters = rng.choice(list("abcdefgh_(). "), int(rng.integers(8, width // 12)))
        at, ink = (left + 12, top + 48 + 22 * line), rng.integers(0, 150, 3).tolist()
        cv2.putText(frame, "def " + "".join(letters), at, _SANS, 0.5, ink, 1, cv2.LINE_AA)


def _cartoon() -> Pictures:
    """Trees with outlines in three layers, past which the camera slides."""
    rng = np.random.default_rng(3)
    trees = [
        (layer, place, *rng.integers((60, 60, 60, 60), (110, 230, 230, 230)).tolist())
        for layer in range(3)
        for place in range(9)
    ]
    down = np.linspace(0, 1, SIZE[1])[:, None, None]
    sky = (np.array([90, 150, 235]) * (1 - down) + np.array([235, 225, 250]) * down).astype(
        np.uint8
    )
    for t in range(_FRAMES):
        frame = np.tile(sky, (1, SIZE[0], 1))
        for layer, place, radius, *colour in trees:
            x, y = int(180 * place - (20, 40, 80)[layer] * t / FPS), (200, 300, 400)[layer]
            cv2.rectangle(frame, (x - 12, y), (x + 12, y + 120), (100, 70, 40), -1)
            cv2.circle(frame, (x, y), radius, colour, -1, cv2.LINE_AA)
            cv2.circle(frame, (x, y), radius, (20,) * 3, 4, cv2.LINE_AA)
        yield frame


def _halved() -> Pictures:
    yield from (cv2.resize(f, _SMALL, interpolation=cv2.INTER_AREA) for f in _slow_walk(_A))


_SMALL = (320, 240)
_slow = partial(_pictures, count=_SLOW * SECONDS, fps=_SLOW)
FILMS = (
    Film("accepted", "a walk through a room", None,
         _pictures(lambda: iter(_walk(_A))), clip=True),
    Film("shots", "a fade-in, a walk, a cut, a dissolve", None, _pictures(_shots, 20 * FPS)),
    Film("resolution", "240 lines", Reason.RESOLUTION, _slow(_halved, size=_SMALL)),
    Film("shot_too_short", "five shots of 3 s", Reason.SHOT_TOO_SHORT,
         _pictures(_montage, 15 * FPS)),
    Film("static_camera", "held as still as a hand can", Reason.STATIC_CAMERA,
         _moved("held still")),
    Film("rotation_only", "a pan in the hand", Reason.ROTATION_ONLY, _moved("pan in the hand")),
    Film("zoom", "a zoom from a tripod", Reason.NO_PARALLAX, _moved("zoom")),
    Film("planar", "along a picture on a wall", Reason.NO_PARALLAX, _moved("along a poster")),
    Film("dynamic_scene", "large things go about a room", Reason.DYNAMIC_SCENE, _slow(_crowded)),
    Film("slideshow", "six photographs", Reason.NOT_FOOTAGE, _pictures(_slides), "slideshow"),
    Film("screen_capture", "a desktop", Reason.NOT_FOOTAGE,
         _pictures(_screen, effects=_SCREEN), "screen_capture"),
    Film("cartoon", "drawn trees", Reason.NOT_FOOTAGE,
         _pictures(_cartoon, effects=_SCREEN), "cartoon"),
    Film("split_screen", "two walks side by side", Reason.NOT_FOOTAGE, _slow(_halves),
         "split_screen"),
    Film("blurred", "a walk out of focus", Reason.BLURRED, _slow(_blurred)),
    Film("exposure", "a walk, exposed for too long", Reason.EXPOSURE,
         _slow(_overexposed, effects=_OPEN)),
    Film("gate_open_focal", "a slow slide, 2 cm/s", Reason.QUALITY_GATE,
         _moved("slow drone aside"), clip=True),
    Film("quality_gate", "a walk in the dark", Reason.QUALITY_GATE,
         _slow(lambda: _noisy(41, 14)), clip=True),
    Film("sfm_not_converged", "a walk in greater dark", Reason.SFM_NOT_CONVERGED,
         _slow(lambda: _noisy(41, 22)), clip=True),
)  # fmt: skip
