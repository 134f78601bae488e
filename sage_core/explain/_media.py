"""Frames of the source, decoded anew; meant to be called through :mod:`sage_core.sandbox`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from sage_core import sandbox
from sage_core.errors import MediaError
from sage_core.explain._contents import Evidence, Image
from sage_core.explain._moment import Moment, spread
from sage_core.mining import LONG_SIDE, Kind, Tracks, follow_corners
from sage_core.types import Entry, Reason
from sage_core.video.frames import open_frames, read_frames, scaled_size

_SHOWN = 640
_PLAIN = {
    Kind.STILL: "stays in place",
    Kind.TURNING: "a turn explains it",
    Kind.ZOOMING: "a zoom explains it",
    Kind.LOST: "found again",
}
"""What explains tracks that do not go their own way."""
_TELL_DEPTH = (Kind.PARALLAX, Kind.FLAT, Kind.MOVING)
"""Where corners drift, as in a zoom, what a plane leaves off is no depth."""
_LOWEST, _HIGHEST = 6, 249
"""As ``FrameSeries.clipped`` has it."""


def decode_frames(
    path: str, frames: list[int], entry: dict[str, int] | None, out_dir: str
) -> list[dict[str, Any]]:
    """Write these source frames to ``out_dir`` as PNG files, 640 pixels long, in the child.

    Returns:
        for each its ``frame``, ``time_s`` and ``file``.

    Raises:
        MediaError: the decoder gave up.
    """
    begin = Entry(**entry) if entry else None
    written = []
    for frame in read_frames(path, sorted(set(frames)), _SHOWN, entry=begin):
        file = Path(out_dir, f"{frame.index}.png")
        done, data = cv2.imencode(".png", frame.image[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        assert done
        file.write_bytes(data.tobytes())
        written.append({"frame": frame.index, "time_s": frame.time_s, "file": str(file)})
    return written


def decode_spread(path: str, count: int, out_dir: str) -> list[dict[str, Any]]:
    """The same of ``count`` frames spread evenly over a source of which nothing is known yet."""
    return decode_frames(path, spread(0, len(open_frames(path).info), count), None, out_dir)


def read_picture(file: str | Path) -> Image:
    """A picture file as uint8 [H, W, 3] RGB.

    Raises:
        MediaError: it is not there, or no picture.
    """
    image = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise MediaError(
            f"{Path(file).name} is no picture that can be read", reason=Reason.MISSING_INPUT
        )
    return np.asarray(image, np.uint8)


def evidence(pictures: Sequence[Image], moment: Moment) -> Evidence:
    """What the decoded frames of a moment show: tracks through them, or what is marked in the first."""
    size = scaled_size(pictures[0].shape[1], pictures[0].shape[0], LONG_SIDE)
    greys = [_grey(picture, size) for picture in pictures]
    if moment.shaded:
        marked = _clipped(greys[0]) if "clipped" in moment.shaded else _textureless(greys[0])
        caption = f"frame {moment.frames[0]}"
        return Evidence(pictures[0], caption, shaded=marked, shaded_as=moment.shaded)
    followed = follow_corners(greys)
    scale = pictures[0].shape[1] / size[0]
    deep = followed.deep & (moment.kind in _TELL_DEPTH)
    tracks = Tracks(followed.paths * scale, followed.odd, deep, followed.survival)
    caption = (
        f"Corners of frame {moment.frames[0]}, followed for {moment.seconds:.1f} s: "
        f"{len(tracks.paths)} lasted, {tracks.survival:.0%}."
    )
    return Evidence(pictures[0], caption, tracks, _PLAIN.get(moment.kind, "on one plane"))


def within(picture: Image, size: tuple[int, int], least_px: int) -> Evidence:
    """A picture of a source of ``size`` (width, height), in the space of one with the short side needed."""
    share = min(size) / least_px
    wide, tall = _SHOWN, round(_SHOWN * size[1] / size[0])
    space = np.full((tall, wide, 3), 226, np.uint8)
    inner = max(1, round(wide * share)), max(1, round(tall * share))
    space[: inner[1], : inner[0]] = cv2.resize(picture, inner, interpolation=cv2.INTER_AREA)
    return Evidence(space, f"{min(size)} of the {least_px} pixels that the short side needs.")


def _grey(picture: Image, size: tuple[int, int]) -> Image:
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


def _textureless(grey: Image) -> np.ndarray:
    kernel = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.subtract(cv2.dilate(grey, kernel), cv2.erode(grey, kernel)) <= 1)


def _clipped(grey: Image) -> np.ndarray:
    return np.asarray((grey < _LOWEST) | (grey > _HIGHEST))


def decoded(
    function: str, arguments: Mapping[str, Any], limits: sandbox.Limits
) -> list[tuple[int, float, Image]]:
    """Frame, time in seconds and picture of what a function of this module decodes in a child process.

    Raises:
        SageError: what the child raised, or its limits of time or memory.
    """
    with TemporaryDirectory(prefix="sage-explain-") as folder:
        written = sandbox.call(
            f"sage_core.explain:{function}", {**arguments, "out_dir": folder}, limits
        )
        return [(one["frame"], one["time_s"], read_picture(one["file"])) for one in written]
