"""From base weights to the model that trains: what is frozen, adapted, checkpointed, compiled, sharded."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from sage_core.config.adapt import AdaptConfig
from sage_core.config.training import GAUSSIAN_HEAD
from sage_core.errors import ConfigError
from sage_core.geometry import SizeRule
from sage_core.models import GeometricModel, MVDust3r
from sage_core.models.lora import add_lora, merge_lora
from sage_core.training.compiling import compile_blocks
from sage_core.training.cost import pass_flops
from sage_core.training.optimisation import TrainedGroup
from sage_core.training.parallel import shard
from sage_core.training.ranks import Ranks


@dataclass(frozen=True)
class Prepared:
    """A model that is ready to train.

    Attributes:
        model: on its device, in training mode; with ``adapt.parallel=fully_shard`` this rank's share of it.
        shell: the same model without any values (on the device ``meta``), whole, for what needs its form.
        groups: the parameters that train.
        image_px: side of the images that it is given, where they are square.
        size_rule: their size, for a picture of any.
    """

    model: GeometricModel
    shell: GeometricModel
    groups: list[TrainedGroup]
    image_px: int
    size_rule: SizeRule

    def flops(self, adapt: AdaptConfig) -> Callable[[int], float | None]:
        """Context views (0: as set) → the model's operations on one square sample, forward and backward.

        None of a network of the user's own that cannot be counted.
        """
        side = self.image_px

        @cache
        def counted(views: int) -> float | None:
            shape = (1, views or adapt.sampling.n_context, side, side)
            return pass_flops(self.shell, shape, adapt.loss.references)

        return counted


def prepared(model: GeometricModel, adapt: AdaptConfig, ranks: Ranks, seed: int) -> Prepared:
    """A base model as the settings want it trained.

    Raises:
        ConfigError: a group that the model does not have, nothing left to train, a size that is no multiple
            of its patch.
    """
    model = adapted(model, adapt, seed).to(ranks.device)
    size = image_size(adapt, model)
    shell = without_values(model)
    if adapt.compile:
        compile_blocks(model, dynamic=adapt.views.varies)
    if adapt.parallel == "fully_shard":
        shard(model, ranks)
    groups = trained_groups(model, adapt.lr_factors)
    return Prepared(model, shell, groups, size, size_rule(adapt, model, size))


def adapted(model: GeometricModel, adapt: AdaptConfig, seed: int) -> GeometricModel:
    """The model with frozen what stays as it is and adapters where asked for, in training mode.

    Raises:
        ConfigError: a group that the model does not have, or several references where it is not MV-DUSt3R+.
    """
    if adapt.loss.references > 1 and not _exchanges(model):
        raise ConfigError(
            f"adapt.loss.references={adapt.loss.references}, but this model has no paths that exchange, only "
            "MV-DUSt3R+ has: set it to 1, or adapt.base to weights of MV-DUSt3R+ (mvdust3r_plus)"
        )
    model.freeze(frozen_entries(adapt, model), batchnorm=adapt.batchnorm_frozen)
    add_lora(model, adapt.lora, seed)
    names = [name for name, _ in model.named_parameters()]
    for entry in adapt.lr_factors:
        if not any(model.selects(entry, name) for name in names):
            raise ConfigError(
                f"adapt.lr_factors names {entry}: this model's groups are "
                f"{', '.join(model.parameter_groups())}, and no parameter's name matches"
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            "every parameter is frozen, so there is nothing to train: take a group out of adapt.frozen"
        )
    model.checkpointing = adapt.checkpoint_activations
    return model.train()


def frozen_entries(adapt: AdaptConfig, model: GeometricModel) -> tuple[str, ...]:
    """What keeps its weights: as set, or the Gaussian head where the model has one of its own."""
    if adapt.frozen is not None:
        return adapt.frozen
    return tuple(group for group in model.parameter_groups() if group == GAUSSIAN_HEAD)


def _exchanges(model: GeometricModel) -> bool:
    return isinstance(model, MVDust3r) and model.config.cross_reference


def trained_groups(model: GeometricModel, factors: Mapping[str, float]) -> list[TrainedGroup]:
    """The parameters that train by group; those that an entry of ``factors`` selects are one of its name.

    Of several entries that select a parameter the most specific one counts.
    """
    members: dict[str, list[nn.Parameter]] = {}
    entries = model.most_specific_first(factors)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = next((e for e in entries if model.selects(e, name)), model.group_of(name))
            members.setdefault(group, []).append(parameter)
    return [
        TrainedGroup(name, tuple(kept), factors.get(name, 1.0)) for name, kept in members.items()
    ]


def image_size(adapt: AdaptConfig, model: GeometricModel) -> int:
    """Side of the images in pixels: as set, or as the model was trained."""
    size = adapt.image_px or model.image_size
    if size % model.patch_size:
        raise ConfigError(
            f"adapt.image_px={size} is no multiple of the model's patch of {model.patch_size} px"
        )
    return size


def without_values(model: GeometricModel) -> GeometricModel:
    """A copy whose parameters and buffers have shapes but no memory."""
    # What the model only carries from file to file is shared, not copied.
    memo: dict[int, Any] = {id(model.kept_tensors): model.kept_tensors}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = nn.Parameter(empty, requires_grad=parameter.requires_grad)
    for buffer in model.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(model, memo)


def filled(shell: GeometricModel, tensors: Mapping[str, Tensor]) -> GeometricModel:
    """The model with these values on the CPU, adapters merged into plain weights."""
    model = copy.deepcopy(shell).to_empty(device="cpu")
    model.load_state_dict(dict(tensors))
    merge_lora(model)
    return model


def size_rule(adapt: AdaptConfig, model: GeometricModel, size: int) -> SizeRule:
    """How large the images are that a picture becomes: squares of side ``size``, or as the model likes them.

    Raises:
        ConfigError: images of several shapes would meet in one pass through the model.
    """
    if adapt.image_shape == "square":
        return SizeRule("square", size, model.patch_size)
    rule = model.description.size_rule
    rule = rule.with_length(adapt.image_px) if adapt.image_px else rule
    images = adapt.optimizer.micro_batch * adapt.sampling.n_context
    at_once = images // (adapt.views.min or adapt.sampling.n_context)
    if rule.kind != "square" and at_once > 1:
        raise ConfigError(
            f"adapt.image_shape=model gives samples of several shapes, and {at_once} of them would pass "
            "through the model together: set adapt.optimizer.micro_batch=1 and leave adapt.views.min above "
            "half of adapt.sampling.n_context"
        )
    return rule
