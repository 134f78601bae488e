"""Cameras of a photo collection: one for each size and each focal length that EXIF tells."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from sage_core.sfm.features import CameraGroup
from sage_core.sfm.model import frame_name
from sage_core.video.frames import list_images


def camera_groups(folder: Path, frames: Sequence[int], images: Path) -> list[CameraGroup]:
    """Groups of the photos of ``folder`` (by index) whose scaled copies lie in ``images``.

    A focal length from EXIF is a starting value that COLMAP trusts more than its default and refines.
    """
    photos = list_images(folder)
    groups: dict[tuple[int, int, float], list[str]] = defaultdict(list)
    for frame in frames:
        name = frame_name(frame)
        height, width = np.asarray(cv2.imread(str(images / name), cv2.IMREAD_GRAYSCALE)).shape
        groups[width, height, _exif_focal_ratio(photos[frame])].append(name)
    return [
        CameraGroup(names, _prior(width, height, ratio))
        for (width, height, ratio), names in sorted(groups.items())
    ]


def _exif_focal_ratio(photo: Path) -> float:
    """Focal length / long side as EXIF has it; 0 where it does not say."""
    import pycolmap

    camera = pycolmap.infer_camera_from_image(photo)
    if not camera.has_prior_focal_length:
        return 0.0
    ratio: float = camera.focal_length / max(camera.width, camera.height)
    return round(ratio, 4)


def _prior(width: int, height: int, focal_ratio: float) -> str:
    if not focal_ratio:
        return ""
    return f"{focal_ratio * max(width, height)},{width / 2},{height / 2},0"
