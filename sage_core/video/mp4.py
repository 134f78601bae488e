"""What an MP4 or QuickTime file says of itself: are its boxes all there, how long it claims to be.

ffmpeg computes the duration from the sample table and so does not notice a false movie header; players
and other decoders believe the header. Box layout: ISO/IEC 14496-12.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

_TOP = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"pnot", b"styp", b"sidx"}
_UNKNOWN_DURATIONS = {0, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF}
_MOST_BOXES = 100_000
_MOST_CLAIMS = 64
"""As many streams as are read of a file."""


@dataclass(frozen=True)
class Mp4Header:
    """The outer structure of a file.

    Attributes:
        missing_bytes: by how much the last box reaches past the end of the file; 0 for a whole file.
        has_index: whether there is a ``moov`` box, without which nothing can be decoded.
        claims_s: duration that each header box claims, in seconds, by name (``mvhd``, ``tkhd 1``, …);
            boxes that claim nothing (fragmented files) are left out.
    """

    missing_bytes: int
    has_index: bool
    claims_s: dict[str, float]


def read_mp4_header(file: Path) -> Mp4Header | None:
    """The header of an MP4 or QuickTime file, None for anything else."""
    size = file.stat().st_size
    missing, has_index, claims = 0, False, dict[str, float]()
    with file.open("rb") as stream:
        if stream.read(8)[4:] not in _TOP:
            return None
        for kind, start, end in _boxes(stream, 0, size):
            missing = max(missing, end - size)
            if kind == b"moov":
                has_index = True
                claims = _claims(stream, start, min(end, size))
    return Mp4Header(missing, has_index, claims)


def _boxes(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start of the content and end of each box between two offsets; the last may reach beyond."""
    at = start
    for _ in range(_MOST_BOXES):
        if at + 8 > end:  # a box's size may lead further than a file can reach
            return
        stream.seek(at)
        head = stream.read(16)
        if len(head) < 8:
            return
        size, kind, body = int.from_bytes(head[:4], "big"), head[4:8], at + 8
        if size == 1 and len(head) == 16:
            size, body = int.from_bytes(head[8:], "big"), at + 16
        elif size == 0:
            size = end - at
        if size < body - at:
            return
        yield kind, body, at + size
        at += size


def _claims(stream: BinaryIO, start: int, end: int) -> dict[str, float]:
    """Durations of the movie header and of each track header, which counts in the movie's clock."""
    ticks: list[tuple[str, int]] = []
    clock = 0
    for kind, body, _ in islice(_inside(stream, start, end), _MOST_BOXES):
        stream.seek(body)
        data = stream.read(40)
        if kind == b"mvhd" and len(data) == 40:
            clock, duration = _fields(data, ">II", 12, ">IQ", 20)
            ticks.append(("mvhd", duration))
        elif kind == b"tkhd" and len(data) == 40:
            track, _, duration = _fields(data, ">III", 12, ">IIQ", 20)
            ticks.append((f"tkhd {track}", duration))
    known = [(name, t) for name, t in ticks[:_MOST_CLAIMS] if t not in _UNKNOWN_DURATIONS]
    return {name: t / clock for name, t in known} if clock else {}


def _fields(data: bytes, short: str, short_at: int, long: str, long_at: int) -> tuple[int, ...]:
    """Fields of a full box, of version 0 (32-bit times) or 1 (64-bit times)."""
    if data[0] == 1:
        return struct.unpack_from(long, data, long_at)
    return struct.unpack_from(short, data, short_at)


def _inside(stream: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes of a movie and those of its tracks; what claims to be nested deeper is not followed."""
    for kind, body, stop in _boxes(stream, start, end):
        yield kind, body, stop
        if kind == b"trak":
            yield from _boxes(stream, body, min(stop, end))
