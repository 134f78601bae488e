"""How pixels move when a picture is resized or cropped: the one place that moves intrinsics and anchors.

With pixel centres at +0.5 a picture of width W covers the interval [0, W], so a resize is a pure scaling and
a crop a pure shift: nothing has a half-pixel term.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
_WHOLE = 1e-6


def fit_long_side(width: int, height: int, long_side: int) -> tuple[int, int]:
    """The size, nearest to the same shape, whose longer side is ``long_side`` pixels."""
    scale = long_side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


@dataclass(frozen=True)
class PixelMap:
    """Old pixel to new pixel, ``x_new = scale_x * x_old + offset_x`` (and so for y), +0.5 rule.

    Attributes:
        width, height: size of the new picture in pixels.
        scale_x, scale_y: new pixels per old pixel.
        offset_x, offset_y: where the old picture's top-left corner lands, in new pixels.
    """

    width: int
    height: int
    scale_x: float = 1.0
    scale_y: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0

    @classmethod
    def resize(cls, old: tuple[int, int], new: tuple[int, int]) -> PixelMap:
        """Stretch the whole picture from size ``old`` to size ``new``, both (width, height)."""
        return cls(new[0], new[1], new[0] / old[0], new[1] / old[1])

    @classmethod
    def crop(cls, left: int, top: int, width: int, height: int) -> PixelMap:
        """Keep the given rectangle of the old picture."""
        return cls(width, height, offset_x=-float(left), offset_y=-float(top))

    @classmethod
    def cover(cls, old: tuple[int, int], new: tuple[int, int]) -> PixelMap:
        """Resize to the smallest size of the same shape that covers ``new``, then crop the middle."""
        scale = max(new[0] / old[0], new[1] / old[1])
        size = max(new[0], round(old[0] * scale)), max(new[1], round(old[1] * scale))
        left, top = (size[0] - new[0]) // 2, (size[1] - new[1]) // 2
        return cls.resize(old, size).then(cls.crop(left, top, *new))

    def then(self, after: PixelMap) -> PixelMap:
        """This map followed by another."""
        return PixelMap(
            after.width,
            after.height,
            self.scale_x * after.scale_x,
            self.scale_y * after.scale_y,
            self.offset_x * after.scale_x + after.offset_x,
            self.offset_y * after.scale_y + after.offset_y,
        )

    def matrix(self) -> NDArray[np.float64]:
        """The 3x3 affine matrix on homogeneous pixels; ``matrix() @ K`` are the new intrinsics."""
        return np.array(
            [
                [self.scale_x, 0, self.offset_x],
                [0, self.scale_y, self.offset_y],
                [0, 0, 1],
            ]
        )

    def points(self, xy: Array) -> NDArray[np.float64]:
        """Pixels [..., 2] of the old picture as pixels of the new one; they may fall outside it."""
        scale = np.array([self.scale_x, self.scale_y])
        moved = np.asarray(xy, np.float64) * scale + (self.offset_x, self.offset_y)
        return np.asarray(moved, np.float64)

    def inside(self, xy_new: Array) -> NDArray[np.bool_]:
        """Which new pixels [..., 2] lie on the new picture."""
        x, y = xy_new[..., 0], xy_new[..., 1]
        return np.asarray((x >= 0) & (y >= 0) & (x < self.width) & (y < self.height))

    def intrinsics(self, K: Array) -> NDArray[np.float64]:
        """Intrinsics [..., 3, 3] of the old picture as those of the new one."""
        return np.asarray(self.matrix() @ np.asarray(K, np.float64))

    def image(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The new picture [height, width, C]: area-averaged when it shrinks, cubic when it grows.

        Raises:
            ValueError: the map is neither a whole-pixel crop followed by a resize, nor a resize followed by
                a whole-pixel crop, or it reaches outside the picture.
        """
        old_h, old_w = image.shape[:2]
        left, top = -self.offset_x / self.scale_x, -self.offset_y / self.scale_y
        right, bottom = left + self.width / self.scale_x, top + self.height / self.scale_y
        if _whole(left, top, right, bottom):
            part = _window(image, left, top, right, bottom)
            return _resized(part, self.width, self.height)
        size_w, size_h = old_w * self.scale_x, old_h * self.scale_y
        x, y = -self.offset_x, -self.offset_y
        if not _whole(size_w, size_h, x, y):
            raise ValueError(f"{self} needs sub-pixel cropping of a {old_w}x{old_h} picture")
        stretched = _resized(image, round(size_w), round(size_h))
        return np.ascontiguousarray(_window(stretched, x, y, x + self.width, y + self.height))


def _whole(*values: float) -> bool:
    return all(abs(value - round(value)) < _WHOLE * max(1.0, abs(value)) for value in values)


def _window(
    image: NDArray[np.uint8], left: float, top: float, right: float, bottom: float
) -> NDArray[np.uint8]:
    x0, y0, x1, y1 = round(left), round(top), round(right), round(bottom)
    if x0 < 0 or y0 < 0 or x1 > image.shape[1] or y1 > image.shape[0]:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise ValueError(f"window {x0},{y0}..{x1},{y1} reaches outside a {size} picture")
    return image[y0:y1, x0:x1]


def _resized(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    import cv2

    if (width, height) == (image.shape[1], image.shape[0]):
        return np.ascontiguousarray(image)
    shrinks = width <= image.shape[1] and height <= image.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method))
