"""Pictures inside the page: scaled, as JPEG, in the file itself."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RED, _BLUE = 235, 28
"""Levels of OpenCV's colour map turbo; beyond them it darkens to brown and to purple."""


@dataclass(frozen=True)
class Picture:
    """A JPEG with its size in pixels, a text for those who cannot see it, and a caption."""

    jpeg: bytes
    width: int
    height: int
    alt: str
    caption: str = ""
    mark: str = ""
    """A verdict to frame the picture with, or nothing."""

    @property
    def uri(self) -> str:
        return "data:image/jpeg;base64," + base64.b64encode(self.jpeg).decode()


def embed(
    image: bytes | NDArray[Any],
    *,
    alt: str,
    caption: str = "",
    mark: str = "",
    max_side: int = 1000,
    quality: int = 76,
) -> Picture:
    """Scale a picture down to ``max_side`` pixels in width and twice that in height.

    Args:
        image: a picture file's bytes, or uint8 [H, W, 3] RGB.

    Raises:
        ValueError: the bytes are no picture.
    """
    import cv2

    if isinstance(image, bytes):
        decoded = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR) if image else None
        if decoded is None:
            raise ValueError("no picture that OpenCV can read")
        pixels: NDArray[Any] = decoded
    else:
        pixels = image[..., ::-1]
    height, width = pixels.shape[:2]
    scale = min(1.0, max_side / width, 2 * max_side / height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(pixels), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    return Picture(data.tobytes(), pixels.shape[1], pixels.shape[0], alt, caption, mark)


def depth_range(depths: NDArray[Any]) -> tuple[float, float]:
    """Nearest and farthest depth worth a colour of its own: the 3rd and the 97th percentile."""
    near, far = np.percentile(depths, [3, 97]) if len(depths) else (0.0, 1.0)
    return float(near), float(far)


def depth_colours(depth: NDArray[Any], near: float, far: float) -> NDArray[np.uint8]:
    """Colours uint8 [N, 3] RGB of depths [N], by their logarithm from red (near) to blue (far)."""
    import cv2

    low, high = np.log(max(near, 1e-9)), np.log(max(far, near * (1 + 1e-6), 2e-9))
    share = ((np.log(np.maximum(depth, 1e-9)) - low) / (high - low)).clip(0, 1)
    levels = (_RED + (_BLUE - _RED) * share).round().astype(np.uint8)
    if not len(levels):
        return np.empty((0, 3), np.uint8)
    coloured = cv2.applyColorMap(levels[:, None], cv2.COLORMAP_TURBO)
    return np.asarray(coloured[:, 0, ::-1], np.uint8)


def with_anchors(
    picture: NDArray[np.uint8], xy: NDArray[Any], depth: NDArray[Any], near: float, far: float
) -> NDArray[np.uint8]:
    """A copy of a picture, uint8 [H, W, 3] RGB, with a dot on each anchor, red (near) to blue (far).

    ``xy`` [N, 2] pixels, +0.5 rule; ``depth`` [N]. Colours go by the logarithm of the depth, so that what is
    twice as far differs alike everywhere.
    """
    import cv2

    drawn = picture.copy()
    colours = depth_colours(depth, near, far).tolist()
    radius = max(2, round(picture.shape[1] / 170))
    for (x, y), colour in zip(xy.tolist(), colours, strict=True):
        # OpenCV counts pixel centres from 0.
        centre = (round(x - 0.5), round(y - 0.5))
        cv2.circle(drawn, centre, radius + 1, (20, 20, 20), -1, cv2.LINE_AA)
        cv2.circle(drawn, centre, radius, colour, -1, cv2.LINE_AA)
    return drawn
