"""What a run would take, said before it is started: steps, samples, parameters, memory, time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sage_core.config.adapt import AdaptConfig
from sage_core.models import GeometricModel
from sage_core.training.cost import kept_bytes, peak_flops
from sage_core.training.journal import read_metrics
from sage_core.training.order import Kind
from sage_core.training.precision import half
from sage_core.training.ranks import Ranks, device_for
from sage_core.training.run import Built, build, train
from sage_core.training.settings import TrainSettings

PLANNED_MFU = 0.3
"""Share of a device's peak that is counted on where no step was timed; transformers of this size reach
0.25 to 0.35 with enough images at once."""


@dataclass(frozen=True)
class Plan:
    """A run in figures.

    Attributes:
        steps, batch: optimiser steps, and samples of each.
        processes: how many share a step.
        video_samples, labelled_samples: over the whole run.
        image_px, views: what the model is given; the most views where their number varies.
        parameters, trained_parameters: how many numbers, by group.
        memory_mb: of one process at least: weights, gradients, AdamW's moments, the average, and what the
            forward pass of one micro-batch keeps for the backward pass. Rendering and the allocator's slack
            come on top.
        tflop_per_sample: 10^12 operations of the model, forward and backward; None where a network of the
            user's own cannot be counted, whose activations are then missing from the memory too.
        hours: the run's length; None where nothing is known of the device.
        hours_from: what ``hours`` was worked out from.
    """

    steps: int
    batch: int
    processes: int
    video_samples: int
    labelled_samples: int
    image_px: int
    views: int
    parameters: dict[str, int]
    trained_parameters: dict[str, int]
    memory_mb: dict[str, float]
    tflop_per_sample: float | None
    hours: float | None
    hours_from: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(settings: TrainSettings, timed_steps: int = 0) -> Plan:
    """Load weights and open the data as the run would, on the CPU, and train nothing.

    With ``timed_steps`` so many micro-batches are then trained for their time, on the device that the run
    would use, in a folder that is thrown away.

    Raises:
        SageError: all that would keep the run from starting.
    """
    # A share of the model has no parameters to count, and what compiling does cannot be seen before.
    plain = {"parallel": "ddp", "compile": False}
    adapt = settings.adapt.model_copy(update=plain)
    whole = settings.model_copy(update={"adapt": adapt})
    built = build(whole, Ranks(0, 1, 0, torch.device("cpu")))
    order, steps = built.routine.order, built.routine.rate.steps
    counts, views = order.counts(steps), adapt.views.max or adapt.sampling.n_context
    flops = built.prepared.flops(adapt)(views)
    processes = _processes(settings.adapt)
    done = None if flops is None else flops * order.batch * steps / processes
    hours, source = _hours(settings, built, done, timed_steps)
    return Plan(
        steps=steps,
        batch=order.batch,
        processes=processes,
        video_samples=counts[Kind.VIDEO],
        labelled_samples=counts[Kind.LABELLED],
        image_px=built.prepared.image_px,
        views=views,
        parameters=_parameters(built.prepared.model),
        trained_parameters={g.name: _count(g.parameters) for g in built.prepared.groups},
        memory_mb=memory_estimate(settings.adapt, built.prepared.shell, built.prepared.image_px),
        tflop_per_sample=None if flops is None else round(flops / 1e12, 6),
        hours=hours,
        hours_from=source,
    )


def plan_json(settings: dict[str, Any], timed_steps: int = 0) -> dict[str, Any]:
    """:func:`plan` for :func:`sage_core.sandbox.call`, so that its caller needs no torch."""
    return plan(TrainSettings.model_validate(settings), timed_steps).to_json()


def memory_estimate(adapt: AdaptConfig, shell: GeometricModel, size: int) -> dict[str, float]:
    """Megabytes (MiB) by use, of one process.

    Activations are counted, not guessed: the forward pass runs on tensors without storage, and what autograd
    keeps of it is added up. With ``fully_shard`` a process has its share of the rest.
    """
    share = _processes(adapt) if adapt.parallel == "fully_shard" else 1
    trained = 4 * sum(p.numel() for p in shell.parameters() if p.requires_grad) / share
    device = device_for(adapt.device)
    views = adapt.views.max or adapt.sampling.n_context
    at_once = adapt.optimizer.micro_batch * adapt.sampling.n_context // views
    uses = {
        "weights": 4 * sum(p.numel() for p in shell.parameters()) / share,
        "gradients": trained,
        "moments": 2 * trained,
        "average": trained if adapt.ema_decay else 0,
    }
    shape, references = (at_once, views, size, size), adapt.loss.references
    activations = kept_bytes(shell, shape, half=half(adapt, device), references=references)
    if activations is not None:
        uses["activations"] = activations
    rounded = {name: round(value / 2**20, 1) for name, value in uses.items()}
    return {**rounded, "total": round(sum(rounded.values()), 1)}


def _hours(
    settings: TrainSettings, built: Built, flops: float | None, timed_steps: int
) -> tuple[float | None, str]:
    """How long the run takes, and from what that follows; ``flops`` are one process's, of the whole run."""
    adapt = settings.adapt
    device = device_for(adapt.device)
    if timed_steps:
        seconds = _seconds_per_sample(settings, timed_steps)
        routine = built.routine
        samples = routine.order.batch * routine.rate.steps / _processes(adapt)
        return samples * seconds / 3600, (
            f"{timed_steps} timed steps of one process on {device.type}, {seconds:.3g} s a sample"
        )
    peak = peak_flops(device, half=half(adapt, device), given_tflops=adapt.peak_tflops)
    if peak is None or flops is None:
        return None, "not known: --timed-steps measures it, or set adapt.peak_tflops"
    return flops / (PLANNED_MFU * peak) / 3600, (
        f"operations at {PLANNED_MFU:.0%} of a peak of {peak / 1e12:.3g} Tflop/s (not measured)"
    )


def _seconds_per_sample(settings: TrainSettings, steps: int) -> float:
    """Mean over so many steps of one micro-batch each; the first, which warms up, does not count."""
    adapt = settings.adapt
    short = {
        "steps": steps + 1,
        "optimizer": adapt.optimizer.model_copy(update={"batch": adapt.optimizer.micro_batch}),
        "checkpoint": adapt.checkpoint.model_copy(update={"minutes": 0.0, "steps": 0}),
        "parallel": "ddp",
        "processes": 1,
        "render_steps": 0,
        "tensorboard": False,
    }
    with tempfile.TemporaryDirectory(prefix="sage-timed-") as folder:
        changes = {"adapt": adapt.model_copy(update=short), "out": folder}
        train(settings.model_copy(update=changes))
        lines = read_metrics(Path(folder) / "metrics.jsonl")[1:]
    seconds: float = sum(line["seconds"] for line in lines)
    return seconds / (len(lines) * adapt.optimizer.micro_batch)


def _processes(adapt: AdaptConfig) -> int:
    """Training processes on this machine."""
    if adapt.processes:
        return adapt.processes
    return max(1, torch.cuda.device_count()) if device_for(adapt.device).type == "cuda" else 1


def _parameters(model: GeometricModel) -> dict[str, int]:
    groups = model.parameter_groups().items()
    return {name: _count(p for _, p in members) for name, members in groups}


def _count(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)
