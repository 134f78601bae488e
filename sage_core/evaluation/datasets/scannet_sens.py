"""Unpacks ScanNet's ``.sens`` files into the exported layout.

The file: version (4), sensor's name, four 4x4 matrices (intrinsics and extrinsics of colour and depth), how
    pictures are
packed, their sizes, depth units a metre, count of frames; then for each frame a 4x4 pose (camera to world),
two times, and the packed pictures. Little endian throughout.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.types import Reason

Array = npt.NDArray[np.float32]
_VERSION, _JPEG, _ZLIB = 4, 2, 1
_MOST_NAME = 4096
_MATRICES = ("intrinsic_color", "extrinsic_color", "intrinsic_depth", "extrinsic_depth")


@dataclass(frozen=True)
class Header:
    """What stands before the frames."""

    matrices: dict[str, Array]
    depth_size: tuple[int, int]
    depth_per_metre: float
    frames: int


@dataclass(frozen=True)
class Packed:
    """A frame: pose [4, 4], a JPEG, and depth uint16 [H, W]."""

    pose: Array
    jpeg: bytes
    depth: npt.NDArray[np.uint16]


def unpack(file: Path, out: Path, every: int = 1) -> int:
    """Write every n-th frame of a ``.sens`` file as an exported scene; returns how many.

    Frames keep their numbers. Depth is written in millimetres. The scene appears whole: what there is under
    its name is not touched.

    Raises:
        MediaError: not a ``.sens`` file of version 4 with JPEG and zlib, cut off, or ``out`` is there
            already.
    """
    if out.exists():
        raise MediaError(f"{out} is there already: name another folder", reason=Reason.BAD_CONFIG)
    partial = out.with_name(f".{out.name}.partial")
    with file.open("rb") as source:
        header = read_header(source, file)
        for kind in ("color", "depth", "pose", "intrinsic"):
            (partial / kind).mkdir(parents=True, exist_ok=True)
        for name, matrix in header.matrices.items():
            np.savetxt(partial / "intrinsic" / f"{name}.txt", matrix, fmt="%.6f")
        written = 0
        for number, frame in enumerate(_frames(source, header, file)):
            if number % every == 0:
                _write(partial, number, frame, header)
                written += 1
    partial.rename(out)
    return written


def read_header(source: BinaryIO, file: Path) -> Header:
    """The file's beginning; ``file`` only names it in errors."""
    version, length = struct.unpack("<IQ", _take(source, 12, file))
    if version != _VERSION or length > _MOST_NAME:
        raise MediaError(f"{file} is no .sens file of version {_VERSION} (it says {version})")
    _take(source, length, file)
    matrices = {
        name: np.frombuffer(_take(source, 64, file), "<f4").reshape(4, 4) for name in _MATRICES
    }
    colour, depth, _, _, width, height, per_metre, count = struct.unpack(
        "<iiIIIIfQ", _take(source, 36, file)
    )
    if (colour, depth) != (_JPEG, _ZLIB):
        raise MediaError(
            f"{file} packs colour as {colour} and depth as {depth}; SAGE reads JPEG ({_JPEG}) and "
            f"zlib ({_ZLIB})"
        )
    return Header(matrices, (width, height), per_metre, count)


def _frames(source: BinaryIO, header: Header, file: Path) -> Iterator[Packed]:
    width, height = header.depth_size
    for _ in range(header.frames):
        pose = np.frombuffer(_take(source, 64, file), "<f4").reshape(4, 4)
        _, _, colour_bytes, depth_bytes = struct.unpack("<QQQQ", _take(source, 32, file))
        jpeg = _take(source, colour_bytes, file)
        unpacker = zlib.decompressobj()
        raw = unpacker.decompress(_take(source, depth_bytes, file), 2 * width * height)
        if len(raw) != 2 * width * height:
            raise MediaError(f"{file}: a depth picture is not {width}x{height}")
        yield Packed(pose, jpeg, np.frombuffer(raw, "<u2").reshape(height, width))


def _write(folder: Path, number: int, frame: Packed, header: Header) -> None:
    (folder / "color" / f"{number}.jpg").write_bytes(frame.jpeg)
    millimetres = np.rint(frame.depth.astype(np.float64) * (1000 / header.depth_per_metre))
    cv2.imwrite(str(folder / "depth" / f"{number}.png"), millimetres.astype(np.uint16))
    np.savetxt(folder / "pose" / f"{number}.txt", frame.pose, fmt="%.6f")


def _take(source: BinaryIO, count: int, file: Path) -> bytes:
    remaining = file.stat().st_size - source.tell()
    if count > remaining:
        raise MediaError(
            f"{file} ends {count - remaining} bytes early: copy it again", reason=Reason.TRUNCATED
        )
    return source.read(count)
