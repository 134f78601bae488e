"""Sources of the gate's calibration: real videos with a reference, procedural rooms with the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.damages import Image
from benchmarks.mining import mined
from benchmarks.mining_cases import Case, plan, real_cases, uniform
from sage_core.sfm import load_clip_model
from sage_core.video.frames import read_frames

Array = npt.NDArray[np.float64]
ROOMS = 41_000
_SIZE = (480, 360)
_MOTIONS = ("handheld", "walkthrough", "orbit")
_SPOILT_FROM = {"clinic walk": 407}
"""Source frame from which recipe `paper`, the only reference, is wrong: it leaps at a doorway."""
HALVES = {
    "kitchen": "a", "kitchen, second half": "a", "café": "a", "penthouse": "a", "penthouse, second shot": "a",
    "clinic walk": "a", "clinic rooms": "b", "Colosseum": "b", "bedroom": "b", "fox": "b",
}  # fmt: skip
"""By source video; rooms go to either half in turn."""
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
        half: ``a`` to choose thresholds on, ``b`` to report on.
        poses: cam_from_world [3, 4] by place among the frames; those without are not compared.
        images: loads every frame, uint8 RGB.
        focal: focal length over the long side.
        stretches: which of the frames make a clip, by name.
    """

    name: str
    half: str
    poses: Mapping[int, Array]
    images: Callable[[], list[Image]]
    focal: float
    stretches: Mapping[str, Sequence[int]]
    ordered: bool = True


def sources(data: Path | None, keep: Path, rooms: int) -> Iterator[Source]:
    """Real ones, where ``data`` is given, and so many rooms."""
    if data is not None:
        videos = [Case(n, data / "videos" / f, plan("more", list(r))) for n, f, r in _MORE]
        for case in [*real_cases(data), *videos]:
            yield _real(case, keep / case.name / "paper")
    for number in range(rooms):
        yield _room(number)


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
    """A film of the first free room, of its own motion and pace: 24 or 40 frames of it make a clip."""
    from sage_core.world import build_scene, camera_path, render_views
    from sage_core.world.videos import film_intrinsics

    rng = np.random.default_rng([ROOMS, number])
    motion, fps = _MOTIONS[number // 2 % 3], float(rng.uniform(2, 4))
    count = 40 if number // 2 % 4 == 3 else 24
    for seed in range(ROOMS + 100 * number, ROOMS + 100 * number + 100):
        scene = build_scene(seed, "V")
        try:
            poses = camera_path(scene, motion, count, fps, 0)
        except ValueError:  # no space in this room
            continue
        break
    K = film_intrinsics(scene, _SIZE)

    def images() -> list[Image]:
        lens = np.repeat(K[None], count, 0)
        pictures = render_views(scene, poses, lens, _SIZE[1], _SIZE[0])[0]
        grain = np.random.default_rng([ROOMS, number, 1]).normal(0, 2, pictures.shape)
        return list(np.clip(pictures + grain, 0, 255).astype(np.uint8))

    return Source(
        f"room {number}",
        "ab"[number % 2],
        dict(enumerate(poses)),
        images,
        float(K[0, 0]) / _SIZE[0],
        {str(count): range(count)},
    )
