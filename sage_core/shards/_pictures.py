"""The pictures of evaluation sets, whatever they are kept in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sage_core.errors import MediaError
from sage_core.shards.read import ShardReader, shard_files
from sage_core.types import Reason

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".mpg", ".mpeg"})
_VIDEO_STEP_S = 0.5
_LONG_SIDE = 320
_NO_COLOUR = re.compile(
    r"(^|/)(depth|mask|normal|semantic|label)s?/|[._-](depth|mask|normal|semantic|label)s?\.[a-z]+$",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Picture:
    """A picture of an evaluation set: what was named, its name in there, uint8 [H, W] grey levels."""

    source: str
    name: str
    grey: NDArray[np.uint8]


def pictures_of(path: Path) -> Iterator[Picture]:
    """All pictures under a path: shards, an image, a video (two a second), or a folder of such.

    Depth maps and masks are told by their names (``frame-000000.depth.png``, ``depth/1.png``) and left out.

    Raises:
        MediaError: nothing there, or a file that cannot be decoded.
        ShardError: a shard that cannot be read.
    """
    if _is_shard(path):
        yield from _of_shards(path)
    elif path.is_dir():
        yield from _of_folder(path)
    elif path.suffix.lower() in VIDEO_SUFFIXES:
        yield from _of_video(path, str(path), path.name)
    elif path.is_file():
        yield Picture(str(path), path.name, _of_image(path))
    else:
        raise MediaError(f"there is no evaluation set {path}", reason=Reason.MISSING_INPUT)


def _is_shard(path: Path) -> bool:
    if path.is_dir():
        return any(path.glob("clips-*.parquet")) or any(path.glob("shards/clips-*.parquet"))
    return path.suffix == ".parquet"


def _of_shards(path: Path) -> Iterator[Picture]:
    for file in shard_files([path]):
        reader = ShardReader([file])
        for clip in reader.names:
            for row in range(reader.n_frames(clip)):
                (frame,) = reader.frames(clip, [row])
                name = f"{clip}, frame {frame.frame}"
                yield Picture(str(path), name, grey_of(frame.pixels()))


def _of_folder(folder: Path) -> Iterator[Picture]:
    from sage_core.video.frames import IMAGE_SUFFIXES

    found = False
    for path in sorted(folder.rglob("*")):
        name, suffix = path.relative_to(folder).as_posix(), path.suffix.lower()
        if path.name.startswith(".") or not path.is_file():
            continue
        if suffix in IMAGE_SUFFIXES and not _NO_COLOUR.search(name):
            found = True
            yield Picture(str(folder), name, _of_image(path))
        elif suffix in VIDEO_SUFFIXES:
            found = True
            yield from _of_video(path, str(folder), name)
    if not found:
        raise MediaError(
            f"{folder} holds no image and no video in any of its folders: name the evaluation set itself",
            reason=Reason.MISSING_INPUT,
        )


def _of_video(path: Path, source: str, name: str) -> Iterator[Picture]:
    from sage_core.video.frames import open_frames

    reader = open_frames(path, _LONG_SIDE)
    times = reader.info.times_s
    wanted = np.unique(np.searchsorted(times, np.arange(times[0], times[-1] + 1e-9, _VIDEO_STEP_S)))
    for frame in reader.read(wanted.tolist()):
        yield Picture(source, f"{name} at {frame.time_s:.2f} s", grey_of(frame.image))


def _of_image(path: Path) -> NDArray[np.uint8]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise MediaError(
            f"the image {path} cannot be decoded: take it out of the evaluation set or replace it",
            reason=Reason.DECODE_ERROR,
        )
    return grey_of(np.asarray(image, np.uint8))


def grey_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey levels of an RGB picture."""
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
