"""Low-rank adapters on linear layers (Hu et al. 2021, LoRA): W x + (alpha / rank) · B (A x).

An adapted layer keeps the name, and so the keys, of the layer that it takes the place of, and adds
``lora_a`` and ``lora_b``. :func:`merge_lora` adds the update to the weight and gives plain layers back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from zlib import crc32

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from sage_core.config.training import LoraConfig
from sage_core.errors import ConfigError
from sage_core.models.interface import GeometricModel


class LoraLinear(nn.Linear):
    """A linear layer whose own weight is frozen and to which a low-rank update is learned."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        """Take over the parameters of ``base``; the update begins as zero (A is random, B is 0)."""
        bias = base.bias is not None
        super().__init__(base.in_features, base.out_features, bias, device="meta")
        self.weight, self.bias = base.weight, base.bias
        self.gain = alpha / rank
        self.lora_a = nn.Parameter(self.weight.new_zeros(rank, base.in_features))
        self.lora_b = nn.Parameter(self.weight.new_zeros(base.out_features, rank))
        self.train(base.training)

    def forward(self, input: Tensor) -> Tensor:
        update = linear(linear(input, self.lora_a), self.lora_b)
        return super().forward(input) + self.gain * update

    def merged(self) -> nn.Linear:
        """The plain layer with the update in its weight, summed in float64."""
        plain = nn.Linear(self.in_features, self.out_features, self.bias is not None, device="meta")
        update = self.gain * (self.lora_b.double() @ self.lora_a.double())
        merged = (self.weight.double() + update).to(self.weight.dtype).detach()
        plain.weight, plain.bias = nn.Parameter(merged), self.bias
        return plain.train(self.training)


def add_lora(model: GeometricModel, adapters: Mapping[str, LoraConfig], seed: int) -> None:
    """Put adapters on linear layers and freeze what they adapt.

    Args:
        model: changed in place.
        adapters: by parameter group, all of which is frozen, or by pattern over module names, of which
            the matching layers are frozen. A layer gets the adapter of the most specific entry.
        seed: of the random matrices A, with each layer's name.

    Raises:
        ConfigError: an entry that fits no linear layer, or only frozen ones.
    """
    for entry in model.most_specific_first(adapters):
        layers = _layers(model, entry, adapters[entry])
        for _, parameter in model.parameter_groups().get(entry, []):
            parameter.requires_grad_(False)
        for name, layer in layers.items():
            layer.requires_grad_(False)
            adapted = LoraLinear(layer, adapters[entry].rank, adapters[entry].alpha)
            _initialise(adapted, name, seed)
            _replace(model, name, adapted)
    for module in model.modules():
        if isinstance(module, LoraLinear):
            module.lora_a.requires_grad_(True)
            module.lora_b.requires_grad_(True)


def merge_lora(model: nn.Module) -> None:
    """Turn every adapted layer into a plain one that gives the same, in place."""
    adapted = {n: m for n, m in model.named_modules() if isinstance(m, LoraLinear)}
    for name, layer in adapted.items():
        _replace(model, name, layer.merged())


def _layers(model: GeometricModel, entry: str, adapter: LoraConfig) -> dict[str, nn.Linear]:
    """The linear layers, exactly of that class since others may not call their ``forward``."""
    layers = {
        name: module
        for name, module in model.named_modules()
        if type(module) is nn.Linear
        and model.selects(entry, name)
        and any(fnmatchcase(name, target) for target in adapter.targets)
    }
    if not layers:
        raise ConfigError(
            f"adapt.lora.{entry} with targets {', '.join(adapter.targets)} fits no linear layer that has no "
            f"adapter yet: this model's groups are {', '.join(model.parameter_groups())}"
        )
    frozen = [name for name, layer in layers.items() if not layer.weight.requires_grad]
    if frozen:
        raise ConfigError(
            f"adapt.lora.{entry} adapts {frozen[0]}, which adapt.frozen freezes: take it out of one of them"
        )
    return layers


def _initialise(layer: LoraLinear, name: str, seed: int) -> None:
    """A as torch initialises a linear layer's weight; B stays 0, so that nothing changes at first."""
    if layer.lora_a.is_meta:
        return
    generator = torch.Generator().manual_seed(crc32(f"{seed}:{name}".encode()))
    a = torch.empty(layer.lora_a.shape)
    nn.init.kaiming_uniform_(a, a=math.sqrt(5), generator=generator)
    with torch.no_grad():
        layer.lora_a.copy_(a)


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)
