"""How files become pictures and metres."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from sage_core.errors import MediaError
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
Depth = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]
MIN_DEPTH_M = 1e-3
"""Depth below it is noise of the coding, as in CUT3R's and Spann3R's evaluation."""


class Reader(Protocol):
    """What a scene reads its files with."""

    def depth(self, path: Path) -> Depth:
        """Depth z in metres, float32 [H, W]; 0 where there is none."""

    def colour(self, path: Path, size: tuple[int, int]) -> Image:
        """The colour picture, RGB, uint8 [H, W, 3], at the depth's size (width, height)."""


@dataclass(frozen=True)
class PictureReader:
    """Depth in pictures of 16 bits, colour in pictures of 8.

    Attributes:
        per_metre: the stored number of one metre.
        max_m: depth beyond it does not count.
        no_depth: stored numbers that mean none, besides 0.
        resizes: whether colour may have another size than depth, and is brought to it.
    """

    per_metre: float
    max_m: float
    no_depth: int | None = None
    resizes: bool = False

    def depth(self, path: Path) -> Depth:
        raw = _read(path, cv2.IMREAD_UNCHANGED)
        if raw.dtype != np.uint16 or raw.ndim != 2:
            raise MediaError(
                f"{path} is not a 16-bit depth picture (one channel, {self.per_metre:g} a metre): it holds "
                f"{raw.dtype} {raw.shape}"
            )
        metres = raw.astype(np.float32) / np.float32(self.per_metre)
        bad = (metres > self.max_m) | (metres < MIN_DEPTH_M)
        if self.no_depth is not None:
            bad |= raw == self.no_depth
        metres[bad] = 0
        return metres

    def colour(self, path: Path, size: tuple[int, int]) -> Image:
        image = _read(path, cv2.IMREAD_COLOR_RGB)
        height, width = image.shape[:2]
        if (width, height) == size:
            return np.asarray(image, np.uint8)
        if not self.resizes:
            raise MediaError(
                f"{path} is {width}x{height}, its depth {size[0]}x{size[1]}: they must be of one size"
            )
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


@dataclass(frozen=True)
class StraighteningReader:
    """Pictures through a lens with distortion, made those of a pinhole: colour and depth alike.

    Attributes:
        source: reads the files as they are.
        matrix, pinhole: [3, 3] intrinsics before and after, in OpenCV's rule (pixel centres from 0).
        distortion: Brown's k1, k2, p1, p2, k3.
    """

    source: PictureReader
    matrix: Array
    pinhole: Array
    distortion: tuple[float, float, float, float, float]

    def depth(self, path: Path) -> Depth:
        # Depth between two surfaces belongs to neither, so the nearest pixel is taken.
        return np.asarray(self._straight(self.source.depth(path), cv2.INTER_NEAREST), np.float32)

    def colour(self, path: Path, size: tuple[int, int]) -> Image:
        return np.asarray(
            self._straight(self.source.colour(path, size), cv2.INTER_LINEAR), np.uint8
        )

    def _straight(self, picture: Depth | Image, how: int) -> npt.NDArray[np.generic]:
        size = picture.shape[1], picture.shape[0]
        lens = np.asarray(self.distortion)
        x, y = cv2.initUndistortRectifyMap(
            self.matrix, lens, None, self.pinhole, size, cv2.CV_32FC1
        )
        return np.asarray(cv2.remap(picture, x, y, how, borderMode=cv2.BORDER_CONSTANT))


@dataclass(frozen=True)
class RegisteringReader:
    """Depth of a camera beside the colour camera, moved into the colour camera: each point is drawn where
    it lands, the nearest wins.

    Attributes:
        source: reads the files as they are.
        depth_matrix, colour_matrix: [3, 3] intrinsics of both cameras, pixel centres at +0.5.
        colour_from_depth: [3, 4], metres.
    """

    source: PictureReader
    depth_matrix: Array
    colour_matrix: Array
    colour_from_depth: Array

    def depth(self, path: Path) -> Depth:
        from sage_core.geometry import pixel_centres, project, transform, unproject

        depth = self.source.depth(path)
        height, width = depth.shape
        known = depth > 0
        points = unproject(self.depth_matrix, pixel_centres(width, height)[known], depth[known])
        xy, z = project(self.colour_matrix, transform(self.colour_from_depth, points))
        inside = (z > 0) & (xy >= 0).all(-1) & (xy < (width, height)).all(-1)
        column, row = np.floor(xy[inside]).astype(int).T
        moved = np.full((height, width), np.inf, np.float32)
        np.minimum.at(moved, (row, column), z[inside].astype(np.float32))
        return np.where(np.isfinite(moved), moved, np.float32(0))

    def colour(self, path: Path, size: tuple[int, int]) -> Image:
        return self.source.colour(path, size)


def _read(path: Path, how: int) -> npt.NDArray[np.generic]:
    if not path.is_file():
        raise MediaError(f"{path} is not there", reason=Reason.MISSING_INPUT)
    picture = cv2.imread(str(path), how)
    if picture is None:
        raise MediaError(f"{path} cannot be decoded")
    return np.asarray(picture)
