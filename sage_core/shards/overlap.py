"""``sage shards overlap``: frames of shards that are pictures of an evaluation set, too.

Single pictures, so near hashes alone are not enough: a pair counts when, laid upon each other, their
details correlate.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.fingerprints import CROPS, HashIndex, crop_hashes, picture_hash, small
from sage_core.shards._pictures import Picture, grey_of, pictures_of
from sage_core.shards.read import ShardReader, shard_files

Grey = NDArray[np.uint8]
Crop = tuple[float, float, float, float]
_T = TypeVar("_T")

MOST_BITS = 12
LEAST_CORRELATION = 0.5
_TRIED = 6
_SIDE, _KEPT_SIDE = 160, 224
_DETAIL_PX = 6.0
_LEAST_SHARED = 0.5
_TABLES, _KEY_BITS = 12, 16


@dataclass(frozen=True)
class Overlap:
    """A frame of a shard that an evaluation set holds, too.

    Attributes:
        clip, frame: where in the shards; ``frame`` is the source frame index.
        source, picture: the evaluation set as it was named, and the picture's name in it.
        bits: of 64 that differ between their hashes.
        correlation: of their details, once laid upon each other, up to 1.
        mirrored: left and right are exchanged.
    """

    clip: str
    frame: int
    source: str
    picture: str
    bits: int
    correlation: float
    mirrored: bool


def find_overlap(
    shards: Iterable[str | Path],
    against: Sequence[Path],
    tell: Callable[[str, int], None] = lambda _what, _count: None,
) -> list[Overlap]:
    """Each frame of the shards that is in an evaluation set, with the picture that it is most like.

    Found are pictures in another size, quality or light, cropped by up to 15 % of each side or mirrored, and
    neighbouring frames of one film. ``tell`` is given what is being read, and how many pictures of it were.

    Raises:
        ShardError, MediaError: shards or evaluation sets that are not there or cannot be read.
    """
    known = _Known(_counted("evaluation", chain.from_iterable(map(pictures_of, against)), tell))
    found = []
    for clip, frame, grey in _counted("shards", _frames(shards), tell):
        match = known.same(grey)
        if match is not None:
            picture, bits, correlation, flipped = match
            source, name = known.names[picture]
            found.append(Overlap(clip, frame, source, name, bits, round(correlation, 3), flipped))
    return found


def likeness(one: Grey, other: Grey) -> float:
    """Correlation of two pictures' details after an affine alignment, -1 to 1; 0 where there is none.

    Both uint8, of any size, seen as squares. The alignment maximises the enhanced correlation coefficient
    (Evangelidis and Psarakis 2008) and may shift by a few per cent; details are what a blur of 6 of 160 px
    takes away, so that light and layout alone do not count.
    """
    a, b = (_square(picture, _SIDE) for picture in (one, other))
    warp = np.eye(2, 3, dtype=np.float32)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
    try:
        _, warp = cv2.findTransformECC(a, b, warp, cv2.MOTION_AFFINE, criteria, None, 5)
    except cv2.error:
        return 0.0  # it does not converge on pictures that have nothing in common
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = cv2.warpAffine(np.ones_like(b), warp, (_SIDE, _SIDE), flags=flags) > 0.99
    if inside.mean() < _LEAST_SHARED:
        return 0.0
    x = _detail(a)[inside]
    y = cv2.warpAffine(_detail(b), warp, (_SIDE, _SIDE), flags=flags)[inside]
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / max(1e-9, float(np.sqrt((x * x).sum() * (y * y).sum()))))


def _square(picture: Grey, side: int) -> NDArray[np.float32]:
    return np.asarray(cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _detail(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(picture - cv2.GaussianBlur(picture, (0, 0), _DETAIL_PX), np.float32)


@dataclass(frozen=True)
class _Near:
    """A picture that may be the same: its number, bits that differ, and which of the two is cropped how."""

    picture: int
    bits: int
    flipped: bool
    its_crop: Crop
    own_crop: Crop


class _Known:
    """The pictures of the evaluation sets, by their hashes."""

    def __init__(self, pictures: Iterable[Picture]) -> None:
        self.names: list[tuple[str, str]] = []
        self._kept: list[NDArray[np.uint8]] = []
        crops = []
        for picture in pictures:
            reduced = small(picture.grey)
            if not picture_hash(reduced)[1]:
                continue  # dark or blank, like many others
            crops.append(crop_hashes(reduced))
            self.names.append((picture.source, picture.name))
            self._kept.append(_kept(picture.grey))
        hashes = np.stack(crops) if crops else np.empty((0, len(CROPS)), np.uint64)
        self._whole = HashIndex(hashes[:, 0].copy(), tables=_TABLES, key_bits=_KEY_BITS)
        self._crops = HashIndex(hashes.ravel(), tables=_TABLES, key_bits=_KEY_BITS)

    def same(self, grey: Grey) -> tuple[int, int, float, bool] | None:
        """Number, bits, correlation and mirroring of the picture that this one is, if there is one."""
        for near in self._near(grey):
            theirs = np.asarray(
                cv2.imdecode(self._kept[near.picture], cv2.IMREAD_GRAYSCALE), np.uint8
            )
            own = np.asarray(grey[:, ::-1]) if near.flipped else grey
            correlation = likeness(_cropped(own, near.own_crop), _cropped(theirs, near.its_crop))
            if correlation >= LEAST_CORRELATION:
                return near.picture, near.bits, correlation, near.flipped
        return None

    def _near(self, grey: Grey) -> list[_Near]:
        """The pictures with the nearest hashes, each in its best crop."""
        reduced = small(grey)
        if not picture_hash(reduced)[1]:
            return []
        best: dict[int, _Near] = {}
        for flipped in (False, True):
            own = np.ascontiguousarray(reduced[:, ::-1]) if flipped else reduced
            for near in self._candidates(crop_hashes(own), flipped):
                known = best.get(near.picture)
                if known is None or near.bits < known.bits:
                    best[near.picture] = near
        return sorted(best.values(), key=lambda near: (near.bits, near.picture))[:_TRIED]

    def _candidates(self, own: NDArray[np.uint64], flipped: bool) -> Iterator[_Near]:
        whole = CROPS[0]
        query, found, bits = self._whole.near(own, MOST_BITS)
        for q, picture, b in zip(query.tolist(), found.tolist(), bits.tolist(), strict=True):
            yield _Near(picture, b, flipped, whole, CROPS[q])
        _, found, bits = self._crops.near(own[:1], MOST_BITS)
        for place, b in zip(found.tolist(), bits.tolist(), strict=True):
            picture, crop = divmod(place, len(CROPS))
            yield _Near(picture, b, flipped, CROPS[crop], whole)


def _kept(grey: Grey) -> NDArray[np.uint8]:
    """A small JPEG, some 10 kB: enough to compare with, little enough for a large set."""
    square = cv2.resize(grey, (_KEPT_SIDE, _KEPT_SIDE), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", square, [cv2.IMWRITE_JPEG_QUALITY, 92])
    assert done, "OpenCV encodes any uint8 picture as JPEG"
    return np.asarray(data, np.uint8)


def _cropped(picture: Grey, crop: Crop) -> Grey:
    left, top, right, bottom = crop
    height, width = picture.shape
    rows = slice(round(top * height), round((1 - bottom) * height))
    return picture[rows, round(left * width) : round((1 - right) * width)]


def _frames(shards: Iterable[str | Path]) -> Iterator[tuple[str, int, Grey]]:
    for file in shard_files(shards):
        reader = ShardReader([file])
        for clip in reader.names:
            for row in range(reader.n_frames(clip)):
                (frame,) = reader.frames(clip, [row])
                yield clip, frame.frame, grey_of(frame.pixels())


def _counted(what: str, things: Iterable[_T], tell: Callable[[str, int], None]) -> Iterator[_T]:
    for number, thing in enumerate(things, 1):
        tell(what, number)
        yield thing
