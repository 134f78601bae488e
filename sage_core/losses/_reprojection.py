"""The reprojection loss: predicted points through SfM's cameras, where structure from motion saw them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sage_core.geometry import batched
from sage_core.losses._anchor import AnchorSampling, SparseAnchors, image_size, sample_at
from sage_core.losses._scale import mean_distance
from sage_core.losses._scene import scaled_cameras

ReprojectionInto = Literal["own", "all"]
"""``own``: the camera of the view whose pixel predicts the point, which pins it to its ray; ``all``: every
context view's camera, which pins it along the ray too."""

_NEAR = 1e-3
"""Smallest depth, in mean distances of the scene, that is divided by."""


def reprojection_loss(
    points: Tensor,
    anchors: SparseAnchors,
    cam_from_reference: Tensor,
    *,
    into: ReprojectionInto = "all",
    clip: float = 0.1,
    sampling: AnchorSampling = "nearest",
    trained_scale: bool = True,
) -> Tensor:
    """Mean distance on the normalised image plane between predicted and SfM points, per sample [B].

    Both clouds are brought to mean distance 1 as in the anchor loss, seen from SfM's cameras as
    ``(x / z, y / z)``, and compared; one unit is one focal length. Distances are cut at ``clip``, beyond
    which there is no gradient, and a predicted point behind the camera counts as ``clip``. Pairs whose SfM
    point lies behind the camera do not count; a sample without pairs gives 0.

    Args:
        points: [B, V, H, W, 3] in the camera frame of view 0.
        anchors: of the same views; an anchor's weight weighs its pairs.
        cam_from_reference: [B, V, 3, 4] from the camera frame of view 0, in the anchors' unit.
        trained_scale: whether gradients flow through the scale of the predicted points.

    Raises:
        ConfigError: anchors for other views than the points'.
    """
    inside = anchors.inside(*image_size(points, anchors))
    seen = sample_at(points, anchors.xy, sampling)
    scale, true_scale = mean_distance(seen, inside), mean_distance(anchors.points, inside)
    scale = scale if trained_scale else scale.detach()
    lift = (-1, 1, 1, 1)
    cameras = scaled_cameras(cam_from_reference, true_scale)
    predicted, depth = _rays(seen / scale.view(lift), cameras, into)
    true, true_depth = _rays(anchors.points / true_scale.view(lift), cameras, into)
    weight = anchors.weight.where(inside, 0.0)[:, None].where(true_depth > _NEAR, 0.0)
    difference = (predicted - true).where((weight > 0)[..., None], 0.0)
    errors = torch.where(depth > _NEAR, vector_norm(difference, dim=-1).clamp(max=clip), clip)
    total = weight.flatten(1).sum(1)
    return (errors * weight).flatten(1).sum(1) / torch.where(total > 0, total, 1.0)


def _rays(points: Tensor, cameras: Tensor, into: ReprojectionInto) -> tuple[Tensor, Tensor]:
    """Normalised pixels [B, C, V, A, 2] and depths of points [B, V, A, 3]; C is 1 for the own camera."""
    if into == "own":
        camera = batched.transform(cameras, points)[:, None]
    else:
        camera = batched.transform(cameras[:, :, None], points[:, None])
    depth = camera[..., 2]
    return camera[..., :2] / depth.clamp(min=_NEAR)[..., None], depth
