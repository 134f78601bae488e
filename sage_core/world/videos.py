"""Films of scenes as mp4, with the traits of real footage: for the demo, and to test the pipeline on.

``python -m sage_core.world.videos --out FOLDER`` writes the demo's films.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sage_core.world.cameras import camera_path, pinhole
from sage_core.world.disturbances import Disturbances
from sage_core.world.encoding import Effects, write_pictures
from sage_core.world.exposure import exposed_frames
from sage_core.world.furniture import build_scene
from sage_core.world.rooms import SPLITS
from sage_core.world.scenes import Scene

Array = npt.NDArray[np.float64]
PLAIN = Effects()
_FIRST_SEED = SPLITS["film"].start


@dataclass(frozen=True)
class Shot:
    """A stretch without a cut: a scene, ``cam_from_world`` [N, 3, 4], one a frame, and what spoils it."""

    scene: Scene
    cam_from_world: Array
    disturbances: Disturbances | None = None


@dataclass(frozen=True)
class Film:
    """A film of the demo, and what a miner should say of it.

    ``motions``: one shot each, in rooms of consecutive seeds, of equal length.
    """

    name: str
    seed: int
    motions: tuple[str, ...]
    seconds: float
    size: tuple[int, int] = (640, 480)
    accept: bool = True
    reasons: tuple[str, ...] = ()
    """Reason codes that are right for a film that is not accepted."""


DEMO_FILMS = (
    Film("walkthrough_a", _FIRST_SEED, ("walkthrough",), 12),
    Film("orbit_b", _FIRST_SEED + 1, ("orbit",), 12),
    Film("handheld_c", _FIRST_SEED + 2, ("handheld",), 12),
    Film("two_shots", _FIRST_SEED + 3, ("walkthrough", "walkthrough"), 22),
    Film("tripod", _FIRST_SEED + 5, ("static",), 11, accept=False,
         reasons=("static_camera", "no_parallax")),
    Film("pan", _FIRST_SEED + 6, ("rotation",), 11, accept=False,
         reasons=("rotation_only", "no_parallax")),
    Film("short", _FIRST_SEED + 7, ("walkthrough",), 5, accept=False, reasons=("duration",)),
    Film("small", _FIRST_SEED + 8, ("walkthrough",), 11, (320, 240), accept=False,
         reasons=("resolution",)),
)  # fmt: skip


def film_shots(film: Film, fps: float = 30.0, family: str = "V") -> list[Shot]:
    """The shots of a film; rooms without space for the path give way to the next free seed."""
    frames = round(film.seconds * fps / len(film.motions))
    shots = []
    seed = film.seed
    for motion in film.motions:
        scene, poses, seed = _filmable(seed, motion, frames, fps, family)
        shots.append(Shot(scene, poses))
        seed += 1
    return shots


def _filmable(
    seed: int, motion: str, frames: int, fps: float, family: str
) -> tuple[Scene, Array, int]:
    stride = len(DEMO_FILMS) * 8
    for candidate in range(seed, seed + 20 * stride, stride):
        scene = build_scene(candidate, family)
        try:
            return scene, camera_path(scene, motion, frames, fps, 0), candidate
        except ValueError:
            continue
    raise ValueError(f"no room of family {family} near seed {seed} has space for {motion!r}")


def film_intrinsics(scene: Scene, size: tuple[int, int]) -> Array:
    """The lens of the camera that films this scene, for pictures of ``size`` (width, height): [3, 3]."""
    rng = np.random.default_rng([scene.seed, 5])
    return pinhole(float(rng.uniform(*scene.family.layout.fov_deg)), size[1], size[0])


def write_video(
    scene: Scene,
    path: Array,
    out: str | Path,
    fps: float = 30.0,
    size: tuple[int, int] = (640, 480),
    effects: Effects = PLAIN,
) -> None:
    """Film one scene along ``path`` [N, 3, 4] (see :func:`camera_path`) into an mp4, N frames.

    Raises:
        MediaError: the encoder failed.
    """
    write_shots([Shot(scene, path)], out, fps, size, effects)


def write_shots(
    shots: list[Shot],
    out: str | Path,
    fps: float = 30.0,
    size: tuple[int, int] = (640, 480),
    effects: Effects = PLAIN,
) -> None:
    """Film shots, one after the other with hard cuts, into an mp4; whole or not at all.

    Raises:
        MediaError: the encoder failed.
    """
    count = sum(len(shot.cam_from_world) for shot in shots)
    frames = (
        picture
        for shot in shots
        for picture in exposed_frames(
            shot.scene, shot.cam_from_world, film_intrinsics(shot.scene, size), size, fps,
            shot.disturbances, effects,
        )
    )  # fmt: skip
    write_pictures(frames, count, out, fps, size, effects, [shot.scene.seed for shot in shots])


def write_film(film: Film, folder: str | Path, fps: float = 30.0) -> Path:
    """One film of the demo as ``folder/NAME.mp4``; left alone if it is there."""
    out = Path(folder) / f"{film.name}.mp4"
    if not out.exists():
        write_shots(film_shots(film, fps), out, fps, film.size)
    return out


def main() -> None:
    """Write the demo's films."""
    parser = argparse.ArgumentParser(description="Write the demo's films.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of films; all by default")
    arguments = parser.parse_args()
    torch.set_num_threads(
        1
    )  # a portion of rays is too small to share: threads would wait for each other
    arguments.out.mkdir(parents=True, exist_ok=True)
    for film in DEMO_FILMS:
        if not arguments.only or film.name in arguments.only:
            write_film(film, arguments.out)


if __name__ == "__main__":
    main()
