"""LPIPS (Zhang et al. 2018), version 0.1, from weight files that the user supplies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate

from sage_core.errors import CheckpointError, ConfigError

PerceptualNetwork = Literal["vgg", "alex"]

_SHIFT = (-0.030, -0.088, -0.188)
_SCALE = (0.458, 0.448, 0.450)
_EPS = 1e-10
COMPARED_SIDE = 224
"""Images are resized to this before they are compared, as in MV-DUSt3R's training."""


@dataclass(frozen=True)
class _Architecture:
    backbone: str
    """Name of torchvision's weights file, without what follows it."""
    stages: tuple[tuple[tuple[int, int, int, int, int, int], ...], ...]
    """Per tap its convolutions: index in torchvision's ``features``, in, out, kernel, stride, padding."""
    pool: tuple[int, int]
    """Kernel and stride of the maximum before every stage but the first."""
    pooled: tuple[bool, ...]


def _vgg(index: int, inputs: int, outputs: int) -> tuple[int, int, int, int, int, int]:
    return index, inputs, outputs, 3, 1, 1


_ARCHITECTURES: dict[str, _Architecture] = {
    "vgg": _Architecture(
        "vgg16",
        (
            (_vgg(0, 3, 64), _vgg(2, 64, 64)),
            (_vgg(5, 64, 128), _vgg(7, 128, 128)),
            (_vgg(10, 128, 256), _vgg(12, 256, 256), _vgg(14, 256, 256)),
            (_vgg(17, 256, 512), _vgg(19, 512, 512), _vgg(21, 512, 512)),
            (_vgg(24, 512, 512), _vgg(26, 512, 512), _vgg(28, 512, 512)),
        ),
        (2, 2),
        (False, True, True, True, True),
    ),
    "alex": _Architecture(
        "alexnet",
        (
            ((0, 3, 64, 11, 4, 2),),
            ((3, 64, 192, 5, 1, 2),),
            ((6, 192, 384, 3, 1, 1),),
            ((8, 384, 256, 3, 1, 1),),
            ((10, 256, 256, 3, 1, 1),),
        ),
        (3, 2),
        (False, True, True, False, False),
    ),
}


class Perceptual(nn.Module):
    """LPIPS distance; frozen, both images resized to ``side`` pixels."""

    shift: Tensor
    scale: Tensor

    def __init__(self, network: PerceptualNetwork, side: int = COMPARED_SIDE) -> None:
        super().__init__()
        self.side = side
        self.architecture = _ARCHITECTURES[network]
        self.convolutions = nn.ModuleDict(
            {
                str(index): nn.Conv2d(inputs, outputs, kernel, stride, padding)
                for stage in self.architecture.stages
                for index, inputs, outputs, kernel, stride, padding in stage
            }
        )
        for tap, stage in enumerate(self.architecture.stages):
            self.register_buffer(f"weight{tap}", torch.ones(1, stage[-1][2], 1, 1))
        self.register_buffer("shift", torch.tensor(_SHIFT).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(_SCALE).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Never: it is a yardstick."""
        return super().train(False)

    def forward(self, rendered: Tensor, images: Tensor) -> Tensor:
        """Distance [M] of images [M, 3, H, W] in 0..1; gradients go to ``rendered`` alone."""
        with torch.no_grad():
            wanted = self._features(images)
        distance = rendered.new_zeros(len(rendered))
        for tap, (a, b) in enumerate(zip(self._features(rendered), wanted, strict=True)):
            weight: Tensor = getattr(self, f"weight{tap}")
            distance = distance + conv2d((a - b).square(), weight).mean((1, 2, 3))
        return distance

    def _features(self, images: Tensor) -> list[Tensor]:
        x = interpolate(
            2 * images - 1, (self.side, self.side), mode="bilinear", align_corners=False
        )
        x = (x - self.shift) / self.scale
        taps = []
        for stage, pooled in zip(self.architecture.stages, self.architecture.pooled, strict=True):
            if pooled:
                x = nn.functional.max_pool2d(x, *self.architecture.pool)
            for index, *_ in stage:
                x = self.convolutions[str(index)](x).relu()
            # The root's gradient is infinite where all channels are 0, hence the term inside it.
            taps.append(x / (x.square().sum(1, keepdim=True) + _EPS).sqrt())
        return taps


def load_perceptual(
    network: Literal["none", "vgg", "alex"],
    folder: str | Path | None,
    side: int = COMPARED_SIDE,
    setting: str = "adapt.loss.perceptual",
) -> Perceptual | None:
    """The perceptual distance, or None for ``none``.

    Args:
        network: which one; MV-DUSt3R trains and evaluates with ``alex``.
        folder: holds torchvision's ``vgg16*.pth`` or ``alexnet*.pth`` and LPIPS's ``vgg.pth`` or
            ``alex.pth`` (version 0.1).
        setting: what asks for the network, for messages; ``_weights`` after it names the folder.

    Raises:
        ConfigError: a network is asked for without the folder, or its files are not there.
        CheckpointError: files that do not fit.
    """
    if network == "none":
        return None
    if folder is None:
        raise ConfigError(
            f"{setting} is {network!r} but no weights are given. SAGE ships none: set "
            f"{setting}_weights to a folder with torchvision's {_ARCHITECTURES[network].backbone} weights "
            f"and LPIPS's {network}.pth, or switch it off with {setting}=none"
        )
    model = Perceptual(network, side)
    backbone = _read(_find(Path(folder), f"{model.architecture.backbone}*.pth", setting))
    for index, convolution in model.convolutions.items():
        for kind, parameter in convolution.named_parameters():
            _copy(parameter, backbone, f"features.{index}.{kind}")
    linear = _read(_find(Path(folder), f"{network}.pth", setting))
    for tap in range(len(model.architecture.stages)):
        # The published layers stand behind a dropout; without one the number is 0.
        names = (f"lin{tap}.model.{place}.weight" for place in (1, 0))
        name = next((name for name in names if name in linear), f"lin{tap}.model.1.weight")
        _copy(getattr(model, f"weight{tap}"), linear, name)
    return model


def _find(folder: Path, pattern: str, setting: str) -> Path:
    found = sorted(folder.glob(pattern))
    if not found:
        raise ConfigError(
            f"no {pattern} in {folder}, which {setting}_weights names: put it there, or set {setting}=none"
        )
    return found[0]


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises nearly anything
        raise CheckpointError(f"{path} is no readable weights file: {error}") from error
    if not isinstance(tensors, Mapping):
        raise CheckpointError(f"{path} holds no state dict")
    return tensors


def _copy(target: Tensor, tensors: Mapping[str, Tensor], name: str) -> None:
    tensor = tensors.get(name)
    if not isinstance(tensor, Tensor) or tensor.shape != target.shape:
        found = f"it has {list(tensor.shape)}" if isinstance(tensor, Tensor) else "it is missing"
        raise CheckpointError(
            f"perceptual weights: {name} must be {list(target.shape)}, but {found}"
        )
    with torch.no_grad():
        target.copy_(tensor)
