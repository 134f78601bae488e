"""The base model's own loss on labelled samples: DUSt3R's confidence-weighted regression, many views."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

from sage_core.geometry import batched
from sage_core.losses._confidence import confident_loss
from sage_core.losses._scale import mean_distance
from sage_core.models import ConfidenceKind


def supervised_loss(
    points: Tensor,
    conf: Tensor,
    true_points: Tensor,
    valid: Tensor,
    *,
    conf_kind: ConfidenceKind = "one_plus_exp",
    alpha: float = 0.2,
    trained_scale: bool = True,
) -> Tensor:
    """Confidence-weighted distance to the true pointmaps; both sides at mean distance 1.

    The mean over each view's valid pixels, pooled over the batch, and the *sum* over the views, as in
    MV-DUSt3R's training: with eight views it is a sum of eight means.

    Args:
        points: [B, V, H, W, 3] predicted, in the camera frame of view 0.
        conf: [B, V, H, W], of the kind ``conf_kind`` (:func:`confident_loss`).
        true_points: [B, V, H, W, 3] in the same frame, any unit; free where not valid.
        valid: bool [B, V, H, W].
        alpha: weight of the confidence's own term.
        trained_scale: whether gradients flow through the prediction's scale.
    """
    errors = normalised_errors(points, true_points, valid, trained_scale=trained_scale)
    per_pixel = confident_loss(errors, conf, alpha, conf_kind)
    return sum_of_view_means(per_pixel, valid)


def normalised_errors(
    points: Tensor, true_points: Tensor, valid: Tensor, *, trained_scale: bool = True
) -> Tensor:
    """Distances [B, V, ...] after dividing each side by its own mean distance; 0 where not valid."""
    scale, true_scale = mean_distance(points, valid), mean_distance(true_points, valid)
    if not trained_scale:
        scale = scale.detach()
    lift = (-1,) + (1,) * (points.ndim - 1)
    difference = points / scale.view(lift) - true_points / true_scale.view(lift)
    errors: Tensor = vector_norm(difference.where(valid[..., None], 0.0), dim=-1)
    return errors


def sum_of_view_means(per_pixel: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid pixels of each view [B, V, ...], pooled over the batch; summed over views.

    A view without any valid pixel counts 0.
    """
    kept = per_pixel.where(valid, 0.0).transpose(0, 1).flatten(1).sum(1)
    count = valid.transpose(0, 1).flatten(1).sum(1)
    return torch.where(count > 0, kept / count.clamp(min=1), 0.0 * kept).sum()


def by_reference(views: Tensor, references: int) -> Tensor:
    """Views [B, V, …] as the rows [B·R, V, …] that a model with R references answers for.

    Row ``b·R + r`` has view r in slot 0 and view 0 in slot r (MV-DUSt3R+).
    """
    rows = views.repeat_interleave(references, 0)
    order = torch.arange(views.shape[1]).repeat(references, 1)
    slots = torch.arange(references)
    order[slots, 0], order[slots, slots] = slots, torch.zeros_like(slots)
    order = order.repeat(len(views), 1).to(views.device)
    return rows[torch.arange(len(rows), device=views.device)[:, None], order]


def points_by_reference(points: Tensor, cam_from_reference: Tensor, references: int) -> Tensor:
    """Points [B, V, …, 3] in view 0's camera frame as rows [B·R, V, …, 3], row r in view r's.

    Args:
        cam_from_reference: [B, V, 3, 4] from view 0's camera frame, in the points' unit.
    """
    rows = by_reference(points, references)
    poses = cam_from_reference[:, :references].flatten(0, 1)
    return batched.transform(poses, rows.flatten(1, -2)).view_as(rows)
