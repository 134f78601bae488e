"""Pictures to mp4: what a sensor and an encoder add."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.types import Reason

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Effects:
    """What a camera and an encoder add.

    Attributes:
        noise: standard deviation of the sensor's noise, in grey levels of 255; new in each frame.
        vignette: how much darker the picture's corners are, 0..1.
        flicker: share by which the exposure drifts to and fro.
        fade_s: seconds of fading from and to black at the ends.
        crf: x264's constant quality; larger is worse.
        shutter: share of a frame's time that the shutter is open, 0..1: motion blur.
        readout: share of it between the first and the last row's exposure, 0..1: a rolling shutter.
    """

    noise: float = 2.0
    vignette: float = 0.15
    flicker: float = 0.03
    fade_s: float = 0.0
    crf: int = 20
    shutter: float = 0.0
    readout: float = 0.0


def write_pictures(
    frames: Iterator[Image],
    count: int,
    out: str | Path,
    fps: float,
    size: tuple[int, int],
    effects: Effects,
    seed: int | list[int],
) -> None:
    """Encode ``count`` pictures of ``size`` (width, height) with effects into an mp4; whole or not at all.

    Raises:
        MediaError: the encoder failed.
    """
    out = Path(out)
    partial = out.with_name(f".{out.name}.{os.getpid()}.mp4")
    rng = np.random.default_rng(seed)
    try:
        filmed = _with_effects(frames, count, fps, effects, rng)
        _encode(filmed, _encoder(partial, fps, size, effects.crf), out)
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


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
