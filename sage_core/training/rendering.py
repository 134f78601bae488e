"""What is rendered of a sample: which views, through which cameras, at which scale."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError
from sage_core.geometry import batched
from sage_core.losses import (
    RenderedViews,
    RenderingOptions,
    RenderingTerms,
    SparseAnchors,
    anchor_scales,
    by_reference,
    load_perceptual,
    mean_distance,
    points_by_reference,
    rendering_loss,
)
from sage_core.models import Gaussians, GeometryOutput
from sage_core.splatting import RasterConstants, missing_backend
from sage_core.training.samples import LabelledSample, VideoSample


class SampleRendering:
    """The rendering loss of samples under a run's settings.

    Raises:
        ConfigError: LPIPS without its weights, or a device that nothing here renders on.
    """

    def __init__(self, adapt: AdaptConfig, device: torch.device) -> None:
        loss = self._loss = adapt.loss
        self._options = RenderingOptions(
            form=loss.photometric,
            gradient=loss.gaussian_gradient,
            exposure=loss.exposure,
            exposure_limit=loss.exposure_limit,
            exposure_trained=loss.exposure_trained,
            constants=RasterConstants(**adapt.rendering.model_dump()),
        )
        self.perceptual = None
        backend: Literal["gsplat", "cpu"] = "gsplat" if device.type == "cuda" else "cpu"
        # Why nothing can be rendered here, if so.
        self.problem = missing_backend(backend, self._options.constants)
        if loss.rendering_weight:
            _check_renderer(self.problem)
            network = load_perceptual(loss.perceptual, loss.perceptual_weights)
            self.perceptual = network.to(device) if network is not None else None

    def of_video(
        self, output: GeometryOutput, sample: VideoSample, chosen: list[int]
    ) -> RenderingTerms:
        """The views ``chosen``, through SfM's cameras at the scale of the anchors."""
        scale, true_scale = anchor_scales(output.points, sample.anchors, self._loss.anchor_sampling)
        if self._loss.camera_scale == "all_views" and sample.target_anchors is not None:
            true_scale = _scale_of_all(sample.anchors, sample.target_anchors, sample.images)
        views = RenderedViews(
            sample.images[None, chosen],
            sample.cam_from_reference[None, chosen],
            sample.intrinsics[None, chosen],
            true_scale,
            sample.valid[None, chosen] if sample.valid is not None else None,
        )
        return self._rendered(output, sample.images[None, : sample.context], scale, views)

    def of_labelled(self, output: GeometryOutput, sample: LabelledSample) -> Tensor:
        """The published training's rendering loss, into the views that the model saw: one number."""
        references, cameras = self._loss.references, sample.cam_from_reference[None]
        images, valid = (by_reference(t[None], references) for t in (sample.images, sample.valid))
        points = points_by_reference(sample.points[None], cameras, references)
        poses = by_reference(cameras, references)
        views = RenderedViews(
            images,
            batched.relative(poses, poses[:, :1]),
            by_reference(sample.intrinsics[None], references),
            mean_distance(points, valid),
            valid,
        )
        rendered = self._rendered(output, images, mean_distance(output.points, valid), views)
        return rendered.total(self._loss.perceptual_weight).mean()

    def chosen_views(self, sample: VideoSample) -> list[int]:
        """The context views that are rendered, those that the sample's draw put first, and the targets."""
        wanted = self._loss.rendered_context
        context = sample.context if wanted is None else min(wanted, sample.context)
        return [*sample.render_order[:context], *range(sample.context, len(sample.images))]

    def _rendered(
        self, output: GeometryOutput, context: Tensor, scale: Tensor, views: RenderedViews
    ) -> RenderingTerms:
        points, gaussians = _finite(output)
        scale = scale if self._loss.trained_scale else scale.detach()
        return rendering_loss(
            points, gaussians, context, scale, views, self._options, self.perceptual
        )


def _check_renderer(problem: str | None) -> None:
    if problem:
        raise ConfigError(f"{problem}, or train without rendering: adapt.loss.rendering_weight=0")


def _scale_of_all(context: SparseAnchors, targets: SparseAnchors, images: Tensor) -> Tensor:
    """Mean distance [B] of the anchors of context and target views together."""
    height, width = images.shape[-2:]
    points = [a.points.flatten(1, 2) for a in (context, targets)]
    inside = [a.inside(height, width).flatten(1, 2) for a in (context, targets)]
    return mean_distance(torch.cat(points, 1), torch.cat(inside, 1))


def _finite(output: GeometryOutput) -> tuple[Tensor, Gaussians]:
    """Points and Gaussians of which those with a point that is not finite are invisible."""
    if output.gaussians is None:
        raise ConfigError(
            "this model predicts no Gaussians to render: set adapt.loss.rendering_weight=0"
        )
    finite = output.points.isfinite().all(-1)
    points = output.points.where(finite[..., None], 0.0)
    return points, replace(
        output.gaussians, opacities=output.gaussians.opacities.where(finite, 0.0)
    )
