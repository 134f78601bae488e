"""What all adapters share: the foreign network as a part, its groups by prefix, poses turned round."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import ClassVar

import torch
from torch import Tensor, nn

from sage_core.errors import ConfigError
from sage_core.geometry import batched
from sage_core.models.interface import GeometricModel


class AdaptedModel(GeometricModel):
    """Base of the adapters.

    The foreign network is :attr:`network`; weights files have its own names, without that prefix.
    """

    network: nn.Module
    groups: ClassVar[dict[str, str]]
    """Group by the first part of a tensor's name within the network."""

    def group_of(self, name: str) -> str:
        first = name.removeprefix("network").removeprefix(".").partition(".")[0]
        return self.groups.get(first, "other") if first else "network"

    def _never_train(self, groups: frozenset[str]) -> None:
        """Parameters of these groups take no part, and are trained by no setting."""
        named = [(name, p) for name, p in self.named_parameters() if self.group_of(name) in groups]
        self._never_trained = frozenset(name for name, _ in named)
        for _, parameter in named:
            parameter.requires_grad_(False)


def installed(module: str, how: str) -> ModuleType:
    """A module of the user's own installation.

    Args:
        how: where to get it, and under which licence, for the message.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or module
        raise ConfigError(
            f"{module} cannot be imported (no module {missing}): {how}, into the environment of SAGE"
        ) from error


def in_first_camera(world_from_cam: Tensor) -> Tensor:
    """Poses [B, V, 3 or 4, 4] in any world as ``cam0_from_cam`` [B, V, 3, 4]: the first is the identity."""
    poses = world_from_cam[..., :3, :].float()
    return batched.compose(batched.invert(poses[:, :1]), poses)


def moved(a_from_cam: Tensor, points: Tensor) -> Tensor:
    """Points [B, V, H, W, 3] of each view's camera in frame a; poses [B, V, 3, 4]."""
    return batched.transform(a_from_cam, points.flatten(2, 3)).view_as(points)


def full_precision(images: Tensor) -> torch.autocast:
    """No autocast for what follows: geometry is float32."""
    return torch.autocast(images.device.type, enabled=False)
