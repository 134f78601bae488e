"""Masks on disk: one PNG for each frame that has any, not 0 where the frame is no static scene."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.errors import SageError
from sage_core.types import Reason

Mask = NDArray[np.bool_]
FOLDER = "masks"


def mask_name(frame: int) -> str:
    """The mask file of a source frame."""
    return f"frame_{frame:06d}.png"


def write_masks(folder: Path, masks: dict[int, Mask]) -> None:
    """Write the masks (bool [H, W] by source frame) that are not empty."""
    folder.mkdir(parents=True, exist_ok=True)
    for frame, mask in masks.items():
        if mask.any():
            done, data = cv2.imencode(".png", mask.astype(np.uint8) * 255)
            assert done
            (folder / mask_name(frame)).write_bytes(data.tobytes())


def read_mask(folder: Path, frame: int) -> Mask | None:
    """The mask of a source frame at the size that it was found at; None where nothing is masked.

    Raises:
        SageError: a file that is no picture.
    """
    path = folder / mask_name(frame)
    if not path.exists():
        return None
    image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise SageError(
            f"{path} is no picture: reconstruct the clip again", reason=Reason.MISSING_INPUT
        )
    return np.asarray(image > 0)


def resized(mask: Mask, size: tuple[int, int]) -> Mask:
    """The mask stretched to ``size`` (width, height); a pixel is masked if half of it is."""
    shrinks = size[0] < mask.shape[1]
    way = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(mask.astype(np.float32), size, interpolation=way) >= 0.5)


def covered(mask: Mask, xy: NDArray[np.floating[Any]], size: tuple[int, int]) -> Mask:
    """Which of the pixels [N, 2] (+0.5 rule) of a picture of ``size`` (width, height) lie under the mask."""
    height, width = mask.shape
    at = np.asarray(xy) * (width / size[0], height / size[1])
    column, row = np.clip(at, 0, (width - 1, height - 1)).astype(np.intp).T
    return np.asarray(mask[row, column])
