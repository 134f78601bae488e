"""One pass over a video's pictures, forwards, by true positions: decord without its hidden seeks.

decord's ``skip_frames`` jumps to the last key frame on its way, and takes the key frame's place among the
packets for its place among the pictures. The two differ where pictures that are shown before a key frame
come after it in the file (open GOPs: most HEVC, some H.264); from there on every picture is some frames
off. So skipping stops short of every key frame, and a jump is only made where it was seen to lead to the
very pictures that reading from the first frame gives: an :class:`Entry`.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.errors import MediaError
from sage_core.types import Entry, Reason

ENTRY_STEP_S = 10.0
"""Entries are about this far apart, where key frames allow it."""
_MOST_LEADING = 16
"""H.264 and HEVC keep at most 16 reference pictures, so no more are shown before a key frame."""
_RUN = 8

Image = NDArray[np.uint8]


class Decoder:
    """Pictures of one file in presentation order, uint8 [H, W, 3] RGB, upright.

    ``fps``; ``times_s`` [N] increasing; ``key_packets``: which packets decode by themselves;
    ``position``: index of the picture that comes next.

    Raises:
        MediaError: the file is missing or no video.
    """

    def __init__(self, path: Path, size: tuple[int, int] = (-1, -1)) -> None:
        self._path = path
        self._reader = _open_decord(path, size)
        self._count = len(self._reader)
        self._ahead = 0  # how many pictures further than decord believes
        self.position = 0
        self.fps = float(self._reader.get_avg_fps())
        self.key_packets: list[int] = sorted(int(k) for k in self._reader.get_key_indices())

    def __len__(self) -> int:
        return self._count

    def times_s(self) -> NDArray[np.float64]:
        """Presentation times, forced to increase where a broken container repeats or drops a stamp."""
        stamps = self._reader.get_frame_timestamp(range(self._count))
        times = np.asarray(stamps, dtype=np.float64)[:, 0]
        if np.isfinite(times).all() and (np.diff(times) > 0).all():
            return times
        fps = self.fps
        return np.arange(len(times)) / (fps if np.isfinite(fps) and fps > 0 else 30.0)

    def enter(self, entry: Entry) -> None:
        """Go on from an entry of this very file."""
        import decord

        try:
            self._reader.seek(entry.packet)
        except decord.DECORDError as error:
            raise self._gave_up(error) from error
        self.position, self._ahead = entry.frame, entry.frame - entry.packet

    def key_frame(self, packet: int) -> Image:
        """What a plain jump to a key frame's packet shows; :attr:`position` means nothing after it."""
        self.enter(Entry(packet, packet))
        return self.next()

    def skip_to(self, index: int) -> None:
        """Let pictures pass until ``index`` comes next; they are decoded, but not converted."""
        import decord

        while self.position < index:
            hop = min(index, self._next_key()) - self.position
            if hop < 1:
                self.next()  # up to a key frame, which skipping must not touch
                continue
            try:
                self._reader.skip_frames(hop)
            except decord.DECORDError as error:
                raise self._gave_up(error) from error
            self.position += hop

    def next(self) -> Image:
        """The next picture.

        Raises:
            MediaError: the decoder gave up, or the file ends before its last picture.
        """
        import decord

        try:
            image = np.asarray(self._reader.next().asnumpy(), dtype=np.uint8)
        except StopIteration:
            raise MediaError(
                f"{self._path.name} ends at frame {self.position} of the {self._count} that its "
                "header promises: fetch it again",
                reason=Reason.TRUNCATED,
            ) from None
        except decord.DECORDError as error:
            raise self._gave_up(error) from error
        if image.shape[2:] != (3,):  # seen where a damaged header names another pixel format
            raise self._gave_up(ValueError(f"a picture of shape {image.shape}"))
        self.position += 1
        return image

    def _next_key(self) -> int:
        """The last position that can be skipped to without decord's jumping to a key frame."""
        believed = self.position - self._ahead
        key = bisect_right(self.key_packets, believed)
        if key == 0:
            return self.position
        last = self.key_packets[key] - 1 if key < len(self.key_packets) else self._count
        return last + self._ahead

    def _gave_up(self, error: Exception) -> MediaError:
        return MediaError(
            f"the decoder gave up on {self._path.name} near frame {self.position} of {self._count} "
            f"({_first_line(error)}): the file is damaged or cut off; fetch it again",
            reason=Reason.DECODE_ERROR,
        )


def digest(image: Image) -> int:
    """A number that equal pictures share: the checksum of every fourth row."""
    return zlib.crc32(image[::4].tobytes())


def find_entries(
    path: Path, size: tuple[int, int], times_s: NDArray[np.float64], seen: Mapping[int, int]
) -> list[Entry]:
    """Where reading may begin: key frames after which the pictures are those of a pass from the start.

    From each of these key frames eight measured pictures are read and compared, bit for bit, with
    those of the pass; they must fit in one place only, at most 16 pictures further than was asked for. A
    stretch that stands still, a file whose seeking lies or a broken key frame gives no entry.

    Args:
        path: the video.
        size: width and height that the pass decoded to.
        times_s: presentation times [N].
        seen: :func:`digest` by index of the pictures of the pass, not necessarily of all.
    """
    entries: list[Entry] = []
    decoder = Decoder(path, size)
    length = _RUN * _stride(seen)
    after = ENTRY_STEP_S
    for packet in decoder.key_packets:
        if not 0 < packet < len(times_s) or times_s[packet] - times_s[0] < after:
            continue
        after = float(times_s[packet] - times_s[0]) + ENTRY_STEP_S
        try:
            decoder.enter(Entry(packet, packet))
            run = [digest(decoder.next()) for _ in range(min(length, len(decoder) - packet))]
        except MediaError:
            decoder = Decoder(path, size)
            continue
        fits = [
            frame for frame in range(packet, packet + _MOST_LEADING + 1) if _fits(run, frame, seen)
        ]
        if len(fits) == 1:
            entries.append(Entry(packet, fits[0]))
    return entries


def _stride(seen: Mapping[int, int]) -> int:
    first, second = (*seen, 0, 1)[:2]
    return max(1, second - first)


def _fits(run: list[int], first: int, seen: Mapping[int, int]) -> bool:
    known = [(seen[first + n], found) for n, found in enumerate(run) if first + n in seen]
    return len(known) >= _RUN // 2 and all(wanted == found for wanted, found in known)


def _open_decord(path: Path, size: tuple[int, int]) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    if not path.is_file():
        raise MediaError(f"there is no video file {path.name!r}", reason=Reason.MISSING_INPUT)
    try:
        return decord.VideoReader(str(path), decord.cpu(0), *size, num_threads=1)
    except (decord.DECORDError, RuntimeError, AssertionError) as error:
        raise MediaError(
            f"{path.name} cannot be opened as a video ({_first_line(error)}): "
            "check that it is one, and whole",
            reason=Reason.UNREADABLE,
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rsplit("] ", 1)[-1][:200] if lines else type(error).__name__
