"""Pictures inside the page: scaled, as JPEG, in the file itself."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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
