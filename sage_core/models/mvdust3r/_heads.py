"""From tokens to per-pixel points, confidence and Gaussians."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

CONF_MAX = 1e9
SKIP_GAIN = 1e-4
SCALE_GAIN = 0.1
QUATERNION_EPS = 1e-5


def _to_pixels(features: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """Token features [B, N, C·patch²] to [B, C, H, W]."""
    batch, _, channels = features.shape
    return pixel_shuffle(features.transpose(1, 2).reshape(batch, channels, *grid), patch)


class ConvUnit(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int, *, activate: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(outputs)
        self.activate = activate

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return nn.functional.selu(out) if self.activate else out


class PointHead(nn.Module):
    """Linear point head with a convolutional branch that sees the image at full resolution."""

    def __init__(self, dim: int, patch: int, skip_dim: int) -> None:
        super().__init__()
        self.patch = patch
        self.proj = nn.Linear(dim, 4 * patch * patch)
        self.skip_proj = nn.Sequential(
            ConvUnit(6, skip_dim, 3, activate=True),
            ConvUnit(skip_dim, skip_dim, 5, activate=True),
            ConvUnit(skip_dim, skip_dim, 5, activate=True),
            ConvUnit(skip_dim, 3, 3, activate=False),
        )

    def forward(self, tokens: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [B, N, D], images [B, 3, H, W] in -1..1 to points [B, H, W, 3], confidence [B, H, W]."""
        return points_and_confidence(self.raw(tokens, images))

    @property
    def gathers_statistics(self) -> bool:
        """Whether batch norm normalises by the batch at hand."""
        return any(m.training for m in self.modules() if isinstance(m, nn.BatchNorm2d))

    def raw(self, tokens: Tensor, images: Tensor) -> Tensor:
        """[B, 4, H, W]: xyz before the activation and the confidence's logit."""
        grid = (images.shape[-2] // self.patch, images.shape[-1] // self.patch)
        raw = _to_pixels(self.proj(tokens), grid, self.patch)
        xyz, logit = raw[:, :3], raw[:, 3:]
        xyz = xyz + SKIP_GAIN * self.skip_proj(torch.cat((images, xyz), dim=1))
        return torch.cat((xyz, logit), dim=1)


def points_and_confidence(raw: Tensor) -> tuple[Tensor, Tensor]:
    """DUSt3R's activations: xyz lengthened to ``expm1(|xyz|)``; ``1 + exp(logit)``, at most 1e9."""
    xyz = raw[:, :3].movedim(1, -1)
    length = torch.linalg.vector_norm(xyz, dim=-1, keepdim=True)
    points = xyz / length.clamp(min=1e-8) * torch.expm1(length)
    # The logit is clamped, not the exponential: an infinite exponential has no finite gradient.
    conf = 1 + raw[:, 3].clamp(max=math.log(CONF_MAX - 1)).exp()
    return points, conf


def _bias_free_mlp(dim: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, outputs, bias=False)
    )


class GaussianHead(nn.Module):
    """Colour, opacity, scale and rotation of one splat per pixel, from tokens alone."""

    def __init__(self, dim: int, patch: int, hidden: int, sh_degree: int) -> None:
        super().__init__()
        self.patch = patch
        area = patch * patch
        self.norm = nn.LayerNorm(dim, 1e-5)
        self.mlp_rgb = _bias_free_mlp(dim, hidden, 3 * (sh_degree + 1) ** 2 * area)
        self.mlp_opacity = _bias_free_mlp(dim, hidden, area)
        self.mlp_scale2 = _bias_free_mlp(dim, hidden, 3 * area)
        self.mlp_rotation = _bias_free_mlp(dim, hidden, 4 * area)

    def forward(
        self, tokens: Tensor, grid: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Opacity [B, H, W], scale [B, H, W, 3], rotation [B, H, W, 4], colour [B, H, W, C]."""
        tokens = self.norm(tokens)

        def per_pixel(mlp: nn.Sequential) -> Tensor:
            return _to_pixels(mlp(tokens), grid, self.patch).movedim(1, -1)

        rotation = per_pixel(self.mlp_rotation)
        length = torch.linalg.vector_norm(rotation, dim=-1, keepdim=True)
        return (
            per_pixel(self.mlp_opacity)[..., 0].sigmoid(),
            SCALE_GAIN * per_pixel(self.mlp_scale2),
            rotation / length.clamp(min=QUATERNION_EPS),
            per_pixel(self.mlp_rgb),
        )
