"""Real footage, edited frame by frame and compressed as JPEG: no encoder runs, so many edits cost little."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.copies import SECONDS, Take
from sage_core.mining._measure import LONG_SIDE
from sage_core.video.frames import open_frames

Grey = np.ndarray
Timed = tuple[float, Grey]
_STEP_S = 0.1
_QUALITY = 20


def cropped(picture: Grey, left: float, top: float, right: float, bottom: float) -> Grey:
    """What is left of a picture when these shares are cut away."""
    height, width = picture.shape
    rows = slice(round(top * height), round((1 - bottom) * height))
    return picture[rows, round(left * width) : round((1 - right) * width)]


def _logo(picture: Grey) -> Grey:
    marked, (height, width) = picture.copy(), picture.shape
    marked[8 : 8 + height // 10, 8 : 8 + width // 6] = 235
    return marked


def _caption(picture: Grey) -> Grey:
    marked, height = picture.copy(), picture.shape[0]
    marked[round(0.86 * height) :] //= 3
    return marked


def _boxed(picture: Grey) -> Grey:
    bar = picture.shape[0] // 8
    return cv2.copyMakeBorder(picture, bar, bar, 0, 0, cv2.BORDER_CONSTANT)


PICTURE_EDITS: dict[str, Callable[[Grey], Grey]] = {
    "re-encoded (JPEG 20)": lambda p: p,
    "half the size": lambda p: cv2.resize(p, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA),
    "cropped, 5 % a side": lambda p: cropped(p, 0.05, 0.05, 0.05, 0.05),
    "cropped, 10 % a side": lambda p: cropped(p, 0.1, 0.1, 0.1, 0.1),
    "cropped, 15 % a side": lambda p: cropped(p, 0.15, 0.15, 0.15, 0.15),
    "cropped, 11, 4, 2 and 8 %": lambda p: cropped(p, 0.11, 0.04, 0.02, 0.08),
    "cropped, 15 % at the bottom": lambda p: cropped(p, 0, 0, 0, 0.15),
    "cropped, a third at the right": lambda p: cropped(p, 0, 0, 0.33, 0),
    "mirrored": lambda p: p[:, ::-1],
    "mirrored, cropped, 8 % a side": lambda p: cropped(p[:, ::-1], 0.08, 0.08, 0.08, 0.08),
    "letterboxed": _boxed,
    "paler": lambda p: np.clip(0.7 * p + 50, 0, 255).astype(np.uint8),
    "logo in a corner": _logo,
    "caption over its bottom": _caption,
}
TIME_EDITS = {
    "4 % faster": (1.04, 0.0, (0, SECONDS)),
    "15 % faster": (1.15, 0.0, (0, SECONDS)),
    "6 s of it, 3.1 s later": (1.0, 3.1, (4, 10)),
}
"""Rate, offset in seconds, and the seconds that are kept."""


def frames_of(take: Take) -> list[Timed]:
    """The first 14 s of a film, ten grey pictures a second."""
    reader = open_frames(take.path, LONG_SIDE)
    times = reader.info.times_s
    moments = np.arange(times[0], min(times[-1], times[0] + SECONDS), _STEP_S)
    wanted = np.unique(np.searchsorted(times, moments)).tolist()
    return [
        (frame.time_s, cv2.cvtColor(frame.image, cv2.COLOR_RGB2GRAY))
        for frame in reader.read(wanted)
    ]


def edits_of(frames: list[Timed]) -> Iterator[tuple[str, list[Timed]]]:
    """All edits of a film, each of the pictures between those that the original is known by."""
    between = frames[1::2]
    for name, edit in PICTURE_EDITS.items():
        yield name, [(t, _compressed(edit(picture))) for t, picture in between]
    for name, (rate, offset_s, (start, end)) in TIME_EDITS.items():
        kept = [(t, picture) for t, picture in between if start <= t <= end]
        yield name, [(t / rate + offset_s, _compressed(picture)) for t, picture in kept]


def real_takes(data: Path) -> list[Take]:
    """The videos in the folders of a folder."""
    found = sorted(p for p in data.glob("*/*") if p.suffix in (".mp4", ".mov", ".webm"))
    return [Take(path, path.stem) for path in found]


def _compressed(picture: Grey) -> Grey:
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
