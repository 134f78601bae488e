"""Photo folders: no clock, no motion; only whether the pictures are many, large and sharp enough."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sage_core.config.curate import CurateConfig
from sage_core.fingerprints import Recorder
from sage_core.mining._decide import ClipVerdict, Curation
from sage_core.mining._measure import LONG_SIDE, light
from sage_core.mining._thumbnails import Thumbnails
from sage_core.types import Clip, Figure, Judgement, Reason
from sage_core.video.frames import open_frames, scaled_size


@dataclass(frozen=True)
class PhotoMeasures:
    """Scores of a photo folder, one entry per image, sorted by name: size in pixels, sharpness
    (variance of the Laplacian at 320 px), share of clipped pixels.
    """

    width: list[int]
    height: list[int]
    sharpness: list[float]
    clipped: list[float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> PhotoMeasures:
        return cls(**data)


def measure_photos(
    folder: str | Path, recorder: Recorder | None = None
) -> tuple[PhotoMeasures, Thumbnails]:
    """Read every image once; the ``recorder`` of the folder's fingerprint is given each.

    Raises:
        MediaError: no images, or one that cannot be decoded.
    """
    measures = PhotoMeasures([], [], [], [])
    thumbnails = Thumbnails()
    for frame in open_frames(folder).read():
        height, width = frame.image.shape[:2]
        size = scaled_size(width, height, LONG_SIDE)
        small = np.asarray(cv2.resize(frame.image, size, interpolation=cv2.INTER_AREA), np.uint8)
        thumbnails.add(type(frame)(frame.index, frame.time_s, small))
        grey = np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)
        if recorder is not None:
            recorder.add(frame.time_s, grey)
        _, _, sharpness, clipped = light(grey)
        measures.width.append(width)
        measures.height.append(height)
        measures.sharpness.append(round(sharpness, 2))
        measures.clipped.append(round(clipped, 5))
    return measures, thumbnails


def decide_photos(measures: PhotoMeasures, config: CurateConfig, item: str) -> Curation:
    """Judge a photo folder; pure. Its one clip holds the images of the commonest size, unordered."""
    sizes = list(zip(measures.width, measures.height, strict=True))
    (width, height), _ = Counter(sizes).most_common(1)[0]
    chosen = [index for index, size in enumerate(sizes) if size == (width, height)]
    if len(chosen) > config.max_images:
        evenly = np.linspace(0, len(chosen) - 1, config.max_images).round().astype(int)
        chosen = [chosen[i] for i in evenly]
    judgement = _judged(measures, chosen, (width, height), config)
    count = len(sizes)
    clip = Clip(
        item=f"{item}_{0:06d}_{count:06d}",
        video=item,
        start_frame=0,
        end_frame=count,
        start_s=0.0,
        end_s=float(count),
        fps=1.0,
        width=width,
        height=height,
        key_frames=chosen,
        pose_frames=chosen,
        times_s=[float(index) for index in chosen],
        ordered=False,
    )
    return Curation(judgement, [ClipVerdict(clip, judgement)], [])


def _judged(
    measures: PhotoMeasures, chosen: list[int], size: tuple[int, int], config: CurateConfig
) -> Judgement:
    sharpness = float(np.median([measures.sharpness[i] for i in chosen]))
    clipped = float(np.median([measures.clipped[i] for i in chosen]))
    figures = {
        "images": Figure(len(measures.width)),
        "images_wanted": Figure(len(chosen), config.min_images, ">="),
        "short_side_px": Figure(min(size), config.min_short_side_px, ">="),
        "sharpness": Figure(round(sharpness, 2), config.min_sharpness, ">="),
        "clipped_share": Figure(round(clipped, 4), config.max_clipped_share, "<="),
    }
    if len(chosen) < config.min_images:
        message = f"{len(chosen)} images of one size, at least {config.min_images} are needed"
        return Judgement.reject(Reason.TOO_FEW_FRAMES, message, figures)
    if min(size) < config.min_short_side_px:
        message = f"{size[0]}x{size[1]}: the short side needs {config.min_short_side_px} px"
        return Judgement.reject(Reason.RESOLUTION, message, figures)
    if sharpness < config.min_sharpness:
        message = f"sharpness {sharpness:.0f}, at least {config.min_sharpness:g}"
        return Judgement.reject(Reason.BLURRED, message, figures)
    if clipped > config.max_clipped_share:
        message = f"{clipped:.0%} of the pixels are clipped, at most {config.max_clipped_share:.0%}"
        return Judgement.reject(Reason.EXPOSURE, message, figures)
    return Judgement.accept(figures)
