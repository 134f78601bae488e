"""The distance to a teacher's pointmaps: the same views, seen by a model that was given more of them."""

from __future__ import annotations

from torch import Tensor

from sage_core.losses._supervised import normalised_errors, sum_of_view_means


def teacher_loss(
    points: Tensor, taught: Tensor, trust: Tensor, *, kept_share: float = 0.7
) -> Tensor:
    """Mean distance over the trusted pixels of each view, summed over the views; a scalar.

    Both sides are divided by their mean distance over those pixels, since neither has a unit. The student's
    own confidence takes no part: it is to learn geometry here, not to trust itself.

    Args:
        points: [B, V, H, W, 3] predicted, in the camera frame of view 0.
        taught: [B, V, H, W, 3] the teacher's, of the same views and in the same frame; no gradient.
        trust: [B, V, H, W] the teacher's confidence, of which only the order within a view counts.
        kept_share: share of each view's pixels that count, the most trusted ones.
    """
    taught, trust = taught.detach(), trust.detach()
    least = trust.flatten(2).quantile(1 - kept_share, dim=2)[..., None, None]
    kept = (trust >= least) & taught.isfinite().all(-1)
    errors = normalised_errors(points, taught.where(kept[..., None], 0.0), kept)
    return sum_of_view_means(errors, kept)
