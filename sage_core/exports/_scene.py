"""One clip as exporters take it, and how a file or folder of theirs appears whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sage_core.geometry.poses import intrinsics_vector
from sage_core.shards import ClipInfo, FrameRecord, ShardReader
from sage_core.shards.records import PointCloud

_FRAMES_AT_ONCE = 16


@dataclass(frozen=True)
class Scene:
    """A clip in a shard; its frames are read as they are asked for."""

    reader: ShardReader
    name: str

    @cached_property
    def info(self) -> ClipInfo:
        return self.reader.clip(self.name)

    def frames(self) -> Iterator[FrameRecord]:
        """Every frame in order, a few in memory at a time."""
        count = self.info.n_frames
        for start in range(0, count, _FRAMES_AT_ONCE):
            yield from self.reader.frames(
                self.name, range(start, min(start + _FRAMES_AT_ONCE, count))
            )

    def points(self) -> PointCloud:
        return self.reader.points(self.name)

    @property
    def url(self) -> str:
        """Where the video is to be seen: its page, else what the user gave."""
        return str(self.info.provenance.get("webpage_url") or self.info.source)


def picture_name(frame: FrameRecord) -> str:
    """The file of a frame's picture, by the source frame's index."""
    return f"{frame.frame:06d}.jpg"


def camera_row(frame: FrameRecord) -> dict[str, Any]:
    """A frame's camera as plain data: pixels with centres at +0.5, OpenCV axes, 3x4 row by row."""
    return {
        "clip": frame.clip,
        "frame": frame.frame,
        "time_s": frame.time_s,
        "width": frame.width,
        "height": frame.height,
        "intrinsics": [float(v) for v in intrinsics_vector(frame.intrinsics)],
        "cam_from_world": [float(v) for v in frame.cam_from_world.reshape(12)],
        "mapped": bool(frame.key),
    }


@contextmanager
def appearing(target: Path) -> Iterator[Path]:
    """A path to write a file or fill a folder at, which becomes ``target`` when the block ends well."""
    partial = target.with_name(f".{target.name}.partial")
    _remove(partial)
    partial.parent.mkdir(parents=True, exist_ok=True)
    yield partial
    _sync(partial)
    partial.rename(target)


def _sync(path: Path) -> None:
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            handle = os.open(file, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
