"""Small pictures kept while measuring, so that the contact sheet needs no second decode."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.video.frames import Frame

_MOST = 400


class Thumbnails:
    """JPEGs of the frames added, by source frame index; when too many, every other one is dropped."""

    def __init__(self) -> None:
        self._kept: dict[int, NDArray[np.uint8]] = {}
        self._stride = 1
        self._seen = 0

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, frame: Frame) -> None:
        """Keep the frame if its turn has come."""
        if self._seen % self._stride == 0:
            _, jpeg = cv2.imencode(".jpg", frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
            self._kept[frame.index] = jpeg
        self._seen += 1
        if len(self._kept) > _MOST:
            self._kept = dict(list(self._kept.items())[::2])
            self._stride *= 2

    def nearest(self, index: int) -> NDArray[np.uint8] | None:
        """The picture nearest to a source frame, uint8 [H, W, 3] BGR; None when there is none."""
        if not self._kept:
            return None
        key = min(self._kept, key=lambda kept: abs(kept - index))
        return np.asarray(cv2.imdecode(self._kept[key], cv2.IMREAD_COLOR), dtype=np.uint8)
