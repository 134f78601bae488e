"""Small pictures kept while measuring, so that a contact sheet needs no second decode, now or later."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.video.frames import Frame, scaled_size

SIDE = 200
_MOST = 400
_QUALITY = 85


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
            self._kept[frame.index] = _jpeg(frame.image)
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

    def write(self, path: Path) -> None:
        """Write them as a zip of ``<source frame index>.jpg``; the same pictures give the same bytes."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for index, jpeg in self._kept.items():
                archive.writestr(zipfile.ZipInfo(f"{index}.jpg"), jpeg.tobytes())

    @classmethod
    def read(cls, path: Path) -> Thumbnails:
        """What :meth:`write` wrote."""
        thumbnails = cls()
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                index = int(name.removesuffix(".jpg"))
                thumbnails._kept[index] = np.frombuffer(archive.read(name), np.uint8)
        return thumbnails


def _jpeg(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    size = scaled_size(width, height, SIDE)
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return np.asarray(jpeg, dtype=np.uint8)
