"""The rendering loss: the predicted scene, splatted into cameras, against the images there."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from sage_core.losses._exposure import ExposureModel, match_exposure
from sage_core.losses._perceptual import Perceptual
from sage_core.losses._photometric import PhotometricForm, photometric_loss
from sage_core.losses._scene import (
    SCALE_BOUNDS_AT_224,
    GaussianGradient,
    GaussianScene,
    gaussian_scene,
    scale_bounds,
    scaled_cameras,
)
from sage_core.models import Gaussians
from sage_core.splatting import Backend, RasterConstants, render


@dataclass(frozen=True)
class RenderedViews:
    """The views that are rendered and compared: context and targets, in any order."""

    images: Tensor
    """[B, K, 3, H, W] in 0..1."""
    cam_from_reference: Tensor
    """[B, K, 3, 4] from the camera frame of view 0, in the unit of ``scale``."""
    intrinsics: Tensor
    """[B, K, 3, 3] in pixels of ``images``, centres at +0.5."""
    scale: Tensor
    """[B] what to divide the translations by: z̄ of the anchors, or the true points' mean distance."""
    valid: Tensor | None = None
    """bool [B, K, H, W]: pixels that count; all if None. LPIPS, which sees neighbourhoods, is given the
    image's own pixels where they do not."""


@dataclass(frozen=True)
class RenderingOptions:
    """The choices that paper and published code differ in, or leave open."""

    form: PhotometricForm = "l2_norm"
    scale_bounds_at_224: tuple[float, float] = SCALE_BOUNDS_AT_224
    gradient: GaussianGradient = "centres"
    exposure: ExposureModel = "none"
    exposure_limit: float = 1.5
    exposure_trained: bool = False
    constants: RasterConstants = field(default_factory=RasterConstants)
    backend: Backend = "auto"


@dataclass(frozen=True)
class RenderingTerms:
    """The parts of the loss per sample, each [B], and what was rendered."""

    photometric: Tensor
    scale_penalty: Tensor
    perceptual: Tensor
    rendered: Tensor
    """[B, K, 3, H, W] before exposure is matched; 0..1 but for splats that overlap beyond it."""

    def total(self, perceptual_weight: float = 1.0) -> Tensor:
        """[B]: photometric + scale penalty + λ · perceptual."""
        return self.photometric + self.scale_penalty + perceptual_weight * self.perceptual


def rendering_loss(
    points: Tensor,
    gaussians: Gaussians,
    images: Tensor,
    scale: Tensor,
    views: RenderedViews,
    options: RenderingOptions = RenderingOptions(),
    perceptual: Perceptual | None = None,
) -> RenderingTerms:
    """Splat the prediction into ``views`` and compare.

    Args:
        points: [B, V, H, W, 3] predicted in the camera frame of view 0.
        gaussians: the model's, for the same pixels.
        images: [B, V, 3, H, W] the context images, 0..1.
        scale: [B] what to divide the points by: z of the anchors, or their mean distance.
        views: cameras and images; their own ``scale`` brings them to the same unit.
        perceptual: LPIPS, or None to leave it out.

    Raises:
        ConfigError: no rasteriser for the tensors' device.
    """
    bounds = scale_bounds(max(points.shape[2:4]), options.scale_bounds_at_224)
    scene = gaussian_scene(
        points, gaussians, images, scale, bounds=bounds, gradient=options.gradient
    )
    cameras = scaled_cameras(views.cam_from_reference, views.scale)
    rendered = torch.stack(
        [_render_item(scene, item, cameras[item], views, options) for item in range(len(points))]
    )
    exposed = match_exposure(
        rendered,
        views.images,
        options.exposure,
        valid=views.valid,
        limit=options.exposure_limit,
        trained=options.exposure_trained,
    )
    photometric = photometric_loss(exposed, views.images, views.valid, options.form)
    distance = torch.zeros_like(photometric)
    if perceptual is not None:
        distance = _perceptual_distance(perceptual, exposed, views)
    return RenderingTerms(photometric, scene.scale_penalty, distance, rendered)


def _render_item(
    scene: GaussianScene,
    item: int,
    cameras: Tensor,
    views: RenderedViews,
    options: RenderingOptions,
) -> Tensor:
    height, width = views.images.shape[-2:]
    image, _, _ = render(
        scene.means[item],
        scene.scales[item],
        scene.quats[item],
        scene.opacities[item],
        scene.colours[item],
        cameras,
        views.intrinsics[item],
        width,
        height,
        options.constants,
        options.backend,
    )
    return image.movedim(-1, 1)


def _perceptual_distance(network: Perceptual, rendered: Tensor, views: RenderedViews) -> Tensor:
    if views.valid is not None:
        rendered = rendered.where(views.valid[:, :, None], views.images)
    distance: Tensor = network(rendered.flatten(0, 1).clamp(0, 1), views.images.flatten(0, 1))
    return distance.view(rendered.shape[:2]).mean(1)
