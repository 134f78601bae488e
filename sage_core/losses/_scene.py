"""From a model's answer to Gaussians and cameras that share one scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from sage_core.models import Gaussians

SCALE_BOUNDS_AT_224 = (1e-4, 4e-3)
"""Smallest and largest standard deviation of a splat in the published training, whose images have
224 px; in units of the scene's mean distance."""

GaussianGradient = Literal["centres", "all"]
"""``centres``: rendering moves points only, never hides an error in opacity, scale or rotation;
``all``: gradients also reach the decoder through the (frozen) Gaussian head."""


@dataclass(frozen=True)
class GaussianScene:
    """One splat per pixel of the context views, N = V·H·W, view by view, in units of the mean distance."""

    means: Tensor
    """[B, N, 3] in the camera frame of view 0."""
    scales: Tensor
    """[B, N, 3]"""
    quats: Tensor
    """[B, N, 4] w, x, y, z."""
    opacities: Tensor
    """[B, N]"""
    colours: Tensor
    """[B, N, 3] in 0..1."""
    scale_penalty: Tensor
    """[B] mean squared overshoot of the head's scales over their bounds."""


def gaussian_scene(
    points: Tensor,
    gaussians: Gaussians,
    images: Tensor,
    scale: Tensor,
    *,
    bounds: tuple[float, float] | None = None,
    gradient: GaussianGradient = "centres",
) -> GaussianScene:
    """Splats at the predicted points, each in its own pixel's colour (the head's colours are not used).

    Args:
        points: [B, V, H, W, 3] in the camera frame of view 0.
        gaussians: the head's answer for the same pixels.
        images: [B, V, 3, H, W] in 0..1.
        scale: [B] the points' mean distance; gradients reach the centres through it unless detached.
        bounds: of the splats' scales; by default those that fit the image's size (:func:`scale_bounds`).
        gradient: see :data:`GaussianGradient`.
    """
    low, high = bounds or scale_bounds(max(points.shape[2:4]))
    sizes = gaussians.scales / scale.detach().view(-1, 1, 1, 1, 1)
    rotations, opacities = gaussians.rotations, gaussians.opacities
    if gradient == "centres":
        sizes, rotations, opacities = sizes.detach(), rotations.detach(), opacities.detach()
    overshoot = (sizes - high).clamp(min=0) + (low - sizes).clamp(min=0)
    return GaussianScene(
        means=(points / scale.view(-1, 1, 1, 1, 1)).flatten(1, 3),
        scales=sizes.clamp(low, high).flatten(1, 3),
        quats=rotations.flatten(1, 3),
        opacities=opacities.flatten(1),
        colours=images.movedim(2, -1).flatten(1, 3),
        scale_penalty=overshoot.square().flatten(1).mean(1),
    )


def scale_bounds(
    side: int, at_224: tuple[float, float] = SCALE_BOUNDS_AT_224
) -> tuple[float, float]:
    """Bounds of a splat's scale for images with ``side`` pixels on the long side.

    A pixel of a smaller image covers more of the scene: the bounds keep their size in pixels.
    """
    low, high = at_224
    return low * 224 / side, high * 224 / side


def scaled_cameras(cam_from_reference: Tensor, scale: Tensor) -> Tensor:
    """Poses [B, K, 3, 4] with translations divided by ``scale`` [B], to fit a scene divided by its own."""
    rotation, translation = cam_from_reference[..., :3], cam_from_reference[..., 3:]
    return torch.cat((rotation, translation / scale.view(-1, 1, 1, 1)), dim=-1)
