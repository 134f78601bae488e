"""Reading frames: sequential, downscaled, frame-exact, in bounded memory, from videos and photo folders.

A frame's index counts decoded pictures in presentation order from 0; every stage names frames by it.
Videos are only ever read forwards from the first frame: seeking returns wrong pictures on some real
files, and a wrong picture under a right pose is worse than the time that seeking would save.
Pictures come upright (rotation flags and EXIF orientation applied), sizes are those of the upright
picture. Decoding runs native code on hostile files: call these functions in a sandboxed child.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.errors import MediaError
from sage_core.types import Reason

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

    def read(self, indices: Sequence[int] | None = None) -> Iterator[Frame]:
        """The frames of increasing ``indices``, all of them by default.

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
    path: str | Path, indices: Sequence[int], long_side: int | None, crop: Crop | None = None
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

    Raises:
        MediaError: as :meth:`FrameReader.read`.
    """
    for frame in open_frames(path).read(indices):
        image = frame.image
        if crop is not None:
            left, top, width, height = crop
            image = image[top : top + height, left : left + width]
        yield replace(frame, image=_shrink(image, long_side))


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


def _shrink(image: NDArray[np.uint8], long_side: int | None) -> NDArray[np.uint8]:
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
        reader = _open_decord(path)
        first = _next_frame(reader, path, 0, len(reader))
        height, width = first.shape[:2]
        times = _times(reader)
        self._size = scaled_size(width, height, long_side)
        self._scaled = self._size != (width, height)
        self.info = FrameInfo(width, height, float(reader.get_avg_fps()), times, ordered=True)

    def read(self, indices: Sequence[int] | None = None) -> Iterator[Frame]:
        count = len(self.info)
        width, height = self._size if self._scaled else (-1, -1)
        reader = _open_decord(self._path, width, height)
        position = 0
        for index in _checked(indices, count):
            if index > position:
                _skip(reader, self._path, index - position)
            image = _next_frame(reader, self._path, index, count)
            position = index + 1
            yield Frame(index, float(self.info.times_s[index]), image)


def _open_decord(path: Path, width: int = -1, height: int = -1) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    if not path.is_file():
        raise MediaError(f"there is no video file {path.name!r}", reason=Reason.MISSING_INPUT)
    try:
        return decord.VideoReader(str(path), decord.cpu(0), width, height, num_threads=1)
    except (decord.DECORDError, RuntimeError, AssertionError) as error:
        raise MediaError(
            f"{path.name} cannot be opened as a video ({_first_line(error)}): "
            "check that it is one, and whole",
            reason=Reason.UNREADABLE,
        ) from error


def _next_frame(reader: Any, path: Path, index: int, count: int) -> NDArray[np.uint8]:
    import decord

    try:
        return np.asarray(reader.next().asnumpy(), dtype=np.uint8)
    except StopIteration:
        raise MediaError(
            f"{path.name} ends at frame {index} of the {count} that its header promises: "
            "fetch it again",
            reason=Reason.TRUNCATED,
        ) from None
    except decord.DECORDError as error:
        raise _gave_up(path, index, count, error) from error


def _skip(reader: Any, path: Path, frames: int) -> None:
    import decord

    try:
        reader.skip_frames(frames)
    except decord.DECORDError as error:
        raise _gave_up(path, frames, len(reader), error) from error


def _gave_up(path: Path, index: int, count: int, error: Exception) -> MediaError:
    return MediaError(
        f"the decoder gave up on {path.name} near frame {index} of {count} ({_first_line(error)}): "
        "the file is damaged or cut off; fetch it again",
        reason=Reason.DECODE_ERROR,
    )


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rsplit("] ", 1)[-1][:200] if lines else type(error).__name__


def _times(reader: Any) -> NDArray[np.float64]:
    """Presentation times, forced to increase where a broken container repeats or drops a stamp."""
    times = np.asarray(reader.get_frame_timestamp(range(len(reader))), dtype=np.float64)[:, 0]
    if np.isfinite(times).all() and (np.diff(times) > 0).all():
        return times
    fps = float(reader.get_avg_fps())
    return np.arange(len(times)) / (fps if np.isfinite(fps) and fps > 0 else 30.0)


class _ImageFolder:
    def __init__(self, folder: Path, long_side: int | None) -> None:
        self._paths = list_images(folder)
        self._long_side = long_side
        if not self._paths:
            raise MediaError(
                f"the folder {folder.name!r} holds no images", reason=Reason.UNREADABLE
            )
        height, width = _load(self._paths[0]).shape[:2]
        times = np.arange(len(self._paths), dtype=np.float64)
        self.info = FrameInfo(width, height, 1.0, times, ordered=False)

    def read(self, indices: Sequence[int] | None = None) -> Iterator[Frame]:
        for index in _checked(indices, len(self.info)):
            image = _shrink(_load(self._paths[index]), self._long_side)
            yield Frame(index, float(index), image)


def _load(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise MediaError(
            f"the image {path.name} cannot be decoded: take it out of the folder or replace it",
            reason=Reason.DECODE_ERROR,
        )
    return np.asarray(image, dtype=np.uint8)
