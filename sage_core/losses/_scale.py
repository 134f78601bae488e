"""The scale that makes predictions and targets comparable."""

from __future__ import annotations

from torch import Tensor
from torch.linalg import vector_norm

_EPS = 1e-8


def mean_distance(points: Tensor, valid: Tensor) -> Tensor:
    """Mean distance [B] of the valid points to the origin (DUSt3R's ``avg_dis``).

    Args:
        points: [B, ..., 3]; what it holds where not valid does not matter, finite or not.
        valid: bool [B, ...].

    Gradients flow through it; detach the answer where they must not.
    """
    distance: Tensor = vector_norm(points.where(valid[..., None], 0.0), dim=-1).flatten(1)
    mean = distance.sum(1) / (valid.flatten(1).sum(1) + _EPS)
    return mean.clamp(min=_EPS)
