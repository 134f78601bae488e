"""The base model's own loss on labelled samples: DUSt3R's confidence-weighted regression, many views."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

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
