"""Films put together from takes of real footage by ffmpeg, with every transition at a known frame."""

from __future__ import annotations

import random
import subprocess
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

FPS, WIDTH, HEIGHT = 30, 480, 270

REAL = {
    "a": (
        ("videos/7scenes_redkitchen_30fps.mp4", 0, 33),
        ("videos/clinic_walkthrough.mp4", 1, 16.9),
        ("videos/bedroom_handheld_364p_vfr.mp4", 0, 18.6),
        ("negatives/lowres_colosseum_360p.mp4", 0, 22.6),
        ("negatives/tokyo_walk_generated.mp4", 0, 13),
        ("negatives/static_tripod_cups.mp4", 0, 10),
        ("negatives/cartoon_big_buck_bunny.webm", 16, 22.9),
    ),
    "b": (
        ("videos/clinic_waiting_to_treatment.mp4", 1, 16.9),
        ("videos/drone_cafe_pullback.mp4", 0, 10),
        ("videos/penthouse_fpv_400p.mp4", 0, 16.4),
        ("videos/penthouse_fpv_400p.mp4", 16.8, 27.5),
        ("negatives/short_drone_sea_inlet_9s.mov", 0, 9),
        ("negatives/static_hover_traffic_7s.mp4", 0, 7),
        ("negatives/cockatoo_closeup_seekhostile.mp4", 0, 14),
        ("negatives/pan_fog_pool_portrait.mp4", 0, 11.8),
    ),
}
"""Stretches (seconds) without a cut, in two halves by source: one to choose thresholds on, one to report."""

ROOMS = {"a": 41_000, "b": 42_000}
"""First seed of the rooms that are filmed where the real footage is not at hand."""
_ROOM_SECONDS = 8

STYLES = {
    "cut": ("",),
    "fade": ("fadeblack", "fadeblack", "fadewhite"),
    "dissolve": ("fade",),
    "wipe": ("wipeleft", "wiperight", "wipeup", "wipedown", "circleopen", "diagtl"),
}
FRAMES = {
    "cut": (0,),
    "fade": (16, 24, 36, 50),
    "dissolve": (8, 12, 16, 24, 36, 45),
    "wipe": (12, 20, 30),
}
"""Lengths of a transition, in frames."""
_BODY = (50, 80)
"""Frames of a shot between its transitions, at least and at most."""
_LIKE = f"fps={FPS},settb=AVTB,format=yuv420p"


@dataclass(frozen=True)
class Edit:
    """One transition: frames ``start`` to ``end`` (exclusive) belong to neither shot; none at a cut."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True)
class Take:
    """A stretch of footage without a cut, in one size and rate."""

    path: Path
    frames: int


def real_takes(data: Path, half: str, folder: Path) -> list[Take]:
    """The takes of one half, written to ``folder`` once."""
    takes = []
    for number, (name, start, end) in enumerate(REAL[half]):
        path = folder / f"take_{half}{number}.mp4"
        if not path.exists():
            normalise(data / name, path, start, end)
        takes.append(Take(path, int((end - start) * FPS) - 2))
    return takes


def normalise(source: Path, path: Path, start_s: float, end_s: float) -> None:
    """One size, one rate, every frame a key frame; read from the first frame, since seeking may lie."""
    filters = (
        f"trim={start_s}:{end_s},setpts=PTS-STARTPTS,fps={FPS},"
        f"scale={WIDTH}:{HEIGHT}:force_original_aspect_ratio=increase,crop={WIDTH}:{HEIGHT}"
    )
    quality = ("-c:v", "libx264", "-preset", "ultrafast", "-crf", "12", "-g", "1")
    _ffmpeg("-i", str(source), "-vf", filters, *quality, str(path))


def room_takes(half: str, folder: Path) -> list[Take]:
    """Walks through procedural rooms, for want of real footage."""
    from sage_core.world import build_scene, camera_path
    from sage_core.world.videos import Shot, write_shots

    takes = []
    for number in range(6):
        path, count = folder / f"room_{half}{number}.mp4", _ROOM_SECONDS * FPS
        if not path.exists():
            scene = build_scene(ROOMS[half] + number, "V")
            walk = camera_path(scene, "handheld", count, FPS, number)
            write_shots([Shot(scene, walk)], path, FPS, (WIDTH, HEIGHT))
        takes.append(Take(path, count))
    return takes


def edited(takes: Sequence[Take], kind: str, path: Path, seed: int, count: int) -> list[Edit]:
    """Write a film of ``count`` transitions of one kind and return them."""
    draw = random.Random(f"{kind} {seed}")
    frames = [0, *(draw.choice(FRAMES[kind]) for _ in range(count)), 0]
    chosen: list[Take] = []
    graph, edits = [], []
    begun = 0
    for number, (before, after) in enumerate(pairwise(frames)):
        length = before + draw.randint(*_BODY) + after
        chosen.append(draw.choice([t for t in takes if t.frames > length and t not in chosen[-1:]]))
        first = draw.randrange(chosen[-1].frames - length)
        graph.append(
            f"[{number}:v]trim=start_frame={first}:end_frame={first + length},"
            f"setpts=PTS-STARTPTS,{_LIKE}[take{number}]"
        )
        if number:
            edits.append(Edit(kind, begun, begun + before))
            style = draw.choice(STYLES[kind])
            graph.append(_joined(number, edits[-1], style))
        begun += length - after
    inputs = [word for take in chosen for word in ("-i", str(take.path))]
    quality = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p")
    _ffmpeg(
        *inputs, "-filter_complex", ";".join(graph), "-map", f"[film{count}]", *quality, str(path)
    )
    return edits


def _joined(number: int, edit: Edit, style: str) -> str:
    """A film so far and one more take, as a piece of ffmpeg's filter graph."""
    so_far = f"film{number - 1}" if number > 1 else "take0"
    how = "concat=n=2"
    if edit.end > edit.start:
        seconds, offset = (edit.end - edit.start) / FPS, edit.start / FPS
        how = f"xfade=transition={style}:duration={seconds}:offset={offset}"
    return f"[{so_far}][take{number}]{how},{_LIKE}[film{number}]"


def thinned(film: Path, edits: Sequence[Edit], path: Path) -> list[Edit]:
    """The film at a variable rate, every other 1.5 s at a third of it, and its edits there."""
    kept = [n for n in range(edits[-1].end + 10_000) if n % 90 < 45 or n % 3 == 0]
    choose = "select='lt(mod(n,90),45)+not(mod(n,3))'"
    quality = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-fps_mode", "vfr")
    _ffmpeg("-i", str(film), "-vf", choose, *quality, str(path))
    return [Edit(e.kind, bisect_left(kept, e.start), bisect_left(kept, e.end)) for e in edits]


def disturbed(takes: Sequence[Take], how: str, path: Path, seed: int) -> None:
    """Write a take without any transition that looks like some; ``how`` is one of ``DISTURBANCES``."""
    take = random.Random(f"{how} {seed}").choice([t for t in takes if t.frames > 250])
    quality = ("-c:v", "libx264", "-preset", "veryfast", "-crf", "23", "-pix_fmt", "yuv420p")
    _ffmpeg("-i", str(take.path), "-vf", f"{DISTURBANCES[how]},{_LIKE}", *quality, str(path))


DISTURBANCES = {
    "flash frames": "drawbox=color=white:t=fill:enable='lt(mod(n+20,40),2)'",
    "fast pans": f"scale=2*iw:2*ih,crop={WIDTH}:{HEIGHT}:'(iw-ow)*(1+sin(n/20))/2':'(ih-oh)*(1+sin(n/31))/2'",
    "four times as fast": "setpts=PTS/4",
    "changing light": "eq=brightness='0.1*sin(n/8)':eval=frame",
}


def _ffmpeg(*arguments: str) -> None:
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-y", "-loglevel", "error", "-threads", "1"]
    subprocess.run([*command, *arguments], check=True)
