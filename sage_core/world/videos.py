"""Films of rooms as mp4, with the traits of real footage: for the demo, and to test the pipeline on.

``python -m sage_core.world.videos --out FOLDER`` writes the demo's films.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sage_core.errors import MediaError
from sage_core.types import Reason
from sage_core.world.cameras import camera_path, pinhole
from sage_core.world.disturbances import Disturbances, disturbed_frames
from sage_core.world.furniture import build_scene
from sage_core.world.render import render_views
from sage_core.world.rooms import SPLITS
from sage_core.world.scenes import Scene

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.uint8]
_FIRST_SEED = SPLITS["film"].start


@dataclass(frozen=True)
class Effects:
    """What a camera and an encoder add.

    Attributes:
        noise: standard deviation of the sensor's noise, in grey levels of 255; new in each frame.
        vignette: how much darker the picture's corners are, 0..1.
        flicker: share by which the exposure drifts to and fro.
        fade_s: seconds of fading from and to black at the ends.
        crf: x264's constant quality; larger is worse.
    """

    noise: float = 2.0
    vignette: float = 0.15
    flicker: float = 0.03
    fade_s: float = 0.0
    crf: int = 20


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
    effects: Effects = Effects(),
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
    effects: Effects = Effects(),
) -> None:
    """Film shots, one after the other with hard cuts, into an mp4; whole or not at all.

    Raises:
        MediaError: the encoder failed.
    """
    out = Path(out)
    partial = out.with_name(f".{out.name}.{os.getpid()}.mp4")
    rng = np.random.default_rng([shot.scene.seed for shot in shots])
    count = sum(len(shot.cam_from_world) for shot in shots)
    frames = (picture for shot in shots for picture in _pictures(shot, size, fps))
    try:
        filmed = _with_effects(frames, count, fps, effects, rng)
        _encode(filmed, _encoder(partial, fps, size, effects.crf), out)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _pictures(shot: Shot, size: tuple[int, int], fps: float) -> Iterator[Image]:
    K = film_intrinsics(shot.scene, size)[None]
    if shot.disturbances is not None:
        way = (shot.scene, shot.cam_from_world, K[0])
        for frame in disturbed_frames(*way, size, fps, shot.disturbances):
            yield frame.image
        return
    previous: Image | None = None
    for index, pose in enumerate(shot.cam_from_world):
        still = index > 0 and np.array_equal(pose, shot.cam_from_world[index - 1])
        if previous is None or not still:
            images, _ = render_views(shot.scene, pose[None], K, size[1], size[0])
            previous = images[0]
        yield previous


def _with_effects(
    frames: Iterator[Image], count: int, fps: float, effects: Effects, rng: np.random.Generator
) -> Iterator[Image]:
    shade: npt.NDArray[np.float32] | None = None
    phase = rng.uniform(0, 2 * np.pi)
    # Normal noise is dear; a long strip of it, entered at a random place, is as good.
    grain = (effects.noise * rng.standard_normal(1 << 22)).astype(np.float32)
    for index, frame in enumerate(frames):
        if shade is None:
            shade = _vignette(frame.shape[0], frame.shape[1], effects.vignette)
        time = index / fps
        gain = 1 + effects.flicker * np.sin(0.9 * time + phase)
        if effects.fade_s:
            gain *= np.clip(min(time, (count - 1 - index) / fps) / effects.fade_s, 0, 1)
        start = int(rng.integers(len(grain) - frame.size)) if frame.size < len(grain) else 0
        noise = np.resize(grain[start : start + frame.size], frame.shape)
        yield np.clip(frame * (shade * np.float32(gain)) + noise, 0, 255).astype(np.uint8)


def _vignette(height: int, width: int, strength: float) -> npt.NDArray[np.float32]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    shade: npt.NDArray[np.float32] = (1 - strength * (x * x + y * y) / 2).astype(np.float32)
    return shade[..., None]


def _encode(frames: Iterator[Image], command: list[str], out: Path) -> None:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as encoder:
        assert encoder.stdin is not None
        assert encoder.stderr is not None
        try:
            for frame in frames:
                encoder.stdin.write(frame.tobytes())
            encoder.stdin.close()
        except BrokenPipeError:
            pass  # the encoder says why
        except BaseException:
            encoder.kill()
            raise
        log = encoder.stderr.read().decode(errors="replace").strip()
    if encoder.returncode:
        full = "No space left" in log
        raise MediaError(
            f"ffmpeg could not write {out} (status {encoder.returncode}): {log[-500:]}",
            reason=Reason.DISK_FULL if full else Reason.INTERNAL_ERROR,
            retryable=full,
        )


def _encoder(out: Path, fps: float, size: tuple[int, int], crf: int) -> list[str]:
    import ffmpeg
    import imageio_ffmpeg

    source = ffmpeg.input(
        "pipe:", format="rawvideo", pix_fmt="rgb24", s=f"{size[0]}x{size[1]}", framerate=fps
    )
    target = source.output(
        str(out), vcodec="libx264", preset="veryfast", crf=crf, pix_fmt="yuv420p", threads=1,
        movflags="+faststart", fflags="+bitexact", loglevel="error",
    )  # fmt: skip
    command: list[str] = target.overwrite_output().compile(cmd=imageio_ffmpeg.get_ffmpeg_exe())
    return command


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
