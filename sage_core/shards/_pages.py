"""Columns straight from the pages of a Parquet file, where they are written as SAGE writes them.

Arrow reads whole row groups, all pictures of sixteen frames for the four that a sample needs. The pages of
our own frames files are simple: PLAIN values, LZ4 or nothing, one CRC each, and pictures in pages of their
own. So what a sample needs is read, checked and cut here; every other Parquet file is Arrow's to read
(:class:`Unusual`). Format: the Parquet specification, "Data Pages", "Encodings" (PLAIN, RLE hybrid), and the
Thrift compact protocol.
"""

from __future__ import annotations

import os
import re
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

CODECS = {"UNCOMPRESSED": None, "LZ4": pa.Codec("lz4_raw"), "ZSTD": pa.Codec("zstd")}
"""How pages may be packed: LZ4, as SAGE writes them, or ZSTD, as it once did."""
_HEADER_BYTES = 128
_VARINT = rb"([\x80-\xff]{0,4}[\x00-\x7f])"
_HEADER = re.compile(
    rb"\x15\x00"  # a data page
    rb"\x15" + _VARINT + rb"\x15" + _VARINT  # bytes of it, and bytes of it in the file
    + rb"\x15" + _VARINT  # CRC of the latter
    + rb"\x1c\x15" + _VARINT  # values, and nulls
    + rb"\x15\x00\x15\x06\x15\x06"  # PLAIN, levels in RLE
    # Statistics of numbers: least and most of 4 or 8 bytes, counts, whether they are exact.
    + rb"(?:\x1c(?:[\x18\x28](?:\x04.{4}|\x08.{8})|[\x16\x26\x36][\x80-\xff]*[\x00-\x7f]|[\x11\x12])*\x00)?"
    + rb"\x00\x00",
    re.DOTALL,
)  # fmt: skip


class Unusual(Exception):  # noqa: N818 - no error: Arrow reads it
    """Pages that SAGE does not write."""


class Damaged(Exception):  # noqa: N818 - becomes a ShardError with the file's name
    """Bytes that are not those that were written."""


Chunk = tuple[int, int, pa.Codec | None]
"""Where a column of a row group lies in its file: first byte, the one after the last, what unpacks it."""


class Page(NamedTuple):
    """One page: bytes ``start`` to ``end`` of what its header was read from, ``size`` when unpacked."""

    start: int
    end: int
    size: int
    crc: int
    values: int


class Span:
    """Bytes of an open file, from ``start``, read at once for the columns that lie there.

    Raises:
        Damaged: the file ends before.
    """

    def __init__(self, file: int, start: int, end: int) -> None:
        self._start = start
        self._data = memoryview(_read(file, start, end))

    def numbers(self, chunk: Chunk, kind: np.dtype[Any]) -> NDArray[Any]:
        """A column of numbers, one a row.

        Raises:
            Unusual: pages of another kind.
            Damaged: a page that is not as it was written.
        """
        return _joined([_array(data, kind, values) for data, values in self._pages(chunk)])

    def lists(self, chunk: Chunk, kind: np.dtype[Any]) -> tuple[tuple[int, ...], NDArray[Any]]:
        """A column of lists without nulls or empty lists: where each begins and the last ends; all values.

        Raises:
            Unusual, Damaged: as :meth:`numbers`; a null or an empty list.
        """
        starts: tuple[int, ...] = ()
        parts: list[NDArray[Any]] = []
        total = 0
        for data, values in self._pages(chunk):
            repeated, at = _block(data, 0)
            defined, at = _block(data, at)
            if defined != _all_defined(values):
                raise Unusual("a null or an empty list")
            own = _zeros(repeated, values)
            starts = (*starts, *(total + start for start in own)) if total else own
            parts.append(_array(data, kind, values, at))
            total += values
        return (*starts, total), _joined(parts)

    def _pages(self, chunk: Chunk) -> Iterator[tuple[Any, int]]:
        """What each page holds, and its number of values."""
        at, end, codec = chunk[0] - self._start, chunk[1] - self._start, chunk[2]
        while at < end:
            page = _page(self._data, at)
            at = page.end
            yield _checked(self._data[page.start : at], page, codec), page.values
        if at != end:
            raise Unusual("pages that do not fill their chunk")


class Strings:
    """A column of byte strings, such as pictures, each read when it is asked for.

    A page is read whole and checked when one of its strings is wanted for the first time; later only
    the string is read. Threads may share it: what two find out at once is the same.

    Raises:
        Unusual: a column that is packed.
    """

    def __init__(self, chunk: Chunk, *, nullable: bool) -> None:
        if chunk[2] is not None:
            raise Unusual("packed pictures")
        self._chunk, self._nullable = chunk, nullable
        self._pages: list[tuple[int, int, Page]] = []
        """First row and first byte of each page, and its header, as far as they were needed."""
        self._places: dict[int, list[tuple[int, int] | None]] = {}
        """Where the strings of checked pages lie in the file, by the pages' first rows."""

    def at(self, file: int, row: int) -> bytes | None:
        """The string of a row of an open file, or None where it is null.

        Raises:
            Unusual, Damaged: as :meth:`Span.numbers`.
        """
        first, base, page = self._page(file, row)
        if first in self._places:
            place = self._places[first][row - first]
            return _read(file, *place) if place else None
        base += page.start
        data = _checked(_read(file, base, base + page.end - page.start), page, None)
        places = self._cut(data, page.values)
        self._places[first] = [p and (base + p[0], base + p[1]) for p in places]
        place = places[row - first]
        return data[place[0] : place[1]] if place else None

    def _page(self, file: int, row: int) -> tuple[int, int, Page]:
        """First row and first byte of the page that holds a row, and its header."""
        known = self._pages
        first, at = 0, self._chunk[0]
        if known:
            first, at, page = known[-1]
            first, at = first + page.values, at + page.end
        if first <= row:
            known = known.copy()  # another thread may look at the old ones
            while first <= row:
                if at >= self._chunk[1]:
                    raise Unusual("fewer strings than rows")
                page = _page(os.pread(file, _HEADER_BYTES, at), 0)
                known.append((first, at, page))
                first, at = first + page.values, at + page.end
            self._pages = known
        return known[bisect_right(known, row, key=itemgetter(0)) - 1]

    def _cut(self, data: bytes, values: int) -> list[tuple[int, int] | None]:
        """Where the strings lie in a page."""
        missing: set[int] = set()
        at = 0
        if self._nullable:
            levels, at = _block(data, 0)
            missing = set(_zeros(levels, values))
        places: list[tuple[int, int] | None] = []
        for number in range(values):
            if number in missing:
                places.append(None)
                continue
            start = at + 4
            at = start + int.from_bytes(data[at:start], "little")
            places.append((start, at))
        if at != len(data):
            raise Damaged("byte strings of the wrong length")
        return places


def _read(file: int, start: int, end: int) -> bytes:
    data = os.pread(file, end - start, start)
    if len(data) != end - start:
        raise Damaged(f"it ends {end - start - len(data)} bytes early")
    return data


def _page(data: bytes | memoryview, at: int) -> Page:
    """The page whose header begins at this byte."""
    found = _HEADER.match(data, at)
    if found is None:
        raise Unusual("a page of another kind")
    size, stored, crc, values = found.groups()
    start = found.end()
    end = start + _signed(stored)
    return Page(start, end, _signed(size), _signed(crc) & 0xFFFFFFFF, _signed(values))


def _checked(data: Any, page: Page, codec: pa.Codec | None) -> Any:
    """What a page holds, out of its bytes in the file."""
    if zlib.crc32(data) != page.crc:
        raise Damaged(f"the page of {page.values} values at byte {page.start} has another checksum")
    if codec is None:
        return data
    try:
        return codec.decompress(data, page.size, asbytes=True)
    except (pa.ArrowException, OSError) as error:
        raise Damaged(str(error)) from error


def _joined(parts: list[NDArray[Any]]) -> NDArray[Any]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _array(data: Any, kind: np.dtype[Any], values: int, at: int = 0) -> NDArray[Any]:
    if kind == np.bool_:
        bits = np.unpackbits(np.frombuffer(data, np.uint8), count=values, bitorder="little")
        return bits.astype(bool)
    if len(data) - at != values * kind.itemsize:
        raise Unusual("nulls among the numbers")
    return np.frombuffer(data, kind, values, at)


def _block(data: bytes, at: int) -> tuple[bytes, int]:
    """Levels, with their length before them, and what comes after."""
    start = at + 4
    end = start + int.from_bytes(data[at:start], "little")
    return data[start:end], end


@lru_cache(maxsize=64)
def _all_defined(values: int) -> bytes:
    """Definition levels of lists of nullable values in which all is there: one run of twos."""
    text, rest = bytearray(), values << 1
    while rest > 0x7F:
        text.append(rest & 0x7F | 0x80)
        rest >>= 7
    return bytes((*text, rest, 2))


@lru_cache(maxsize=256)
def _zeros(levels: bytes, values: int) -> tuple[int, ...]:
    """Where levels of one bit are 0, in the hybrid of runs and packed bits; columns of one shape share it."""
    found: list[int] = []
    at = number = 0
    end = len(levels)
    while number < values and at < end:
        head, shift = levels[at] & 0x7F, 7
        while levels[at] > 0x7F and at + 1 < end:
            at += 1
            head |= (levels[at] & 0x7F) << shift
            shift += 7
        at += 1
        if head & 1:
            size = head >> 1
            zeros = int.from_bytes(levels[at : at + size], "little") ^ ((1 << 8 * size) - 1)
            while zeros:
                lowest = zeros & -zeros
                found.append(number + lowest.bit_length() - 1)
                zeros ^= lowest
            at, number = at + size, number + 8 * size
        else:
            if at < end and not levels[at]:
                found += range(number, number + (head >> 1))
            at, number = at + 1, number + (head >> 1)
    while found and found[-1] >= values:  # the last byte of bits is filled up
        found.pop()
    return tuple(found)


def _signed(text: bytes) -> int:
    """A whole number of up to five bytes, seven bits in each, in zigzag: 0, -1, 1, -2, …"""
    x = int.from_bytes(text, "little")
    value = (
        x & 0x7F | x >> 1 & 0x3F80 | x >> 2 & 0x1FC000 | x >> 3 & 0xFE00000 | x >> 4 & 0x7F0000000
    )
    return value >> 1 ^ -(value & 1)
