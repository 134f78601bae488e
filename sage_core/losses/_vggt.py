"""VGGT's own loss on labelled scenes: cameras, depth and points at mean distance 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sage_core.geometry.batched import relative, transform
from sage_core.losses._vggt_dense import CLAMP, VALID_SHARE, DenseTerms, dense_loss
from sage_core.models.vggt import encode_cameras

CAMERA_WEIGHT = 5.0
FOV_WEIGHT = 0.5
ROUND_DECAY = 0.6
"""An earlier round of the camera head counts so much less than the one after it."""
FEWEST_IN_VIEW_0 = 100
"""Scenes with no more valid pixels in view 0 say nothing about cameras: their scale is unsure."""
_SCALE_LIMITS = (1e-6, 1e6)
_SCALE_EPS = 1e-3


@dataclass(frozen=True)
class LabelledScenes:
    """Ground truth of B scenes of V views."""

    cam_from_world: Tensor
    """[B, V, 3, 4]"""
    intrinsics: Tensor
    """[B, V, 3, 3] in pixels; VGGT codes the focal lengths alone."""
    points: Tensor
    """[B, V, H, W, 3] in the world; free where not valid."""
    depth: Tensor
    """[B, V, H, W] z in each view's camera; free where not valid."""
    valid: Tensor
    """bool [B, V, H, W]"""

    def normalised(self) -> LabelledScenes:
        """The same scenes with view 0's camera as world, and the valid points at mean distance 1 from it."""
        first = self.cam_from_world[:, :1]
        flat = transform(first[:, 0], self.points.flatten(1, 3))
        points = flat.view_as(self.points)
        distances = vector_norm(points, dim=-1).where(self.valid, 0.0).flatten(1).sum(1)
        scale = distances / (self.valid.flatten(1).sum(1) + _SCALE_EPS)
        lift = scale.clamp(*_SCALE_LIMITS).view(-1, 1, 1, 1)
        cameras = relative(self.cam_from_world, first)
        cameras = torch.cat((cameras[..., :3], cameras[..., 3:] / lift), dim=-1)
        return LabelledScenes(
            cameras, self.intrinsics, points / lift[..., None], self.depth / lift, self.valid
        )

    def pose_codes(self) -> Tensor:
        """[B, V, 9], what the camera head is to say."""
        return encode_cameras(self.cam_from_world, self.intrinsics, *self.depth.shape[-2:])


@dataclass(frozen=True)
class CameraTerms:
    """The parts of the camera loss, scalars."""

    translation: Tensor
    rotation: Tensor
    fov: Tensor

    @property
    def total(self) -> Tensor:
        return self.translation + self.rotation + FOV_WEIGHT * self.fov


@dataclass(frozen=True)
class VGGTTerms:
    """The parts of the loss, scalars over the batch."""

    camera: CameraTerms
    depth: DenseTerms
    points: DenseTerms | None
    """None where the point head did not run."""

    @property
    def total(self) -> Tensor:
        total = CAMERA_WEIGHT * self.camera.total + self.depth.total
        return total if self.points is None else total + self.points.total


def vggt_loss(
    native: Mapping[str, Tensor],
    truth: LabelledScenes,
    *,
    alpha: float = 0.2,
    valid_share: float = VALID_SHARE,
) -> VGGTTerms:
    """The published training's loss; its predictions are not rescaled, only the truth is.

    Args:
        native: VGGT's own answer (:attr:`sage_core.models.GeometryOutput.native`).
        truth: as it was measured; it is normalised here.
        alpha: weight of the confidence's logarithm.
        valid_share: share of the errors that count, the smallest ones.
    """
    scenes = truth.normalised()
    depth = dense_loss(
        native["depth"][..., None],
        native["depth_conf"],
        scenes.depth[..., None],
        scenes.valid,
        "steps",
        alpha=alpha,
        valid_share=valid_share,
    )
    points = None
    if "world_points" in native:
        points = dense_loss(
            native["world_points"],
            native["world_points_conf"],
            scenes.points,
            scenes.valid,
            "normals",
            alpha=alpha,
            valid_share=valid_share,
        )
    camera = camera_loss(native["pose_enc_list"], scenes.pose_codes(), scenes.valid)
    return VGGTTerms(camera, depth, points)


def camera_loss(rounds: Tensor, codes: Tensor, valid: Tensor) -> CameraTerms:
    """Mean absolute differences of pose codes, each round's counting 0.6 of the next one's.

    Args:
        rounds: [B, I, V, 9] predicted after each round.
        codes: [B, V, 9] true.
        valid: bool [B, V, H, W]; scenes with 100 valid pixels or fewer in view 0 are left out.
    """
    used = valid[:, 0].flatten(1).sum(1) > FEWEST_IN_VIEW_0
    if not used.any():
        nothing = 0.0 * rounds.sum()
        return CameraTerms(nothing, nothing, nothing)
    difference = (rounds[used] - codes[used, None]).abs()
    count = rounds.shape[1]
    weights = ROUND_DECAY ** torch.arange(count - 1, -1, -1, device=rounds.device)

    def weighed(part: Tensor) -> Tensor:
        return (weights * part.mean((0, 2, 3))).sum() / count

    return CameraTerms(
        weighed(difference[..., :3].clamp(max=CLAMP)),
        weighed(difference[..., 3:7]),
        weighed(difference[..., 7:]),
    )
