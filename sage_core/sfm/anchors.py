"""Sparse anchors: the mapped points that a frame sees, as pixel and depth with their reliability.

SAGE (arXiv 2602.07891): each SfM point that a frame sees is projected with its ``K [R | t]``. Fast SfM's
points are noisier than the paper's; keeping those of long tracks, wide angles and small errors closes
the gap at half the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sage_core.geometry import Camera, project, transform
from sage_core.sfm.consistency import split_disagreement
from sage_core.sfm.model import PosedFrame, SparseModel

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AnchorFilter:
    """Which observations become anchors.

    Attributes:
        min_track: mapped frames that must see the point.
        min_angle_deg: widest angle between two of its rays, in degrees.
        max_error_px: reprojection error in this frame, in pixels of the SfM image.
        max_split: distance between the point's places by two halves of its views, as a share of its depth
            (:func:`sage_core.sfm.consistency.split_disagreement`); points of fewer than four views pass.
    """

    min_track: int = 4
    min_angle_deg: float = 5.0
    max_error_px: float = 1.0
    max_split: float = 0.05


@dataclass(frozen=True)
class Anchors:
    """Anchors of one frame.

    Attributes:
        xy: [N, 2] pixels (+0.5 rule) of the points projected by ``camera.pinhole()``, so on the SfM
            image freed of its distortion; they lie inside it.
        depth: [N] z in the camera, SfM units, above 0.
        point: int64 [N] COLMAP's point ids; ``row``: int64 [N] rows in the model's points.
        error_px: [N] distance of the observation from the projection, in the distorted SfM image.
        track: int64 [N] mapped frames that see the point.
        angle_deg: [N] widest angle between two of the point's rays.
    """

    xy: Array
    depth: Array
    point: NDArray[np.int64]
    row: NDArray[np.int64]
    error_px: Array
    track: NDArray[np.int64]
    angle_deg: Array

    def __len__(self) -> int:
        return len(self.depth)


def model_anchors(model: SparseModel, wanted: AnchorFilter | None = None) -> dict[int, Anchors]:
    """The anchors of every posed frame, by source frame index."""
    wanted = wanted or AnchorFilter()
    track, angle = model.track_lengths(), model.triangulation_angles()
    sound = ~(split_disagreement(model) > wanted.max_split)  # NaN: cannot be told, and passes
    return {
        frame.frame: frame_anchors(model, frame, track, angle, sound, wanted)
        for frame in model.frames
    }


@lru_cache(maxsize=8)
def _pinhole(camera: Camera) -> Camera:
    return camera.pinhole()


def frame_anchors(
    model: SparseModel,
    frame: PosedFrame,
    track: NDArray[np.int64],
    angle_deg: Array,
    sound: NDArray[np.bool_],
    wanted: AnchorFilter,
) -> Anchors:
    """The anchors of one frame; ``track`` and ``angle_deg`` [P] as the model gives them, ``sound`` [P] the
    points that may be anchors at all.
    """
    points_cam = transform(frame.cam_from_world, model.xyz[frame.point])
    xy, depth = project(_pinhole(frame.camera).K, points_cam)
    error = np.linalg.norm(frame.camera.project(points_cam) - frame.xy, axis=1)
    size = (frame.camera.width, frame.camera.height)
    keep = (depth > 0) & (error <= wanted.max_error_px)  # NaN, behind the camera, compares false
    keep &= (
        sound[frame.point]
        & (track[frame.point] >= wanted.min_track)
        & (angle_deg[frame.point] >= wanted.min_angle_deg)
    )
    keep &= ((xy >= 0) & (xy < size)).all(1)
    row = frame.point[keep]
    return Anchors(
        xy[keep], depth[keep], model.ids[row], row, error[keep], track[row], angle_deg[row]
    )
