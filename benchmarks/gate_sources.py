"""Sources of the gate's calibration: real videos with a reference, procedural rooms with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.damages import DAMAGES, Image
from benchmarks.mining import mined
from benchmarks.mining_cases import Case, plan, real_cases, uniform
from sage_core.sfm import load_clip_model
from sage_core.video.frames import read_frames
from sage_core.world.scenes import Scene

Array = npt.NDArray[np.float64]
ROOMS, FRESH = 41_000, 77_000
_SIZE = (480, 360)
_MOTIONS = ("handheld", "walkthrough", "orbit")
PHOTOS = ("none", "cropped", "cropped evenly", "noisy", "crossed")
"""What makes sense of a set of photos."""
_DAMAGES_OF_A_FRESH_ROOM = 4
_FRESH_FAMILIES = (
    "V", "corridor-rich", "table-rich", "court-rich", "office-rich", "hall-rich",
    "room-worn", "corridor-worn", "table-worn", "court-worn", "office-worn", "hall-worn",
)  # fmt: skip
"""Every kind of scene, in the two looks of the domain "filmed"."""
_SPOILT_FROM = {"clinic walk": 407}
"""Source frame from which recipe `paper`, the only reference, is wrong: it leaps at a doorway."""
HALVES = {
    "kitchen": "a", "kitchen, second half": "a", "café": "a", "penthouse": "a", "penthouse, second shot": "a",
    "clinic walk": "a", "clinic rooms": "b", "Colosseum": "b", "bedroom": "b", "fox": "b",
}  # fmt: skip
"""By source video; rooms go to either half in turn, fresh rooms are c."""
_MORE = (
    ("kitchen, second half", "7scenes_redkitchen_30fps.mp4", range(400, 1000, 10)),
    ("penthouse", "penthouse_fpv_400p.mp4", uniform(10, 485)),
    ("penthouse, second shot", "penthouse_fpv_400p.mp4", uniform(510, 815)),
    ("bedroom", "bedroom_handheld_364p_vfr.mp4", uniform(0, 1080)),
)


@dataclass(frozen=True)
class Source:
    """Sound frames of one video with their poses.

    Attributes:
        half: ``a`` to choose thresholds on, ``b`` to report on, ``c`` likewise: made after all was chosen.
        poses: cam_from_world [3, 4] by place among the frames; those without are not compared.
        images: loads every frame, uint8 RGB.
        focal: focal length over the long side.
        stretches: which of the frames make a clip, by name.
        damages: that a clip of it is spoilt by, each by itself.
    """

    name: str
    half: str
    poses: Mapping[int, Array]
    images: Callable[[], list[Image]]
    focal: float
    stretches: Mapping[str, Sequence[int]]
    damages: Sequence[str] = tuple(DAMAGES)
    ordered: bool = True


def sources(data: Path | None, keep: Path, rooms: int, fresh: int) -> Iterator[Source]:
    """Real ones, where ``data`` is given, and so many rooms of halves a and b, and of c."""
    if data is not None:
        videos = [Case(n, data / "videos" / f, plan("more", list(r))) for n, f, r in _MORE]
        for case in [*real_cases(data), *videos]:
            yield _real(case, keep / case.name / "paper")
    for number in range(rooms):
        yield _room(number)
    for number in range(fresh):
        yield _fresh_room(number)


def _real(case: Case, folder: Path) -> Source:
    """Recipe `paper` on the whole of it is the reference."""
    outcome = mined(case, "paper", folder)
    if outcome.folder is None:
        raise SystemExit(
            f"recipe paper rejects {case.name} ({outcome.message}): it is no reference"
        )
    model = load_clip_model(Path(outcome.folder))
    place = {frame: at for at, frame in enumerate(case.clip.key_frames)}
    limit = _SPOILT_FROM.get(case.name, case.clip.key_frames[-1] + 1)
    poses = {place[f.frame]: f.cam_from_world for f in model.frames if f.frame < limit}
    keys = [frame for frame in case.clip.key_frames if frame < limit]
    camera = model.frames[0].camera
    return Source(
        case.name,
        HALVES[case.name],
        poses,
        lambda: [np.asarray(f.image) for f in read_frames(case.media, keys, 640)],
        camera.fx / max(camera.width, camera.height),
        _stretches(len(keys)) if case.clip.ordered else {"all": range(len(keys))},
        tuple(DAMAGES) if case.clip.ordered else PHOTOS,
        case.clip.ordered,
    )


def _stretches(count: int) -> dict[str, Sequence[int]]:
    """24 frames from the start, middle and end; 40 frames; every second one."""
    starts = sorted({0, (count - 24) // 2, count - 24})
    found: dict[str, Sequence[int]] = {f"24 from {s}": range(s, s + 24) for s in starts}
    if count >= 40:
        found["40"] = range(count - 40, count)
    return found | {"every second": range(0, count, 2)}


def _room(number: int) -> Source:
    """A room of family V, of its own motion and pace: 24 or 40 frames of it make a clip."""
    rng = np.random.default_rng([ROOMS, number])
    motion, fps = _MOTIONS[number // 2 % 3], float(rng.uniform(2, 4))
    count = 40 if number // 2 % 4 == 3 else 24
    seeds = range(ROOMS + 100 * number, ROOMS + 100 * number + 100)
    film = _first_film(seeds, "V", motion, count, fps)
    return _filmed(f"room {number}", "ab"[number % 2], film, 2.0, tuple(DAMAGES))


def _fresh_room(number: int) -> Source:
    """A scene of another kind or look each, filmed as its kind is, in four damages: all come up as often."""
    from sage_core.world.films import habits

    rng = np.random.default_rng([FRESH, number])
    family = _FRESH_FAMILIES[number % len(_FRESH_FAMILIES)]
    motion, fps = str(rng.choice(habits(family))), float(rng.uniform(2, 4))
    count = 40 if number % 4 == 3 else 24
    seeds = range(FRESH + 100 * number, FRESH + 100 * number + 100)
    film = _first_film(seeds, family, motion, count, fps)
    first = _DAMAGES_OF_A_FRESH_ROOM * number
    turn = [(first + at) % len(DAMAGES) for at in range(_DAMAGES_OF_A_FRESH_ROOM)]
    damages = [tuple(DAMAGES)[at] for at in turn]
    return _filmed(f"fresh {number} {family}", "c", film, float(rng.uniform(1, 5)), damages)


def _first_film(
    seeds: range, family: str, motion: str, count: int, fps: float
) -> tuple[Scene, Array]:
    """The first of these scenes that has space for the path, and the path [count, 3, 4]."""
    from sage_core.world import build_scene, camera_path

    for seed in seeds:
        scene = build_scene(seed, family)
        try:
            return scene, camera_path(scene, motion, count, fps, 0)
        except ValueError:
            continue
    raise SystemExit(f"no scene of family {family} has space for {motion!r} ({seeds})")


def _filmed(
    name: str, half: str, film: tuple[Scene, Array], noise: float, damages: Sequence[str]
) -> Source:
    """All of the film is one clip; ``noise``: standard deviation of its grain, of 255."""
    from sage_core.world import render_views
    from sage_core.world.videos import film_intrinsics

    scene, poses = film
    K = film_intrinsics(scene, _SIZE)

    def images() -> list[Image]:
        lens = np.repeat(K[None], len(poses), 0)
        pictures = render_views(scene, poses, lens, _SIZE[1], _SIZE[0])[0]
        grain = np.random.default_rng([scene.seed, 1]).normal(0, noise, pictures.shape)
        return list(np.clip(pictures + grain, 0, 255).astype(np.uint8))

    stretches = {str(len(poses)): range(len(poses))}
    focal = float(K[0, 0]) / _SIZE[0]
    return Source(name, half, dict(enumerate(poses)), images, focal, stretches, damages)
