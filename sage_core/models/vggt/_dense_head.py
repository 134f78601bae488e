"""From tokens of four depths to a map at the image's size: DPT (Ranftl et al. 2021), as VGGT has it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from sage_core.models.vggt._blocks import NORM_EPS
from sage_core.models.vggt._config import VGGTConfig

POSITION_GAIN = 0.1
POSITION_BASE = 100.0
OUTPUT_WIDTH = 32


class DenseHead(nn.Module):
    """``outputs`` numbers a pixel and the logarithm of its confidence's excess over 1."""

    def __init__(self, c: VGGTConfig, outputs: int) -> None:
        super().__init__()
        dim, widths = 2 * c.embed_dim, c.dpt_out_channels
        self.patch_size = c.patch_size
        self.norm = nn.LayerNorm(dim, NORM_EPS)
        self.projects = nn.ModuleList(nn.Conv2d(dim, width, 1) for width in widths)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(widths[0], widths[0], 4, 4),
                nn.ConvTranspose2d(widths[1], widths[1], 2, 2),
                nn.Identity(),
                nn.Conv2d(widths[3], widths[3], 3, 2, 1),
            ]
        )
        self.scratch = Fusion(widths, c.dpt_features, outputs + 1)

    def forward(self, patches: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        """Patch tokens [F, h·w, 2C] of four layers to raw maps [F, outputs + 1, H, W], frame by frame."""
        rows, columns = (side // self.patch_size for side in size)
        maps = []
        for tokens, project, resize in zip(patches, self.projects, self.resize_layers, strict=True):
            grid = self.norm(tokens).transpose(1, 2).unflatten(2, (rows, columns))
            maps.append(resize(add_positions(project(grid), size)))
        out: Tensor = self.scratch(maps, size)
        return out


class Fusion(nn.Module):
    """Four maps, coarse to fine, into one."""

    def __init__(self, widths: Sequence[int], features: int, outputs: int) -> None:
        super().__init__()
        self.layer1_rn, self.layer2_rn, self.layer3_rn, self.layer4_rn = (
            nn.Conv2d(width, features, 3, padding=1, bias=False) for width in widths
        )
        self.refinenet1, self.refinenet2, self.refinenet3 = (
            FusionBlock(features, merges=True) for _ in range(3)
        )
        self.refinenet4 = FusionBlock(features, merges=False)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, OUTPUT_WIDTH, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(OUTPUT_WIDTH, outputs, 1),
        )

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> Tensor:
        finest = self.layer1_rn(maps[0])
        second, third = self.layer2_rn(maps[1]), self.layer3_rn(maps[2])
        x = self.refinenet4(self.layer4_rn(maps[3]), third.shape[-2:])
        x = self.refinenet3(x, second.shape[-2:], third)
        x = self.refinenet2(x, finest.shape[-2:], second)
        x = self.refinenet1(x, (2 * finest.shape[-2], 2 * finest.shape[-1]), finest)
        x = add_positions(stretched(self.output_conv1(x), size), size)
        out: Tensor = self.output_conv2(x)
        return out


class FusionBlock(nn.Module):
    def __init__(self, features: int, *, merges: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        if merges:
            self.resConfUnit1 = ResidualUnit(features)
        self.resConfUnit2 = ResidualUnit(features)

    def forward(self, x: Tensor, size: tuple[int, int], finer: Tensor | None = None) -> Tensor:
        """The map so far, with a finer one merged in where there is one, at ``size``."""
        if finer is not None:
            x = x + self.resConfUnit1(finer)
        # The 1x1 convolution and the resize commute; after it is where the published network has it.
        out: Tensor = self.out_conv(stretched(self.resConfUnit2(x), size))
        return out


class ResidualUnit(nn.Module):
    """Two convolutions past which the *activated* input is carried.

    The published network was trained with an activation that overwrote its input, so that the skip
    carries what is left of it after the rectifier.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = relu(x)
        out: Tensor = x + self.conv2(relu(self.conv1(x)))
        return out


def stretched(x: Tensor, size: tuple[int, int]) -> Tensor:
    return interpolate(x, size, mode="bilinear", align_corners=True)


def add_positions(x: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Add a tenth of the pixels' coded positions to maps [F, k, rows, columns].

    The first half of the channels codes the column, the second the row, each as sines and cosines.
    Positions run over the image's shape, its diagonal being 2, whatever the shape of the map.
    """
    half, (rows, columns) = x.shape[1] // 2, x.shape[-2:]
    diagonal = math.hypot(*image_size)
    across = _coded(columns, image_size[1] / diagonal, half, x)[:, None, :]
    down = _coded(rows, image_size[0] / diagonal, half, x)[:, :, None]
    return torch.cat((x[:, :half] + across, x[:, half:] + down), dim=1)


def _coded(count: int, span: float, channels: int, like: Tensor) -> Tensor:
    """[channels, count]: sines, then cosines, of ``count`` cell centres within -span..span."""
    edge = span * (count - 1) / count
    positions = torch.linspace(-edge, edge, count, dtype=torch.float64, device=like.device)
    steps = torch.arange(channels // 2, dtype=torch.float64, device=like.device) / (channels // 2)
    angles = positions * POSITION_BASE ** -steps[:, None]
    return POSITION_GAIN * torch.cat((angles.sin(), angles.cos())).to(like.dtype)
