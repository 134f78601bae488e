"""The anchor loss: predicted points where structure from motion knows the answer (method section 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from sage_core.errors import ConfigError
from sage_core.geometry import batched
from sage_core.losses._confidence import confident_loss
from sage_core.losses._robust import RobustKernel, robust
from sage_core.losses._scale import mean_distance
from sage_core.models import ConfidenceKind

AnchorSampling = Literal["nearest", "bilinear"]
"""``nearest``: the pixel that the anchor falls in, as the paper has it; ``bilinear``: between centres."""

AnchorReduction = Literal["view_means", "sum", "mean"]
"""``view_means``: mean over each view's anchors, summed over views, the form (and so the size) of the
base model's own loss. ``sum``: over all anchors, the paper's formula to the letter; it grows with the
number of anchors. ``mean``: over all anchors of the sample, so that a view counts by its anchors."""


@dataclass(frozen=True)
class SparseAnchors:
    """Structure-from-motion points in the views that see them, padded to A a view."""

    xy: Tensor
    """[B, V, A, 2] in pixels of the model's images, centres at +0.5."""
    points: Tensor
    """[B, V, A, 3] in the camera frame of view 0, in the reconstruction's unit."""
    weight: Tensor
    """[B, V, A] >= 0; 0 marks padding. What an anchor's term counts; it does not weigh the scales z."""

    def to(self, device: torch.device) -> SparseAnchors:
        """The anchors on a device."""
        return SparseAnchors(self.xy.to(device), self.points.to(device), self.weight.to(device))

    def select(self, views: list[int]) -> SparseAnchors:
        """Those of these views, in this order."""
        return SparseAnchors(self.xy[:, views], self.points[:, views], self.weight[:, views])

    def moved(self, other_from_reference: Tensor) -> SparseAnchors:
        """The points in another camera frame, given by the pose [3, 4] or [B, 3, 4]."""
        pose = other_from_reference[..., None, :, :]
        return SparseAnchors(self.xy, batched.transform(pose, self.points), self.weight)

    def inside(self, height: int, width: int) -> Tensor:
        """Mark, bool [B, V, A], the anchors that are no padding and fall into the image."""
        x, y = self.xy.unbind(-1)
        return (self.weight > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)


def anchor_loss(
    points: Tensor,
    conf: Tensor,
    anchors: SparseAnchors,
    *,
    conf_kind: ConfidenceKind = "one_plus_exp",
    alpha: float = 0.2,
    sampling: AnchorSampling = "nearest",
    reduction: AnchorReduction = "view_means",
    trained_scale: bool = True,
    kernel: RobustKernel = "none",
    kernel_scale: float = 0.1,
) -> Tensor:
    """Σ over views and anchors of ``w · (C · ρ(‖X / z − X̄ / z̄‖) − alpha · log C)``, per sample [B].

    z and z̄ are the mean distances of the predicted and the reconstructed points to the origin, each
    over the sample's anchors, so that the unknown scale of either drops out. A sample without any
    anchor gives 0.

    Args:
        points: [B, V, H, W, 3] in the camera frame of view 0.
        conf: [B, V, H, W], of the kind ``conf_kind``, whose term (:func:`confident_loss`) takes the place
            of the formula's for kinds other than ``one_plus_exp``.
        trained_scale: whether gradients flow through z.
        kernel, kernel_scale: ρ (:func:`robust`), which is the distance itself in the paper; its scale is
            in mean distances of the scene.

    Raises:
        ConfigError: anchors for other views than the points'.
    """
    inside = anchors.inside(*image_size(points, anchors))
    seen = sample_at(torch.cat((points, conf[..., None]), dim=-1), anchors.xy, sampling)
    scale, true_scale = mean_distance(seen[..., :3], inside), mean_distance(anchors.points, inside)
    if not trained_scale:
        scale = scale.detach()
    lift = (-1, 1, 1, 1)
    difference = seen[..., :3] / scale.view(lift) - anchors.points / true_scale.view(lift)
    errors = difference.where(inside[..., None], 0.0).norm(dim=-1)
    errors = robust(errors, kernel, kernel_scale)
    terms = confident_loss(errors, seen[..., 3], alpha, conf_kind).where(inside, 0.0)
    return _reduce(terms, anchors.weight.where(inside, 0.0), reduction)


def anchor_scales(
    points: Tensor, anchors: SparseAnchors, sampling: AnchorSampling = "nearest"
) -> tuple[Tensor, Tensor]:
    """Mean distances z, z̄ [B] of prediction and reconstruction over the same anchors."""
    inside = anchors.inside(*image_size(points, anchors))
    seen = sample_at(points, anchors.xy, sampling)
    return mean_distance(seen, inside), mean_distance(anchors.points, inside)


def sample_at(maps: Tensor, xy: Tensor, sampling: AnchorSampling = "nearest") -> Tensor:
    """Maps [B, V, H, W, C] at pixels [B, V, A, 2] (+0.5 rule): [B, V, A, C]. Outside: the border."""
    batch, views, height, width, channels = maps.shape
    if sampling == "bilinear":
        grid = 2 * xy / xy.new_tensor((width, height)) - 1
        values = grid_sample(
            maps.flatten(0, 1).movedim(-1, 1),
            grid.flatten(0, 1)[:, :, None],
            mode="bilinear",
            padding_mode="border",
            align_corners=False,
        )
        return values[..., 0].transpose(1, 2).reshape(batch, views, -1, channels)
    column = xy[..., 0].floor().clamp(0, width - 1).long()
    row = xy[..., 1].floor().clamp(0, height - 1).long()
    index = (row * width + column)[..., None].expand(-1, -1, -1, channels)
    return maps.flatten(2, 3).gather(2, index)


def image_size(points: Tensor, anchors: SparseAnchors) -> tuple[int, int]:
    """Height and width of pointmaps [B, V, H, W, 3] that the anchors belong to.

    Raises:
        ConfigError: anchors for other views than the points'.
    """
    if points.shape[:2] != anchors.xy.shape[:2]:
        raise ConfigError(
            f"anchors of {list(anchors.xy.shape[:2])} samples and views for pointmaps of "
            f"{list(points.shape[:2])}"
        )
    return points.shape[2], points.shape[3]


def _reduce(terms: Tensor, weight: Tensor, reduction: AnchorReduction) -> Tensor:
    weighted = terms * weight
    if reduction == "sum":
        return weighted.sum((1, 2))
    dims = (2,) if reduction == "view_means" else (1, 2)
    total = weight.sum(dims)
    mean = weighted.sum(dims) / torch.where(total > 0, total, 1.0)
    return mean.sum(1) if reduction == "view_means" else mean
