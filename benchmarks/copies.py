"""Films of rooms or real footage, and what people do to films that they upload again, by ffmpeg."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sage_core.world import build_scene, camera_path
from sage_core.world.videos import Shot, write_shots

FPS, SIZE, SECONDS = 15, (480, 360), 14
_ROOM = 51_000
_STRIDE = 7

COPIES: dict[str, str] = {
    "re-encoded (CRF 38)": "null",
    "half the size": "scale=iw/2:-2",
    "stretched to 4:3 or 16:9": "scale=640:360,setsar=1",
    "cropped, 5 % a side": "crop=iw*0.9:ih*0.9",
    "cropped, 10 % a side": "crop=iw*0.8:ih*0.8",
    "cropped, 15 % a side": "crop=iw*0.7:ih*0.7",
    "cropped, 15 % at the bottom": "crop=iw:ih*0.85:0:0",
    "cropped, a third at the right": "crop=iw*0.67:ih:0:0",
    "mirrored": "hflip",
    "mirrored, cropped, smaller": "hflip,crop=iw*0.84:ih*0.84,scale=320:-2",
    "letterboxed": "scale=iw*0.75:-2,pad=ceil(iw/1.5)*2:ceil(ih*0.625)*2:(ow-iw)/2:(oh-ih)/2",
    "brighter, paler": "eq=brightness=0.08:contrast=0.8:saturation=0.5",
    "logo in a corner": "drawbox=10:10:iw*0.16:ih*0.1:white:fill",
    "caption over its bottom": "drawbox=0:ih*0.86:iw:ih*0.14:black@0.6:fill",
    "4 % faster": "setpts=PTS/1.04",
    "15 % faster": "setpts=PTS/1.15",
    "12 frames a second": "fps=12",
    "intro and outro of 4 s": "intro",
    "a third of it": "third",
}
"""Name -> ffmpeg's filters; two are made in other ways."""


@dataclass(frozen=True)
class Take:
    """A film, and which place it shows: only films of one origin may be linked."""

    path: Path
    origin: str
    intro: str | None = None
    """Whose seconds stand before and after it, if anybody's."""

    def shares_with(self, other: Take) -> bool:
        """Whether there is any footage in both."""
        shown = {self.origin, self.intro} & {other.origin, other.intro}
        return bool(shown - {None})


def room_takes(folder: Path, count: int) -> list[Take]:
    """Walks through rooms."""
    return [Take(_filmed(folder, n, "walkthrough", 0), f"room {n}") for n in range(count)]


def other_takes(folder: Path, count: int) -> list[Take]:
    """The same rooms filmed again, otherwise: another walk, and an orbit."""
    takes = []
    for n in range(count):
        for motion, path in (("walkthrough", 1), ("orbit", 0)):
            takes.append(Take(_filmed(folder, n, motion, path), f"room {n}, {motion} {path}"))
    return takes


def _filmed(folder: Path, room: int, motion: str, number: int) -> Path:
    out = folder / f"room_{room}_{motion}_{number}.mp4"
    for seed in range(_ROOM + room, _ROOM + room + 40 * _STRIDE * 100, _STRIDE * 100):
        scene = build_scene(seed, "V")
        try:
            path = camera_path(scene, motion, SECONDS * FPS, FPS, number)
        except ValueError:
            continue  # a room without space for such a path gives way to the next
        write_shots([Shot(scene, path)], out, FPS, SIZE)
        return out
    raise ValueError(f"no room near seed {_ROOM + room} has space for {motion!r}")


def copied(take: Take, name: str, other: Take, out: Path) -> Take:
    """A copy of a film's first 14 s, edited as ``name`` says; the intro is of ``other``."""
    filters = COPIES[name]
    if filters == "intro":
        _joined(take.path, other.path, out)
    elif filters == "third":
        _run(["-ss", "4", "-t", "6", "-i", str(take.path)], "null", out)
    else:
        _run(["-t", str(SECONDS), "-i", str(take.path)], filters, out)
    return Take(out, take.origin, other.origin if filters == "intro" else None)


def _joined(film: Path, other: Path, out: Path) -> None:
    like = f"scale={SIZE[0]}:{SIZE[1]},setsar=1,fps={FPS}"
    graph = (
        f"[0:v]{like},trim=0:4,setpts=PTS-STARTPTS[a];[1:v]{like},trim=0:{SECONDS}[b];"
        f"[0:v]{like},trim=4:8,setpts=PTS-STARTPTS[c];[a][b][c]concat=n=3"
    )
    inputs = ["-i", str(other), "-i", str(film)]
    _ffmpeg([*inputs, "-filter_complex", graph], out)


def _run(inputs: Sequence[str], filters: str, out: Path) -> None:
    _ffmpeg([*inputs, "-vf", f"{filters},scale=trunc(iw/2)*2:trunc(ih/2)*2"], out)


def _ffmpeg(arguments: Sequence[str], out: Path) -> None:
    import imageio_ffmpeg

    command = [
        imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", *arguments, "-an", "-c:v", "libx264",
        "-preset", "veryfast", "-crf", "38", "-pix_fmt", "yuv420p", "-threads", "1", str(out),
    ]  # fmt: skip
    subprocess.run(command, check=True)
