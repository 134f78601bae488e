"""Reading frames: sequential, downscaled, frame-exact, in bounded memory, from videos and photo folders.

A frame's index counts decoded pictures in presentation order from 0; every stage names frames by it.
Videos are read forwards from the first frame, or from an entry that was seen to give the same pictures
(:mod:`.decoder`): seeking returns wrong pictures on some real files, and a wrong picture under a right
pose is worse than the time that seeking would save.
Pictures come upright (rotation flags and EXIF orientation applied), sizes are those of the upright
picture. Decoding runs native code on hostile files: call these functions in a sandboxed child.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.errors import MediaError
from sage_core.types import Entry, Reason
from sage_core.video.decoder import Decoder

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})

Crop = tuple[int, int, int, int]
"""Left, top, width, height in source pixels."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded picture: source index, presentation time in seconds, uint8 [H, W, 3] RGB."""

    index: int
    time_s: float
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class FrameInfo:
    """What is known of a source before decoding: upright size in pixels, rate, and each frame's time.

    ``times_s`` is float64 [N], increasing; a photo folder has no clock, its times are the indices.
    """

    width: int
    height: int
    fps: float
    times_s: NDArray[np.float64]
    ordered: bool

    def __len__(self) -> int:
        return len(self.times_s)


class FrameReader(Protocol):
    """Frames of one source in index order; holds one decoded frame at a time."""

    info: FrameInfo

    def read(
        self, indices: Sequence[int] | None = None, entry: Entry | None = None
    ) -> Iterator[Frame]:
        """The frames of increasing ``indices``, all of them by default; decoded from ``entry`` on, if given.

        Raises:
            MediaError: the decoder gave up, or the file holds fewer frames than its header promised.
        """


def open_frames(path: str | Path, long_side: int | None = None) -> FrameReader:
    """A reader for a video file or a folder of images.

    With ``long_side`` pictures are scaled down (never up) so that their longer side has that many
    pixels; videos are scaled inside the decoder, which is fast and a little soft.

    Raises:
        MediaError: nothing there that can be read as a video or as images.
    """
    source = Path(path)
    if source.is_dir():
        return _ImageFolder(source, long_side)
    return _Video(source, long_side)


def read_frames(
    path: str | Path,
    indices: Sequence[int],
    long_side: int | None,
    crop: Crop | None = None,
    entry: Entry | None = None,
) -> Iterator[Frame]:
    """Sharp frames for geometry and training: decoded at full size, cropped, then area-averaged down.

    A source pixel (x, y), pixel centres at +0.5, lands exactly on
    ``((x - left) * w / crop_width, (y - top) * h / crop_height)``, so intrinsics follow by the same
    scale and shift; ``(w, h)`` is :func:`scaled_size` of the cropped size.

    Args:
        path: a video file or a folder of images.
        indices: source frame indices, strictly increasing.
        long_side: of the returned pictures, in pixels; None keeps the size.
        crop: left, top, width, height in source pixels, e.g. ``Clip.crop``.
        entry: where decoding may begin, e.g. ``Clip.entry``; without, at the first frame.

    Raises:
        MediaError: as :meth:`FrameReader.read`.
    """
    for frame in open_frames(path).read(indices, entry):
        image = frame.image
        if crop is not None:
            left, top, width, height = crop
            image = image[top : top + height, left : left + width]
        yield replace(frame, image=shrink(image, long_side))


def scaled_size(width: int, height: int, long_side: int | None) -> tuple[int, int]:
    """(width, height) after scaling the longer side down to ``long_side``; unchanged if smaller."""
    longest = max(width, height)
    if long_side is None or longest <= long_side:
        return width, height
    scale = long_side / longest
    return max(1, round(width * scale)), max(1, round(height * scale))


def list_images(folder: str | Path) -> list[Path]:
    """The images of a photo folder, sorted by name: an image's position is its frame index."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )


def shrink(image: NDArray[np.uint8], long_side: int | None) -> NDArray[np.uint8]:
    """Area-averaged down to :func:`scaled_size`, uint8 [H, W, 3]; the picture itself if it is no larger."""
    height, width = image.shape[:2]
    size = scaled_size(width, height, long_side)
    if size == (width, height):
        return np.ascontiguousarray(image)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _checked(indices: Sequence[int] | None, count: int) -> Sequence[int]:
    wanted = range(count) if indices is None else indices
    if any(later <= earlier for earlier, later in pairwise(wanted)):
        raise ValueError("frame indices must be strictly increasing: videos are read forwards only")
    if len(wanted) and (wanted[0] < 0 or wanted[-1] >= count):
        raise ValueError(f"frame indices {wanted[0]} to {wanted[-1]} leave 0 to {count - 1}")
    return wanted


class _Video:
    def __init__(self, path: Path, long_side: int | None) -> None:
        self._path = path
        decoder = Decoder(path)
        height, width = decoder.next().shape[:2]
        size = scaled_size(width, height, long_side)
        self._size = size if size != (width, height) else (-1, -1)
        self.info = FrameInfo(width, height, decoder.fps, decoder.times_s(), ordered=True)

    def read(
        self, indices: Sequence[int] | None = None, entry: Entry | None = None
    ) -> Iterator[Frame]:
        wanted = _checked(indices, len(self.info))
        decoder = Decoder(self._path, self._size)
        if entry is not None and len(wanted) and entry.frame <= wanted[0]:
            decoder.enter(entry)
        for index in wanted:
            decoder.skip_to(index)
            yield Frame(index, float(self.info.times_s[index]), decoder.next())


class _ImageFolder:
    def __init__(self, folder: Path, long_side: int | None) -> None:
        self._paths = list_images(folder)
        self._long_side = long_side
        if not self._paths:
            raise MediaError(
                f"the folder {folder.name!r} holds no images", reason=Reason.UNREADABLE
            )
        height, width = load_image(self._paths[0]).shape[:2]
        times = np.arange(len(self._paths), dtype=np.float64)
        self.info = FrameInfo(width, height, 1.0, times, ordered=False)

    def read(
        self, indices: Sequence[int] | None = None, entry: Entry | None = None
    ) -> Iterator[Frame]:
        for index in _checked(indices, len(self.info)):
            image = shrink(load_image(self._paths[index]), self._long_side)
            yield Frame(index, float(index), image)


def load_image(path: Path) -> NDArray[np.uint8]:
    """An image file as uint8 [H, W, 3] RGB, upright.

    Raises:
        MediaError: it is not there, or cannot be decoded.
    """
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise MediaError(
            f"the image {path.name} cannot be decoded: take it out of the folder or replace it",
            reason=Reason.DECODE_ERROR,
        )
    return np.asarray(image, dtype=np.uint8)
