"""Damaged and crafted video files, each drawn from its number and a seed.

A mutation takes a sound file apart in one way; what it gives need not be a video any more. MP4 boxes are
found by their names (ISO/IEC 14496-12), Matroska elements by their ids (RFC 9559).
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sage_core.video.ffmpeg import ffmpeg_exe

PICTURES = ("-f", "lavfi", "-i", "testsrc2=s=256x192:r=10:d=4")
SOUND = ("-f", "lavfi", "-i", "sine=d=4")
_H264 = ("-pix_fmt", "yuv420p", "-c:v", "libx264", "-g", "10", "-threads", "1")
_BASES: dict[str, tuple[str, ...]] = {
    "plain.mp4": (*PICTURES, *_H264),
    "front.mp4": (*PICTURES, *SOUND, *_H264, "-shortest", "-movflags", "+faststart"),
    "parts.mp4": (*PICTURES, *_H264, "-movflags", "+frag_keyframe+empty_moov"),
    "film.mov": (*PICTURES, *_H264),
    "film.mkv": (*PICTURES, *SOUND, *_H264, "-shortest"),
    "film.webm": (*PICTURES, "-c:v", "libvpx", "-b:v", "300k", "-threads", "1"),
}
_HUGE = ("-f", "lavfi", "-i", "color=black:s=8192x8192:r=1:d=3", *_H264, "-preset", "ultrafast")
_EXTREMES = (0, 1, 2, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
_TABLES = (b"mvhd", b"tkhd", b"mdhd", b"stts", b"stsz", b"stsc", b"stco", b"ctts", b"elst", b"trun")
_SIZED = (b"ftyp", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avcC", b"mdat", b"moof")
_ELEMENTS = (
    b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67", b"\x11\x4d\x9b\x74", b"\x15\x49\xa9\x66", b"\x2a\xd7\xb1",
    b"\x44\x89", b"\x16\x54\xae\x6b", b"\xae", b"\xe0", b"\xb0", b"\xba", b"\x1f\x43\xb6\x75", b"\xe7",
    b"\xa3", b"\x1c\x53\xbb\x6b",
)  # fmt: skip


@dataclass(frozen=True)
class Traps:
    """What no decoder may open: a file outside the workspace, and an address of this machine."""

    file: Path
    url: str


@dataclass(frozen=True)
class Mutant:
    """A crafted file: its kind, the name that it would have, its bytes."""

    kind: str
    name: str
    data: bytes


Mutation = Callable[[bytes, random.Random], bytes]


class Bases(Mapping[str, bytes]):
    """Sound little videos in four containers, and one whose few bytes are pictures of 8192 x 8192.

    Each is made when it is asked for first, in the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._options = {**_BASES, "huge.mp4": _HUGE}

    def __getitem__(self, name: str) -> bytes:
        file = self._folder / name
        if not file.exists():
            command = [ffmpeg_exe(), "-v", "error", "-y", *self._options[name], str(file)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return file.read_bytes()

    def __iter__(self) -> Iterator[str]:
        return iter(self._options)

    def __len__(self) -> int:
        return len(self._options)


def mutant(number: int, seed: int, bases: Mapping[str, bytes], traps: Traps) -> Mutant:
    """The mutant of a number: every kind in turn, its details drawn."""
    draw = random.Random(f"{seed}:{number}")
    kinds = [*MUTATIONS, *MP4_MUTATIONS, *EBML_MUTATIONS, *CRAFTED]
    kind = kinds[number % len(kinds)]
    if kind in CRAFTED:
        suffix, data = CRAFTED[kind](bases, traps, draw)
        return Mutant(kind, f"film{suffix}", data)
    if kind in MP4_MUTATIONS:
        base = draw.choice(["plain.mp4", "front.mp4", "parts.mp4", "film.mov"])
        return Mutant(kind, base, MP4_MUTATIONS[kind](bases[base], draw))
    if kind in EBML_MUTATIONS:
        base = draw.choice(["film.mkv", "film.webm"])
        return Mutant(kind, base, EBML_MUTATIONS[kind](bases[base], draw))
    base = draw.choice(list(_BASES))
    return Mutant(kind, base, MUTATIONS[kind](bases[base], draw))


# Of any file


def flipped_bits(data: bytes, draw: random.Random) -> bytes:
    """A few bits turned, anywhere."""
    changed = bytearray(data)
    for _ in range(2 ** draw.randrange(0, 9)):
        changed[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flipped_header(data: bytes, draw: random.Random) -> bytes:
    """Some bytes drawn anew where the index is."""
    at = max(data.find(b"moov"), 0)
    changed = bytearray(data)
    for _ in range(2 ** draw.randrange(0, 7)):
        changed[min(len(data) - 1, at + draw.randrange(900))] = draw.randrange(256)
    return bytes(changed)


def truncated(data: bytes, draw: random.Random) -> bytes:
    """The end is missing, from almost nothing to almost all."""
    return data[: int(len(data) * draw.random() ** 2)]


def beheaded(data: bytes, draw: random.Random) -> bytes:
    """The beginning is missing."""
    return data[draw.randrange(1, len(data)) :]


def holed(data: bytes, draw: random.Random) -> bytes:
    """A stretch of zeros, as a download in parts leaves behind."""
    start = draw.randrange(len(data))
    size = draw.randrange(1, len(data) - start + 1)
    return data[:start] + bytes(size) + data[start + size :]


def spliced(data: bytes, draw: random.Random) -> bytes:
    """A stretch in another place once more."""
    one, other = sorted((draw.randrange(len(data)), draw.randrange(len(data))))
    at = draw.randrange(len(data))
    return data[:at] + data[one:other] + data[at:]


def padded(data: bytes, draw: random.Random) -> bytes:
    """Noise before, in or behind it."""
    at = draw.choice([0, draw.randrange(len(data)), len(data)])
    return data[:at] + draw.randbytes(draw.randrange(1, 5000)) + data[at:]


MUTATIONS: dict[str, Mutation] = {
    "flipped bits": flipped_bits,
    "flipped header": flipped_header,
    "truncated": truncated,
    "beheaded": beheaded,
    "holed": holed,
    "spliced": spliced,
    "padded": padded,
}


# Of MP4 and QuickTime files


def extreme_field(data: bytes, draw: random.Random) -> bytes:
    """A number in a header or a sample table is as large or as small as it can be."""
    for _ in range(draw.randrange(1, 4)):
        at = _find(data, _TABLES, draw)
        offset = at + 4 + 4 * draw.randrange(0, 6)
        data = _put(data, offset, struct.pack(">I", draw.choice(_EXTREMES)))
    return data


def extreme_size(data: bytes, draw: random.Random) -> bytes:
    """Pictures of absurd width and height, in the sample description and the track header."""
    at = data.find(b"avc1", data.find(b"stsd"))
    sizes = struct.pack(">HH", *(draw.choice([0, 1, 4096, 16384, 65535]) for _ in range(2)))
    data = _put(data, at + 28, sizes) if at > 0 else data
    return _put(data, data.find(b"tkhd") + 80, sizes[:2] + b"\0\0" + sizes[2:] + b"\0\0")


def false_clock(data: bytes, draw: random.Random) -> bytes:
    """A time scale of one tick a second, none, or four thousand million; durations to match, or not."""
    for box, at in ((b"mvhd", 16), (b"mdhd", 16)):
        found = data.find(box)
        ticks = struct.pack(">II", draw.choice(_EXTREMES), draw.choice(_EXTREMES))
        data = _put(data, found + at, ticks) if found > 0 else data
    return data


def lying_box(data: bytes, draw: random.Random) -> bytes:
    """A box that says it is empty, endless, or larger than the file."""
    at = _find(data, _SIZED, draw) - 4
    size = draw.choice([0, 1, 4, 7, 8, len(data), len(data) * 3, 0x7FFFFFFF, 0xFFFFFFFF])
    return _put(data, at, struct.pack(">I", size))


def nested_boxes(data: bytes, draw: random.Random) -> bytes:
    """Boxes in boxes in boxes, up to thirty thousand deep."""
    kind = draw.choice([b"moov", b"trak", b"udta", b"meta"])
    inner = b""
    for _ in range(draw.choice([200, 3_000, 30_000])):
        inner = struct.pack(">I", len(inner) + 8) + kind + inner if len(inner) < 2**20 else inner
    return data[: struct.unpack(">I", data[:4])[0]] + inner + data


def many_tracks(data: bytes, draw: random.Random) -> bytes:
    """A movie of thousands of tracks."""
    moov = data.find(b"moov") - 4
    size = struct.unpack(">I", data[moov : moov + 4])[0]
    track = data.find(b"trak", moov) - 4
    one = data[track : track + struct.unpack(">I", data[track : track + 4])[0]]
    more = one * draw.choice([65, 1_000, 5_000])
    head = struct.pack(">I", size + len(more)) + data[moov + 4 : moov + size]
    return data[:moov] + head + more + data[moov + size :]


def many_samples(data: bytes, draw: random.Random) -> bytes:
    """A sample table of one entry that stands for millions of frames, all of them of one byte."""
    sizes = data.find(b"stsz")
    count = draw.choice([10**5, 10**6, 10**7, 2**31 - 1])
    data = _put(data, sizes + 8, struct.pack(">II", draw.choice([1, 8]), count))
    data = _put(data, data.find(b"stts") + 8, struct.pack(">III", 1, count, draw.choice([0, 1])))
    return _put(data, data.find(b"stsc") + 8, struct.pack(">IIII", 1, 1, count, 1))


MP4_MUTATIONS: dict[str, Mutation] = {
    "extreme field": extreme_field,
    "extreme size": extreme_size,
    "false clock": false_clock,
    "lying box": lying_box,
    "nested boxes": nested_boxes,
    "many tracks": many_tracks,
    "many samples": many_samples,
}


# Of Matroska and WebM files


def lying_element(data: bytes, draw: random.Random) -> bytes:
    """An element's size is none, unknown, or past the end."""
    at = _find(data, _ELEMENTS, draw)
    length = next((n for n in (4, 3, 2, 1) if data[at : at + n] in _ELEMENTS), 1)
    size = draw.choice([b"\x80", b"\xff", b"\x01" + b"\xff" * 7, b"\x08\xff\xff\xff\xff", b"\x00"])
    return _put(data, at + length, size)


def extreme_element(data: bytes, draw: random.Random) -> bytes:
    """Clock, duration, width or height are as large or as small as they can be."""
    known = {b"\x2a\xd7\xb1": 3, b"\x44\x89": 2, b"\xb0": 1, b"\xba": 1, b"\xe7": 1, b"\xd7": 1}
    for _ in range(draw.randrange(1, 4)):
        element = draw.choice(list(known))
        at = data.find(element, data.find(b"\x15\x49\xa9\x66"))
        size = data[at + known[element]] & 0x7F if at > 0 else 0
        if 0 < size <= 8:
            value = draw.choice([b"\0", b"\xff", b"\x7f", b"\x80"]) * size
            data = _put(data, at + known[element] + 1, value)
    return data


def many_entries(data: bytes, draw: random.Random) -> bytes:
    """Thousands of tracks, or of empty clusters."""
    tracks = b"".join(
        b"\xae" + bytes([0x80 | 11]) + b"\xd7\x81" + bytes([n % 255 + 1]) + b"\x83\x81\x01\x86\x83V_X"
        for n in range(draw.choice([100, 2_000, 20_000]))
    )  # fmt: skip
    clusters = b"\x1f\x43\xb6\x75\x84\xe7\x82\x00\x00" * draw.choice([1_000, 100_000])
    block = b"\x16\x54\xae\x6b" + (len(tracks) | 1 << 28).to_bytes(4, "big") + tracks
    at = data.find(draw.choice([b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75"]))
    return data[:at] + draw.choice([block, clusters]) + data[at:]


EBML_MUTATIONS: dict[str, Mutation] = {
    "lying element": lying_element,
    "extreme element": extreme_element,
    "many entries": many_entries,
}


# Made, not mutated

Crafted = tuple[str, bytes]


def expansion(bases: Mapping[str, bytes], _traps: Traps, draw: random.Random) -> Crafted:
    """A few kilobytes that decode to pictures of 64 million pixels, or promise more of them."""
    data = bases["huge.mp4"]
    if draw.random() < 0.5:
        return ".mp4", data
    return ".gif", b"GIF89a\xff\xff\xff\xff\xf0\0\0" + bytes(6) + (
        b"\x2c\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0" * draw.choice([1, 50_000]) + b";"
    )


def repeated_chunks(bases: Mapping[str, bytes], _traps: Traps, draw: random.Random) -> Crafted:
    """The same bytes as frames again and again: chunks of a sample table that lie on each other."""
    data = bases["plain.mp4"].replace(
        b"stss", b"free"
    )  # without a list, every frame is a key frame
    repeats = draw.choice([1_000, 50_000])
    offset = struct.unpack(">I", data[(at := data.find(b"stco")) + 12 : at + 16])[0]
    first = data[(at := data.find(b"stsz")) + 16 : at + 20]
    stco = (
        struct.pack(">I4sII", 16 + 4 * repeats, b"stco", 0, repeats)
        + struct.pack(">I", offset) * repeats
    )
    data = _put(data, data.find(b"stsz") + 8, first + struct.pack(">I", repeats))
    data = _put(data, data.find(b"stts") + 8, struct.pack(">III", 1, repeats, 1))
    data = _put(data, data.find(b"stsc") + 8, struct.pack(">IIII", 1, 1, 1, 1))
    return ".mp4", _box_replaced(data, b"stco", stco)


def playlist(_bases: Mapping[str, bytes], traps: Traps, draw: random.Random) -> Crafted:
    """A text that sends its reader elsewhere, called a video."""
    place = draw.choice(
        [str(traps.file), traps.file.as_uri(), traps.url, f"subfile,,start,0,end,9,,:{traps.file}"]
    )
    texts = [
        f"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\n{place}\n#EXT-X-ENDLIST\n",
        f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{place}"\n#EXTINF:3,\nfilm.ts\n#EXT-X-ENDLIST\n',
        f"ffconcat version 1.0\nfile '{place}'\n",
        f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><AdaptationSet '
        f'mimeType="video/mp4"><Representation id="1"><BaseURL>{place}</BaseURL></Representation>'
        f"</AdaptationSet></Period></MPD>",
        f"v=0\no=- 0 0 IN IP4 127.0.0.2\ns=x\nc=IN IP4 127.0.0.2\nm=video 9 RTP/AVP 96\na=control:{place}\n",
        f"<asx version='3.0'><entry><ref href='{place}'/></entry></asx>",
        f"[playlist]\nFile1={place}\nNumberOfEntries=1\n",
    ]  # fmt: skip
    return draw.choice([".mp4", ".mkv", ".mov", ".ts", ".avi"]), draw.choice(texts).encode()


def reference(bases: Mapping[str, bytes], traps: Traps, draw: random.Random) -> Crafted:
    """A QuickTime file whose pictures are said to lie in another file or at an address."""
    place = draw.choice([str(traps.file), traps.file.as_uri(), traps.url]).encode() + b"\0"
    data = bases["film.mov"]
    if draw.random() < 0.5:
        link = (
            struct.pack(">I4s", len(place) + 20, b"rdrf")
            + b"\0\0\0\0url "
            + struct.pack(">I", len(place))
            + place
        )
        chain = b""
        for kind, body in ((b"rmda", link), (b"rmra", b""), (b"moov", b"")):
            chain = struct.pack(">I4s", len(chain or body) + 8, kind) + (chain or body)
        return ".mov", data[: struct.unpack(">I", data[:4])[0]] + chain + data
    kind = draw.choice([b"url ", b"alis", b"urn "])
    entry = struct.pack(">I4sI", len(place) + 12, kind, 0) + place
    dref = struct.pack(">I4sII", len(entry) + 16, b"dref", 0, 1) + entry
    return ".mov", _box_replaced(data, b"dref", dref)


def polyglot(bases: Mapping[str, bytes], traps: Traps, draw: random.Random) -> Crafted:
    """Two formats in one file, or one under another's name."""
    film = bases[draw.choice(["plain.mp4", "film.mkv"])]
    fronts = [b"PK\x03\x04", b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"<html>", b"\x7fELF", b"#!/bin/sh\n",
              b"RIFF\xff\xff\xff\xffAVI LIST", b"FLV\x01\x05\0\0\0\x09", b"\0\0\x01\xba",
              b"\x47" + bytes(187), f"#EXTM3U\n{traps.url}\n".encode(),
              b"\x80\x04cos\nsystem\n(S'true'\ntR."]  # fmt: skip
    return draw.choice([".mp4", ".avi", ".mpg", ".flv", ".mkv"]), draw.choice(fronts) + draw.choice(
        [film, b""]
    )


def nothing_much(_bases: Mapping[str, bytes], _traps: Traps, draw: random.Random) -> Crafted:
    """A handful of bytes, or noise."""
    return draw.choice([".mp4", ".webm"]), draw.randbytes(draw.choice([0, 1, 3, 8, 16, 70_000]))


CRAFTED: dict[str, Callable[[Mapping[str, bytes], Traps, random.Random], Crafted]] = {
    "expansion": expansion,
    "repeated chunks": repeated_chunks,
    "playlist": playlist,
    "reference": reference,
    "polyglot": polyglot,
    "nothing much": nothing_much,
}


def _find(data: bytes, names: tuple[bytes, ...], draw: random.Random) -> int:
    """Where one of the names stands, drawn among those that do."""
    found = [at for name in names if (at := data.find(name)) >= 4]
    return draw.choice(found) if found else 4


def _put(data: bytes, at: int, part: bytes) -> bytes:
    return data[:at] + part + data[at + len(part) :]


def _box_replaced(data: bytes, kind: bytes, box: bytes) -> bytes:
    """The file with the first box of this kind replaced, and the boxes around it, up to ``moov``, grown.

    Its ``moov`` must come last, or offsets of samples would be wrong.
    """
    at = data.find(kind) - 4
    old = struct.unpack(">I", data[at : at + 4])[0]
    grown = len(box) - old
    parents = [
        start
        for name in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"stbl")
        if (start := data.rfind(name, 0, at) - 4) >= 0
        and start + struct.unpack(">I", data[start : start + 4])[0] >= at + old
    ]
    for start in parents:
        size = struct.unpack(">I", data[start : start + 4])[0] + grown
        data = _put(data, start, struct.pack(">I", size))
    return data[:at] + box + data[at + old :]
