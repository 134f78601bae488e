"""The loss of a sample: anchors and rendering for mined video, the model's own loss for labelled views."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sage_core.config.adapt import AdaptConfig
from sage_core.losses import anchor_loss, reprojection_loss, teacher_loss
from sage_core.models import Gaussians, GeometryOutput
from sage_core.training.precision import half, trunk_autocast
from sage_core.training.rendering import SampleRendering
from sage_core.training.samples import LabelledSample, VideoSample
from sage_core.training.supervision import PARTS, Supervision, by_pointmaps

TERMS = (
    "anchor",
    "reprojection",
    "photometric",
    "scale_penalty",
    "perceptual",
    "labelled",
    "labelled_rendering",
    "teacher",
    "total",
    *PARTS,
)
Terms = dict[str, Tensor]


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
        self._rendering = SampleRendering(adapt, device)
        self._head_trains = not adapt.gaussian_head_frozen

    def __call__(
        self, forward: nn.Module, samples: Sequence[VideoSample | LabelledSample]
    ) -> tuple[Tensor, list[dict[str, float]]]:
        device = next(forward.parameters()).device
        samples = [sample.to(device) for sample in samples]
        images = torch.stack([sample.images[: sample.context] for sample in samples])
        with trunk_autocast(device, self._half):
            references = self._loss.references
            output = forward(images) if references == 1 else forward(images, references=references)
        losses, terms = [], []
        for item, sample in enumerate(samples):
            one = _rows(output, item * references, references)
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

    def _video(self, output: GeometryOutput, sample: VideoSample) -> Terms:
        """Each term's mean over the references, in whose frames the rows of the output are."""
        found: dict[str, list[Tensor]] = {}
        for row in range(self._loss.references):
            terms = self._seen_from(_rows(output, row), sample.seen_from(row))
            for name, value in terms.items():
                found.setdefault(name, []).append(value)
        return {name: torch.stack(values).mean() for name, values in found.items()}

    def _seen_from(self, output: GeometryOutput, sample: VideoSample) -> Terms:
        terms = self._consistency(output, sample)
        if not sample.anchors.weight.any():
            return terms
        if self._loss.anchor_weight:
            terms["anchor"] = self._anchors(output, sample)
        if self._loss.reprojection_weight:
            terms["reprojection"] = self._reprojection(output, sample)
        return {**terms, **self._renderings(output, sample)} if self._renders else terms

    def _anchors(self, output: GeometryOutput, sample: VideoSample) -> Tensor:
        return anchor_loss(
            output.points,
            output.conf,
            sample.anchors,
            conf_kind=output.conf_kind,
            alpha=self._loss.alpha,
            sampling=self._loss.anchor_sampling,
            reduction=self._loss.anchor_reduction,
            trained_scale=self._loss.trained_scale,
            kernel=self._loss.robust,
            kernel_scale=self._loss.robust_scale,
        )[0]

    def _reprojection(self, output: GeometryOutput, sample: VideoSample) -> Tensor:
        return reprojection_loss(
            output.points,
            sample.anchors,
            sample.cam_from_reference[None, : sample.context],
            into=self._loss.reprojection_into,
            clip=self._loss.reprojection_clip,
            sampling=self._loss.anchor_sampling,
            trained_scale=self._loss.trained_scale,
        )[0]

    def _consistency(self, output: GeometryOutput, sample: VideoSample) -> Terms:
        taught = sample.taught
        if taught is None:
            return {}
        share = self._teacher.kept_share
        return {
            "teacher": teacher_loss(output.points, taught.points, taught.conf, kept_share=share)
        }

    @property
    def can_render(self) -> bool:
        """Whether this machine has a rasteriser for the run's device and constants."""
        return self._rendering.problem is None

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
        rendered = self._rendering.of_video(output, sample, chosen).rendered[0]
        return sample.images[chosen], rendered.clamp(0, 1)

    def _renderings(self, output: GeometryOutput, sample: VideoSample) -> Terms:
        chosen = self._rendering.chosen_views(sample)
        rendering = self._rendering.of_video(output, sample, chosen)
        terms = {
            "photometric": rendering.photometric[0],
            "scale_penalty": rendering.scale_penalty[0],
        }
        found = self._rendering.perceptual is not None
        return terms | ({"perceptual": rendering.perceptual[0]} if found else {})

    def _labelled(self, output: GeometryOutput, sample: LabelledSample) -> Terms:
        terms = self._own_loss(output, sample, self._loss)
        if self._loss.labelled_rendering and self._renders:
            terms["labelled_rendering"] = self._rendering.of_labelled(output, sample)
        return terms

    def _tie(self, output: GeometryOutput, found: Terms) -> Tensor:
        """Nothing, but it depends on what trains and the terms leave out: all, without anchors; Gaussians;
        heads whose answer the loss of this kind of sample does not look at.
        """
        parts = [] if found else [output.points]
        parts += [part for part in (output.native or {}).values() if part.requires_grad]
        if self._head_trains and output.gaussians is not None:
            parts += vars(output.gaussians).values()
        return sum((0.0 * part.sum() for part in parts), torch.zeros(()))

    def _weighted(self, terms: Terms) -> Tensor:
        rendering = self._loss.rendering_weight
        weights = {
            "anchor": self._loss.anchor_weight,
            "reprojection": self._loss.reprojection_weight,
            "photometric": rendering,
            "scale_penalty": rendering,
            "perceptual": rendering * self._loss.perceptual_weight,
            "labelled": self._loss.labelled_weight,
            "labelled_rendering": rendering * self._loss.labelled_weight,
            "teacher": self._teacher.weight,
        }
        counted = {name: value for name, value in terms.items() if name not in PARTS}
        return sum((weights[name] * value for name, value in counted.items()), torch.zeros(()))


def _rows(output: GeometryOutput, first: int, count: int = 1) -> GeometryOutput:
    one = slice(first, first + count)
    fields: dict[str, Any] = {k: v[one] for k, v in vars(output).items() if isinstance(v, Tensor)}
    if output.gaussians is not None:
        splats = vars(output.gaussians).values()
        fields["gaussians"] = Gaussians(*(part[one] for part in splats))
    if output.native is not None:
        fields["native"] = {name: part[one] for name, part in output.native.items()}
    return replace(output, **fields)
