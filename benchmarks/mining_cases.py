"""The clips of the mining benchmark, with what is true of them where that is known."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.types import Clip

Array = npt.NDArray[np.float64]

_UNIFORM = 48
_VIDEOS = (
    ("clinic walk", "videos/clinic_walkthrough.mp4", 27, 510),
    ("clinic rooms", "videos/clinic_waiting_to_treatment.mp4", 27, 509),
    ("café", "videos/drone_cafe_pullback.mp4", 0, 304),
    ("Colosseum", "negatives/lowres_colosseum_360p.mp4", 0, 566),
)
"""Name, file, first and last frame: fades are left out, as curate does."""


@dataclass(frozen=True)
class Truth:
    """Poses [3, 4] by frame, in metres, and the depth map [H, W] of a frame, 0 where there is none."""

    cam_from_world: Mapping[int, Array]
    depth: Callable[[int], npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Case:
    """Frames of one source."""

    name: str
    media: Path
    clip: Clip
    truth: Truth | None = None


def plan(name: str, frames: Sequence[int], *, ordered: bool = True) -> Clip:
    """A clip all of whose frames are key frames."""
    listed = [int(frame) for frame in frames]
    return Clip(
        item=name,
        video=name,
        start_frame=listed[0],
        end_frame=listed[-1] + 1,
        start_s=listed[0] / 30,
        end_s=listed[-1] / 30,
        fps=30.0,
        width=0,
        height=0,
        key_frames=listed,
        pose_frames=listed,
        times_s=[frame / 30 for frame in listed],
        ordered=ordered,
    )


def uniform(first: int, last: int, count: int = _UNIFORM) -> list[int]:
    """So many frames, evenly spread, the ends among them."""
    return np.linspace(first, last, count).round().astype(int).tolist()


def real_cases(data: Path) -> list[Case]:
    """The kitchen with its truth, 25 photos of the fox, and four videos at 48 frames."""
    kitchen = plan("kitchen", range(0, 600, 10))
    photos = plan("fox", range(25), ordered=False)
    return [
        Case(
            "kitchen",
            data / "videos" / "7scenes_redkitchen_30fps.mp4",
            kitchen,
            _seven_scenes(data / "rgbd" / "7scenes" / "redkitchen" / "seq-01"),
        ),
        Case("fox", data / "images" / "fox" / "images", photos),
        *(
            Case(name, data / file, plan(name.replace(" ", "_"), uniform(first, last)))
            for name, file, first, last in _VIDEOS
        ),
    ]


def _seven_scenes(folder: Path) -> Truth:
    from sage_core.evaluation.datasets.seven_scenes import open_sequence

    sequence = open_sequence(folder)
    index = {frame.number: place for place, frame in enumerate(sequence.frames)}
    poses = {frame.number: frame.cam_from_world for frame in sequence.frames}
    return Truth(poses, lambda frame: sequence.depth(index[frame]))


def room_case(folder: Path, count: int) -> Case:
    """A walk through a procedural room, two seconds of it for each five frames, as a folder of pictures."""
    import cv2

    from sage_core.world import build_scene, camera_path, render_views
    from sage_core.world.videos import film_intrinsics

    scene, size = build_scene(41_000, "V"), (320, 240)
    poses = camera_path(scene, "handheld", count, 2.5, 0)
    K = np.repeat(film_intrinsics(scene, size)[None], count, 0)
    images, depth = render_views(scene, poses, K, size[1], size[0])
    media = folder / "room"
    media.mkdir()
    for frame, image in enumerate(images):
        cv2.imwrite(str(media / f"{frame:04d}.png"), image[..., ::-1])
    truth = Truth(dict(enumerate(poses)), lambda frame: depth[frame])
    return Case("room", media, plan("room", range(count)), truth)
