"""What pretraining minimises: pointmaps against their truth, and the Gaussian head by rendering."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sage_core.geometry import batched
from sage_core.losses import (
    RenderedViews,
    RenderingOptions,
    mean_distance,
    normalised_errors,
    rendering_loss,
)
from sage_core.models import Gaussians, MVDust3r
from sage_core.world.rooms import RoomBatch


def true_points(batch: RoomBatch) -> Tensor:
    """Pointmaps in view 0's frame, float32 [B, V, H, W, 3], metres."""
    pose = batched.relative(batch.cam_from_world, batch.cam_from_world[:, :1])
    return batched.pointmap(batch.depth.double(), batch.intrinsics, batched.invert(pose)).float()


def everywhere(points: Tensor) -> Tensor:
    """The mask of pointmaps that have a point in every pixel, as rooms' do."""
    return torch.ones(points.shape[:-1], dtype=torch.bool, device=points.device)


def normalised(points: Tensor) -> Tensor:
    """Pointmaps at mean distance 1 from the reference camera."""
    return points / mean_distance(points, everywhere(points)).view(-1, 1, 1, 1, 1)


def mean_error(points: Tensor, truth: Tensor) -> float:
    """Mean distance of the normalised pointmaps."""
    return float(normalised_errors(points, truth, everywhere(truth)).mean())


class _NoSkip(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return torch.zeros_like(features[:, :3])


@contextmanager
def without_skip(model: MVDust3r) -> Iterator[None]:
    """Leave out the point heads' convolutional branch: zero at its start, yet 40 % of the time."""
    heads = (model.downstream_head1, model.downstream_head2)
    kept = [head.skip_proj for head in heads]
    for head in heads:
        head.skip_proj = _NoSkip()  # type: ignore[assignment]
    try:
        yield
    finally:
        for head, branch in zip(heads, kept, strict=True):
            head.skip_proj = branch


def predict_points(model: MVDust3r, images: Tensor) -> tuple[Tensor, Tensor]:
    """Points and confidence without the Gaussians, which this phase does not need."""
    return points_of(model, tokens_of(model, images), 2 * images - 1)


def tokens_of(model: MVDust3r, images: Tensor) -> Tensor:
    """The trunk's answer [B, V, N, D] for images in 0..1."""
    grid = (images.shape[-2] // model.patch_size, images.shape[-1] // model.patch_size)
    return model.decode(model.encode(2 * images - 1), 1, grid)


def points_of(model: MVDust3r, tokens: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The point heads' answer; images in -1..1."""
    first = model.downstream_head1(tokens[:, 0], images[:, 0])
    rest = model.downstream_head2(tokens[:, 1:].flatten(0, 1), images[:, 1:].flatten(0, 1))
    shape = (len(images), images.shape[1] - 1)
    points, conf = (
        torch.cat((a[:, None], b.unflatten(0, shape)), dim=1)
        for a, b in zip(first, rest, strict=True)
    )
    return points, conf


def as_input(images: Tensor) -> Tensor:
    """uint8 [B, V, H, W, 3] to float [B, V, 3, H, W] in 0..1."""
    return images.permute(0, 1, 4, 2, 3).float() / 255


def jittered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each view with its own exposure, contrast and white balance."""
    shape = (*images.shape[:2], 5, 1, 1)
    drawn = (torch.rand(shape, generator=generator) - 0.5).to(images.device)
    gain, contrast, balance = (
        1 + 0.5 * drawn[:, :, :1],
        1 + 0.4 * drawn[:, :, 1:2],
        1 + 0.2 * drawn[:, :, 2:],
    )
    middle = images.mean(dim=(2, 3, 4), keepdim=True)
    return (((images - middle) * contrast + middle) * gain * balance).clamp(0, 1)


def splat_loss(model: MVDust3r, batch: RoomBatch) -> tuple[Tensor, float]:
    """Rendering loss of the Gaussian head alone, and the PSNR (dB) of the target views.

    All views but the last are the model's; the first and the last are rendered, with true cameras brought to
    the scale of the prediction. Trunk and pointmaps are given and get no gradient.
    """
    images, truth = as_input(batch.images), true_points(batch)
    context = images[:, :-1]
    with torch.no_grad():
        tokens = tokens_of(model, context)
        points, _ = points_of(model, tokens, 2 * context - 1)
    pose = batched.relative(batch.cam_from_world, batch.cam_from_world[:, :1])
    seen, shown = truth[:, :-1], [0, -1]
    views = RenderedViews(
        images[:, shown],
        pose.float()[:, shown],
        batch.intrinsics.float()[:, shown],
        mean_distance(seen, everywhere(seen)),
    )
    terms = rendering_loss(
        points,
        gaussians_of(model, tokens, context),
        context,
        mean_distance(points, everywhere(points)),
        views,
        RenderingOptions(gradient="all"),
    )
    error = (terms.rendered[:, -1].detach().clamp(0, 1) - images[:, -1]).square().mean()
    return terms.total(0.0).mean(), -10 * math.log10(float(error))


def gaussians_of(model: MVDust3r, tokens: Tensor, images: Tensor) -> Gaussians:
    """What the Gaussian head makes of the tokens, with gradient."""
    grid = (images.shape[-2] // model.patch_size, images.shape[-1] // model.patch_size)
    first = model.downstream_GS_head[0](tokens[:, 0], grid)
    rest = model.downstream_GS_head[1](tokens[:, 1:].flatten(0, 1), grid)
    shape = (len(tokens), -1)
    opacity, scale, rotation, colour = (
        torch.cat((a[:, None], b.unflatten(0, shape)), dim=1)
        for a, b in zip(first, rest, strict=True)
    )
    return Gaussians(opacity, scale, rotation, colour)
