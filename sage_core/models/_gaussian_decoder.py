"""Gaussians for models that predict points only: one splat a pixel, from pointmap and image alone."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.linalg import vector_norm

from sage_core.geometry.batched import quaternion_from_rotation
from sage_core.models.interface import Gaussians

OPACITY = 0.95
"""High, since a pixel shows a surface; below 1, since the rasteriser's transmittance must not vanish."""

FOOTPRINT = 0.5
"""Standard deviation of a splat along the surface, in distances between neighbouring pixels' points:
splats then meet at half their height."""

THICKNESS = 0.1
"""Standard deviation across the surface, as a share of the smaller one along it."""

SH_0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 √π)."""

_TINY = 1e-12


class GaussianDecoder(nn.Module):
    """:func:`surface_gaussians`, whose opacities and sizes learn to differ from the rule.

    The difference is linear in colours and sizes of the 3 x 3 pixels around, and starts at zero. It is
    learned only where it is asked for (``adapt.loss.gaussian_gradient=all``, the group not frozen).
    """

    def __init__(self) -> None:
        super().__init__()
        self.residual = nn.Conv2d(4, 4, 3, padding=1)
        if not self.residual.weight.is_meta:
            for tensor in self.residual.parameters():
                nn.init.zeros_(tensor)

    def forward(self, points: Tensor, images: Tensor) -> Gaussians:
        """As :func:`surface_gaussians`; gradients reach the decoder's own tensors, and no others."""
        plain = surface_gaussians(points, images)
        size = plain.scales.mean(-1).clamp(min=_TINY).log()
        size = size - size.mean((1, 2, 3), keepdim=True)
        features = torch.cat((images - 0.5, size[:, :, None]), dim=2)
        change = self.residual(features.flatten(0, 1)).unflatten(0, images.shape[:2])
        return replace(
            plain,
            opacities=(plain.opacities.logit() + change[:, :, 0]).sigmoid(),
            scales=plain.scales * change[:, :, 1:].movedim(2, -1).exp(),
        )


def surface_gaussians(points: Tensor, images: Tensor) -> Gaussians:
    """A small disc on the surface at every pixel, as wide as its pixel, in its pixel's colour.

    Nothing in it is learned, so that the rendering loss cannot be lowered by anything but better points:
    a decoder that trains could hide wrong geometry behind small or transparent splats. For the same
    reason no gradient flows through it; the splats' centres are the points themselves, which
    :func:`sage_core.losses.gaussian_scene` moves.

    The disc is spanned by the steps to the horizontal and to the vertical neighbour, each the nearer one
    of the two, so that a disc at the edge of an object does not reach to what is behind it.

    Args:
        points: [B, V, H, W, 3] in one frame, any unit; H, W >= 2.
        images: [B, V, 3, H, W], RGB 0..1.
    """
    with torch.no_grad():
        across, down = nearer_step(points, dim=-2), nearer_step(points, dim=-3)
        axes, lengths = _disc(across, down)
        thickness = THICKNESS * lengths.amin(-1, keepdim=True)
        return Gaussians(
            opacities=torch.full_like(points[..., 0], OPACITY),
            scales=FOOTPRINT * torch.cat((lengths, thickness), dim=-1),
            rotations=quaternion_from_rotation(axes),
            colours=(images.movedim(2, -1) - 0.5) / SH_0,
        )


def nearer_step(points: Tensor, dim: int) -> Tensor:
    """The shorter of the steps [..., 3] to the neighbours before and behind along a dimension."""
    steps = points.diff(dim=dim)
    size = steps.shape[dim]
    # At the border the one neighbour that there is stands for both.
    before = torch.cat((steps.narrow(dim, 0, 1), steps), dim=dim)
    behind = torch.cat((steps, steps.narrow(dim, size - 1, 1)), dim=dim)
    shorter = vector_norm(before, dim=-1) <= vector_norm(behind, dim=-1)
    return torch.where(shorter[..., None], before, behind)


def _disc(across: Tensor, down: Tensor) -> tuple[Tensor, Tensor]:
    """Axes [..., 3, 3], as columns, and half-axes [..., 2] of discs spanned by two steps.

    Steps that are parallel, zero or not finite leave the missing axes to the coordinate axes.
    """
    across, down = across.nan_to_num(0, 0, 0), down.nan_to_num(0, 0, 0)
    first = _unit(across, _alternative(down))
    upright = down - (down * first).sum(-1, keepdim=True) * first
    second = _unit(upright, _alternative(first))
    second = _unit(second - (second * first).sum(-1, keepdim=True) * first, _alternative(first))
    axes = torch.stack((first, second, torch.linalg.cross(first, second)), dim=-1)
    lengths = torch.stack((vector_norm(across, dim=-1), vector_norm(upright, dim=-1)), dim=-1)
    return axes, lengths


def _unit(vector: Tensor, otherwise: Tensor) -> Tensor:
    length = vector_norm(vector, dim=-1, keepdim=True)
    return torch.where(length > _TINY, vector / length.clamp(min=_TINY), otherwise)


def _alternative(vector: Tensor) -> Tensor:
    """The coordinate axis [..., 3] that lies furthest from a vector."""
    axis = vector.abs().argmin(-1)
    return torch.nn.functional.one_hot(axis, 3).to(vector.dtype)
