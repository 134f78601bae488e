"""What a run would take, said before it is started: steps, samples, parameters, memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sage_core.config.adapt import AdaptConfig
from sage_core.models import GeometricModel, blank_model
from sage_core.training.order import Kind
from sage_core.training.ranks import Ranks
from sage_core.training.run import build, image_size, trained_model
from sage_core.training.settings import TrainSettings


@dataclass(frozen=True)
class Plan:
    """A run in figures.

    Attributes:
        steps, batch: optimiser steps, and samples of each.
        video_samples, labelled_samples: over the whole run.
        image_px, views: what the model is given.
        parameters, trained_parameters: how many numbers, by group.
        memory_mb: of one process at least: weights, gradients, AdamW's moments, and what the forward pass of
            one micro-batch keeps for the backward pass. Rendering and the allocator's slack come on top.
    """

    steps: int
    batch: int
    video_samples: int
    labelled_samples: int
    image_px: int
    views: int
    parameters: dict[str, int]
    trained_parameters: dict[str, int]
    memory_mb: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(settings: TrainSettings) -> Plan:
    """Load weights and open the data as the run would, train nothing.

    Raises:
        SageError: all that would keep the run from starting.
    """
    ranks = Ranks(0, 1, 0, torch.device("cpu"))
    parts, routine = build(settings, ranks)
    adapt = settings.adapt
    counts = routine.order.counts(routine.rate.steps)
    model = trained_model(adapt)
    size = image_size(adapt, model)
    groups = {name: [p for _, p in members] for name, members in model.parameter_groups().items()}
    return Plan(
        steps=routine.rate.steps,
        batch=routine.order.batch,
        video_samples=counts[Kind.VIDEO],
        labelled_samples=counts[Kind.LABELLED],
        image_px=size,
        views=adapt.sampling.n_context,
        parameters={name: _count(members) for name, members in groups.items()},
        trained_parameters={group.name: _count(group.parameters) for group in parts.groups},
        memory_mb=memory_estimate(adapt, model, size),
    )


def plan_json(settings: dict[str, Any]) -> dict[str, Any]:
    """:func:`plan` for :func:`sage_core.sandbox.call`, so that its caller needs no torch."""
    return plan(TrainSettings.model_validate(settings)).to_json()


def memory_estimate(adapt: AdaptConfig, model: GeometricModel, size: int) -> dict[str, float]:
    """Megabytes (MiB) by use, of one process.

    Activations are counted, not guessed: the forward pass runs on tensors without storage, and what autograd
    keeps of it is added up.
    """
    trained = 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    uses = {
        "weights": 4 * sum(p.numel() for p in model.parameters()),
        "gradients": trained,
        "moments": 2 * trained,
        "activations": _activation_bytes(adapt, model, size),
    }
    rounded = {name: round(value / 2**20, 1) for name, value in uses.items()}
    return {**rounded, "total": round(sum(rounded.values()), 1)}


def _activation_bytes(adapt: AdaptConfig, model: GeometricModel, size: int) -> int:
    half = adapt.precision == "bfloat16" or (
        adapt.precision == "auto" and torch.cuda.is_available()
    )
    twin = blank_model(model.config)
    with FakeTensorMode():
        twin._apply(_without_storage)  # type: ignore[no-untyped-call]
        twin.freeze(adapt.frozen, batchnorm=adapt.batchnorm_frozen)
        weights = {p.untyped_storage()._cdata for p in twin.parameters()}
        kept: dict[int, torch.UntypedStorage] = {}

        def note(tensor: Tensor) -> Tensor:
            kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
            return tensor

        shape = (adapt.optimizer.micro_batch, adapt.sampling.n_context, 3, size, size)
        with (
            torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
            torch.autocast("cpu", torch.bfloat16, enabled=half),
        ):
            twin.train()(torch.zeros(shape))
        return sum(storage.nbytes() for key, storage in kept.items() if key not in weights)


def _without_storage(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)


def _count(parameters: Any) -> int:
    return sum(int(p.numel()) for p in parameters)
