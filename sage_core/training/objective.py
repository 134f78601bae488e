"""The loss of a sample: anchors and rendering for mined video, the model's own loss for labelled views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError
from sage_core.losses import (
    RenderedViews,
    RenderingOptions,
    RenderingTerms,
    anchor_loss,
    anchor_scales,
    load_perceptual,
    rendering_loss,
    teacher_loss,
)
from sage_core.models import Gaussians, GeometryOutput
from sage_core.splatting import RasterConstants, missing_backend
from sage_core.training.precision import half, trunk_autocast
from sage_core.training.samples import LabelledSample, VideoSample
from sage_core.training.supervision import PARTS, Supervision, by_pointmaps

TERMS = (
    *("anchor", "photometric", "scale_penalty", "perceptual", "labelled", "teacher", "total"),
    *PARTS,
)


class Objective:
    """Passes samples through the model and weighs the terms of method section 3.

    Called with (forward, samples) it gives the mean of the samples' losses, each taken by itself, so that the
    way samples are grouped does not matter, and each sample's terms, unweighted.

    Raises:
        ConfigError: LPIPS without its weights, or a device that nothing here renders on.
    """

    def __init__(
        self, adapt: AdaptConfig, device: torch.device, own_loss: Supervision = by_pointmaps
    ) -> None:
        self._loss, self._own_loss = adapt.loss, own_loss
        self._teacher = adapt.teacher
        self._half = half(adapt, device)
        self._renders = adapt.loss.rendering_weight > 0
        self._options = RenderingOptions(
            form=adapt.loss.photometric,
            gradient=adapt.loss.gaussian_gradient,
            constants=RasterConstants(**adapt.rendering.model_dump()),
        )
        self._head_trains = "gaussian_head" not in adapt.frozen
        self._perceptual = None
        if self._renders:
            _check_renderer(device, self._options.constants)
            network = load_perceptual(adapt.loss.perceptual, adapt.loss.perceptual_weights)
            self._perceptual = network.to(device) if network is not None else None

    def __call__(
        self, forward: nn.Module, samples: Sequence[VideoSample | LabelledSample]
    ) -> tuple[Tensor, list[dict[str, float]]]:
        device = next(forward.parameters()).device
        samples = [sample.to(device) for sample in samples]
        images = torch.stack([sample.images[: sample.context] for sample in samples])
        with trunk_autocast(device, self._half):
            output = forward(images)
        losses, terms = [], []
        for item, sample in enumerate(samples):
            one = _item(output, item)
            found = (
                self._video(one, sample)
                if isinstance(sample, VideoSample)
                else self._labelled(one, sample)
            )
            total = self._weighted(found) + self._tie(one, found)
            losses.append(total)
            figures = {name: float(value.detach()) for name, value in found.items()}
            terms.append({**figures, "total": float(total.detach())})
        return torch.stack(losses).mean(), terms

    def _video(self, output: GeometryOutput, sample: VideoSample) -> dict[str, Tensor]:
        terms = self._consistency(output, sample)
        if not sample.anchors.weight.any():
            return terms
        if self._loss.anchor_weight:
            terms["anchor"] = anchor_loss(
                output.points,
                output.conf,
                sample.anchors,
                conf_kind=output.conf_kind,
                alpha=self._loss.alpha,
                sampling=self._loss.anchor_sampling,
                reduction=self._loss.anchor_reduction,
                trained_scale=self._loss.trained_scale,
            )[0]
        return {**terms, **self._rendering(output, sample)} if self._renders else terms

    def _consistency(self, output: GeometryOutput, sample: VideoSample) -> dict[str, Tensor]:
        taught = sample.taught
        if taught is None:
            return {}
        share = self._teacher.kept_share
        return {
            "teacher": teacher_loss(output.points, taught.points, taught.conf, kept_share=share)
        }

    def renders(self, forward: nn.Module, sample: VideoSample) -> tuple[Tensor, Tensor] | None:
        """The sample's target views and what the model makes of them, each [T, 3, H, W], 0..1.

        The first context view stands in where a sample has no targets. None of a model without Gaussians.
        """
        device = next(forward.parameters()).device
        sample = sample.to(device)
        with trunk_autocast(device, self._half):
            output = forward(sample.images[None, : sample.context])
        if output.gaussians is None:
            return None
        first = sample.context if len(sample.images) > sample.context else 0
        chosen = list(range(first, len(sample.images) if first else 1))
        rendered = self._rendered(output, sample, chosen).rendered[0]
        return sample.images[chosen], rendered.clamp(0, 1)

    def _rendering(self, output: GeometryOutput, sample: VideoSample) -> dict[str, Tensor]:
        rendering = self._rendered(output, sample, self._chosen_views(sample))
        terms = {
            "photometric": rendering.photometric[0],
            "scale_penalty": rendering.scale_penalty[0],
        }
        return terms | ({"perceptual": rendering.perceptual[0]} if self._perceptual else {})

    def _rendered(
        self, output: GeometryOutput, sample: VideoSample, chosen: list[int]
    ) -> RenderingTerms:
        scale, true_scale = anchor_scales(output.points, sample.anchors, self._loss.anchor_sampling)
        views = _rendered_views(sample, chosen, true_scale)
        points, gaussians = _finite(output)
        context = sample.images[None, : sample.context]
        return rendering_loss(
            points,
            gaussians,
            context,
            scale if self._loss.trained_scale else scale.detach(),
            views,
            self._options,
            self._perceptual,
        )

    def _chosen_views(self, sample: VideoSample) -> list[int]:
        """The context views that are rendered, those that the sample's draw put first, and the targets."""
        wanted = self._loss.rendered_context
        context = sample.context if wanted is None else min(wanted, sample.context)
        return [*sample.render_order[:context], *range(sample.context, len(sample.images))]

    def _labelled(self, output: GeometryOutput, sample: LabelledSample) -> dict[str, Tensor]:
        return self._own_loss(output, sample, self._loss)

    def _tie(self, output: GeometryOutput, found: dict[str, Tensor]) -> Tensor:
        """Nothing, but it depends on what trains and the terms leave out: all, without anchors; Gaussians;
        heads whose answer the loss of this kind of sample does not look at.
        """
        parts = [] if found else [output.points]
        parts += [part for part in (output.native or {}).values() if part.requires_grad]
        if self._head_trains and output.gaussians is not None:
            parts += vars(output.gaussians).values()
        return sum((0.0 * part.sum() for part in parts), torch.zeros(()))

    def _weighted(self, terms: dict[str, Tensor]) -> Tensor:
        rendering = self._loss.rendering_weight
        weights = {
            "anchor": self._loss.anchor_weight,
            "photometric": rendering,
            "scale_penalty": rendering,
            "perceptual": rendering * self._loss.perceptual_weight,
            "labelled": self._loss.labelled_weight,
            "teacher": self._teacher.weight,
        }
        counted = {name: value for name, value in terms.items() if name not in PARTS}
        return sum((weights[name] * value for name, value in counted.items()), torch.zeros(()))


def _rendered_views(sample: VideoSample, chosen: list[int], true_scale: Tensor) -> RenderedViews:
    return RenderedViews(
        sample.images[None, chosen],
        sample.cam_from_reference[None, chosen],
        sample.intrinsics[None, chosen],
        true_scale,
    )


def _check_renderer(device: torch.device, constants: RasterConstants) -> None:
    problem = missing_backend("gsplat" if device.type == "cuda" else "cpu", constants)
    if problem:
        raise ConfigError(f"{problem}, or train without rendering: adapt.loss.rendering_weight=0")


def _item(output: GeometryOutput, item: int) -> GeometryOutput:
    one = slice(item, item + 1)
    fields: dict[str, Any] = {k: v[one] for k, v in vars(output).items() if isinstance(v, Tensor)}
    if output.gaussians is not None:
        splats = vars(output.gaussians).values()
        fields["gaussians"] = Gaussians(*(part[one] for part in splats))
    if output.native is not None:
        fields["native"] = {name: part[one] for name, part in output.native.items()}
    return replace(output, **fields)


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
