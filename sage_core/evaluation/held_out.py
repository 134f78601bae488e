"""Measures that need no labels: held-out clips, their sparse points and their images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sage_core.config.sampling import SamplingConfig
from sage_core.errors import SageError
from sage_core.evaluation.metrics import psnr, ssim
from sage_core.losses import (
    Perceptual,
    RenderedViews,
    RenderingOptions,
    anchor_scales,
    rendering_loss,
    sample_at,
)
from sage_core.models import GeometricModel, GeometryOutput
from sage_core.shards import ShardReader, can_draw, draw_trajectory
from sage_core.training.samples import VideoSample, video_sample
from sage_core.types import Reason

_STREAM = 31


@dataclass(frozen=True)
class HeldOutPart:
    """A shard and the clips of it that training never saw."""

    path: str
    clips: tuple[str, ...]


def held_out_samples(
    parts: list[HeldOutPart], sampling: SamplingConfig, count: int, size: int, seed: int
) -> list[VideoSample]:
    """Trajectories with targets, the clips taking turns; the same for the same seed.

    Raises:
        SageError: no clip yields a trajectory.
    """
    readers = [ShardReader([part.path]) for part in parts]
    clips = [
        (reader, clip)
        for reader, part in zip(readers, parts, strict=True)
        for clip in map(reader.clip, part.clips)
        if can_draw(clip, sampling)
    ]
    if not clips:
        raise SageError(
            f"none of the held-out clips yields {sampling.n_context} + {sampling.n_targets} views: lower "
            "adapt.sampling.interval_frames or n_context, or hold out longer clips",
            reason=Reason.NO_TRAJECTORY,
        )
    samples = []
    for index in range(count):
        reader, clip = clips[index % len(clips)]
        rng = np.random.default_rng([seed, _STREAM, index])
        drawn = draw_trajectory(clip, sampling, rng)
        samples.append(video_sample(reader.frames(clip, drawn.rows), len(drawn.context), size))
    return samples


@dataclass(frozen=True)
class Rendering:
    """How targets are rendered and compared: the rasteriser's constants, and LPIPS if it is wanted."""

    options: RenderingOptions = field(default_factory=RenderingOptions)
    perceptual: Perceptual | None = None
    network: str = "none"


@torch.no_grad()
def score_sample(
    model: GeometricModel,
    sample: VideoSample,
    rendering: Rendering = Rendering(),
) -> tuple[dict[str, float], Tensor]:
    """Figures of one trajectory by name, and the rendered targets [T, 3, H, W].

    The anchor error is the mean distance between predicted and reconstructed points at the anchors, both
    divided by their own mean distance. ``target_psnr`` (dB), ``target_ssim`` and, where its weights are
    given, ``target_lpips_NETWORK`` compare the predicted Gaussians, rendered from the targets' cameras,
    with the targets' images. A trajectory without anchors, or a model without Gaussians, has no such figure.
    """
    sample = sample.to(model.device)
    output = model(sample.images[None, : sample.context])
    if not sample.anchors.weight.any():
        return {}, sample.images[:0]
    scale, true_scale = anchor_scales(output.points, sample.anchors)
    figures = {"anchor_error": _anchor_error(output, sample, scale, true_scale)}
    rendered = _targets(output, sample, scale, true_scale, rendering.options)
    if len(rendered):
        figures |= _likeness(rendered, sample.images[sample.context :], rendering)
    return figures, rendered


def _likeness(rendered: Tensor, images: Tensor, rendering: Rendering) -> dict[str, float]:
    """Means over the targets [T, 3, H, W]."""
    pairs = list(zip(image_arrays(rendered), image_arrays(images), strict=True))
    figures = {
        "target_psnr": float(np.mean([psnr(a, b) for a, b in pairs])),
        "target_ssim": float(np.mean([ssim(a, b) for a, b in pairs])),
    }
    if rendering.perceptual is not None:
        distance = rendering.perceptual(rendered, images)
        figures[f"target_lpips_{rendering.network}"] = float(distance.mean())
    return figures


def image_arrays(images: Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Images [N, 3, H, W] as arrays [N, H, W, 3]."""
    return np.asarray(images.permute(0, 2, 3, 1).cpu())


def _anchor_error(
    output: GeometryOutput, sample: VideoSample, scale: Tensor, true_scale: Tensor
) -> float:
    anchors = sample.anchors
    inside = anchors.inside(*output.points.shape[2:4])
    seen = sample_at(output.points, anchors.xy)
    difference = seen / scale.view(-1, 1, 1, 1) - anchors.points / true_scale.view(-1, 1, 1, 1)
    return float(torch.linalg.vector_norm(difference, dim=-1)[inside].mean())


def _targets(
    output: GeometryOutput,
    sample: VideoSample,
    scale: Tensor,
    true_scale: Tensor,
    options: RenderingOptions,
) -> Tensor:
    context = sample.context
    if output.gaussians is None or len(sample.images) == context:
        return sample.images[:0]
    views = RenderedViews(
        sample.images[None, context:],
        sample.cam_from_reference[None, context:],
        sample.intrinsics[None, context:],
        true_scale,
    )
    images = sample.images[None, :context]
    terms = rendering_loss(output.points, output.gaussians, images, scale, views, options)
    return terms.rendered[0].clamp(0, 1)
