"""Anchors and masks of a clip's frames at the model's size, as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from sage_core.geometry import PixelMap, invert, transform, unproject
from sage_core.losses import AnchorQuality, SparseAnchors
from sage_core.shards import Anchors, FrameRecord


def scene_pixels(to_model: PixelMap, frame: FrameRecord) -> NDArray[np.bool_]:
    """Pixels of the model's image that no masked pixel of the picture has a part in, [H, W]."""
    masked = frame.masked()
    if masked is None:
        return np.ones((to_model.height, to_model.width), bool)
    picture = np.repeat(masked[..., None].astype(np.uint8) * 255, 3, axis=-1)
    return np.asarray(to_model.image(picture)[..., 0] == 0)


def on_scene(anchors: Anchors, valid: NDArray[np.bool_]) -> Anchors:
    """Those that fall on pixels [H, W] that show the static scene."""
    column, row = np.floor(anchors.xy).astype(np.int64).T
    return anchors.select(valid[row, column])


def sparse_anchors(
    kept: Sequence[Anchors],
    intrinsics: Sequence[NDArray[np.float64]],
    cam_from_reference: Sequence[NDArray[np.float64]],
    quality: AnchorQuality | None,
) -> SparseAnchors:
    """Each view's anchors in the camera frame of view 0, padded to one length, as a batch of one.

    Args:
        kept: by view, in pixels of the model's images.
        intrinsics, cam_from_reference: of these images, [3, 3] and [3, 4] by view.
        quality: weighs the anchors; None for equal weights.
    """
    longest = max(1, *(len(anchors) for anchors in kept))
    xy = np.zeros((1, len(kept), longest, 2), np.float32)
    points = np.zeros((1, len(kept), longest, 3), np.float32)
    weight = np.zeros((1, len(kept), longest), np.float32)
    for view, anchors in enumerate(kept):
        camera = unproject(intrinsics[view], anchors.xy, anchors.depth)
        n = len(anchors)
        xy[0, view, :n] = anchors.xy
        points[0, view, :n] = transform(invert(cam_from_reference[view]), camera)
        weight[0, view, :n] = 1.0 if quality is None else _weights(anchors, quality)
    return SparseAnchors(*(torch.from_numpy(array) for array in (xy, points, weight)))


def _weights(anchors: Anchors, quality: AnchorQuality) -> NDArray[np.float32]:
    measures = (anchors.error_px, anchors.track, anchors.angle_deg)
    return np.asarray(quality.weight(*(torch.tensor(m) for m in measures)), np.float32)


def nearest_in_pixel(anchors: Anchors, width: int) -> Anchors:
    """At most one anchor a pixel of an image so wide: the nearest, which hides the others."""
    column, row = np.floor(anchors.xy).astype(np.int64).T
    by_depth = np.argsort(anchors.depth, kind="stable")
    _, first = np.unique((row * width + column)[by_depth], return_index=True)
    return anchors.select(np.sort(by_depth[first]))
