"""One training run from settings to adapted weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from safetensors import SafetensorError

from sage_core import __version__
from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError, SageError, TrainingError
from sage_core.models import GeometricModel, load_model, save_model
from sage_core.training.engine import Ending, Parts, Routine, Trainer
from sage_core.training.files import disk_is_full, read_json, write_json
from sage_core.training.journal import loss_figures, read_metrics, write_losses
from sage_core.training.labelled import labelled_source
from sage_core.training.lock import run_lock
from sage_core.training.objective import TERMS, Objective
from sage_core.training.optimisation import LearningRate, TrainedGroup
from sage_core.training.order import Kind, SampleId, SampleOrder
from sage_core.training.ranks import Ranks, joined
from sage_core.training.samples import (
    LabelledSample,
    VideoSample,
    VideoSamples,
    labelled_sample,
)
from sage_core.training.settings import TrainSettings
from sage_core.training.supervision import supervision
from sage_core.types import Reason

Sample = VideoSample | LabelledSample


def train(settings: TrainSettings, *, until: int | None = None) -> Ending:
    """Run, or go on with, the training that the settings describe; ``until`` stops it at a step.

    Leaves ``metrics.jsonl`` and ``checkpoints/`` in the run's folder, and at the end ``model.safetensors``,
    ``losses.jsonl`` and ``result.json``. A run that has finished is left as it is.

    Raises:
        SageError: the run cannot start or go on; ``result.json`` then says why.
    """
    adapt = settings.adapt
    with (
        joined(adapt.device, adapt.threads) as ranks,
        _deterministic(ranks),
        run_lock(settings.folder) if ranks.first else nullcontext(),
    ):
        ranks.barrier()
        if _finished(settings):
            return Ending.FINISHED
        with _failure_written(settings, ranks):
            return _run(settings, ranks, until)


def build(settings: TrainSettings, ranks: Ranks) -> tuple[Parts[Sample], Routine]:
    """Model, data, loss and schedule of a run, on this rank's device.

    Raises:
        SageError: weights that do not load, data that yields no samples, settings that contradict.
    """
    adapt = settings.adapt
    model = trained_model(adapt).to(ranks.device)
    size = image_size(adapt, model)
    sample, order = _samples(settings, size)
    groups = [
        TrainedGroup(name, kept, adapt.lr_factors.get(name, 1.0))
        for name, members in model.parameter_groups().items()
        if (kept := tuple(p for _, p in members if p.requires_grad))
    ]
    objective = Objective(adapt, ranks.device, supervision(model))
    return Parts(model, groups, sample, objective, TERMS), routine(settings, order)


def trained_model(adapt: AdaptConfig) -> GeometricModel:
    """The base model with frozen what stays as it is, in training mode.

    Raises:
        CheckpointError: weights that cannot be loaded.
        ConfigError: a group that the model does not have.
    """
    model = load_model(adapt.base)
    model.freeze(adapt.frozen, batchnorm=adapt.batchnorm_frozen)
    unknown = adapt.lr_factors.keys() - model.parameter_groups().keys()
    if unknown:
        raise ConfigError(
            f"adapt.lr_factors names {', '.join(sorted(unknown))}: this model's groups are "
            f"{', '.join(model.parameter_groups())}"
        )
    return model.train()


def image_size(adapt: AdaptConfig, model: GeometricModel) -> int:
    """Side of the images in pixels: as set, or as the model was trained."""
    size = adapt.image_px or model.image_size
    if size % model.patch_size:
        raise ConfigError(
            f"adapt.image_px={size} is no multiple of the model's patch of {model.patch_size} px"
        )
    return size


def sample_order(adapt: AdaptConfig, datasets: int) -> SampleOrder:
    """The stream of samples that the settings describe."""
    ratio = adapt.regularisation.ratio if adapt.regularisation.enabled else 0
    return SampleOrder(adapt.trajectories * datasets, ratio, adapt.optimizer.batch)


def routine(settings: TrainSettings, order: SampleOrder) -> Routine:
    """How the run proceeds."""
    adapt, optimizer = settings.adapt, settings.adapt.optimizer
    steps = adapt.steps or order.steps(adapt.epochs)
    rate = LearningRate(
        optimizer.lr,
        min(optimizer.last_lr, optimizer.lr),
        round(optimizer.warmup_share * steps),
        steps,
    )
    return Routine(
        order=order,
        rate=rate,
        seed=settings.seed,
        fingerprint=settings.fingerprint(),
        micro_batch=optimizer.micro_batch,
        betas=(optimizer.beta1, optimizer.beta2),
        weight_decay=optimizer.weight_decay,
        clip_norm=optimizer.clip_norm,
        clip_per_group=optimizer.clip_per_group,
        checkpoint_minutes=adapt.checkpoint.minutes,
        checkpoint_steps=adapt.checkpoint.steps,
        keep=adapt.checkpoint.keep,
        max_skipped=optimizer.max_skipped,
        skip_window=optimizer.skip_window,
        threads=adapt.loader_threads,
    )


def _run(settings: TrainSettings, ranks: Ranks, until: int | None) -> Ending:
    parts, how = build(settings, ranks)
    trainer = Trainer(parts, how, settings.folder, ranks)
    ending = trainer.run(until)
    if ending is Ending.FINISHED and ranks.first:
        _publish(settings, trainer)
    ranks.barrier()
    return ending


def _samples(settings: TrainSettings, size: int) -> tuple[Any, SampleOrder]:
    adapt = settings.adapt
    videos = VideoSamples(
        settings.datasets,
        adapt.sampling,
        size=size,
        seed=settings.seed,
        shuffle_views=adapt.shuffle_views,
    )
    views = labelled_source(adapt, size, settings.seed)

    def sample(one: SampleId) -> Sample:
        return videos(one) if one.kind is Kind.VIDEO else labelled_sample(views(one), size)

    return sample, sample_order(adapt, len(settings.datasets))


def _publish(settings: TrainSettings, trainer: Trainer[Sample]) -> None:
    model = trainer.parts.model
    assert isinstance(model, GeometricModel)
    facts = {
        "base": settings.adapt.base,
        "fingerprint": settings.fingerprint(),
        "steps": trainer.state.step,
        "code_version": __version__,
    }
    save_model(model, settings.folder / "model.safetensors", provenance=facts)
    write_losses(settings.folder / "metrics.jsonl", settings.folder / "losses.jsonl")
    lines = read_metrics(settings.folder / "metrics.jsonl")
    counts = trainer.routine.order.counts(trainer.state.step)
    result = {
        **facts,
        "status": "finished",
        "losses": loss_figures(lines),
        "skipped": list(trainer.state.skipped),
        "seconds": round(sum(line["seconds"] for line in lines), 1),
        "memory_mb": max(line["memory_mb"] for line in lines),
        "ranks": trainer.ranks.world,
        "video_samples": counts[Kind.VIDEO],
        "labelled_samples": counts[Kind.LABELLED],
        "parameters": sum(p.numel() for p in model.parameters()),
        "trained_parameters": sum(p.numel() for g in trainer.parts.groups for p in g.parameters),
    }
    write_json(settings.folder / "result.json", result)


def _finished(settings: TrainSettings) -> bool:
    result = read_json(settings.folder / "result.json")
    if result.get("status") != "finished":
        return False
    if result["fingerprint"] != settings.fingerprint():
        raise TrainingError(
            f"{settings.folder} holds a finished run with other settings, data or base weights: give "
            "this run its own folder",
            reason=Reason.BAD_CONFIG,
        )
    return True


@contextmanager
def _failure_written(settings: TrainSettings, ranks: Ranks) -> Iterator[None]:
    """Put what goes wrong into ``result.json``, in place of what went wrong the last time."""
    path = settings.folder / "result.json"
    if ranks.first:
        path.unlink(missing_ok=True)
    try:
        yield
    except (SageError, RuntimeError, OSError, SafetensorError) as error:
        known = _named(error, settings)
        if known is None:
            raise
        data = {"status": "failed", "reason": known.reason.value, "message": str(known)}
        with suppress(OSError):
            write_json(path, {**data, "retryable": known.retryable})
        raise known from error


def _named(error: Exception, settings: TrainSettings) -> SageError | None:
    """The error as one that says what to do, if it is of a known kind."""
    if isinstance(error, SageError):
        return error
    if disk_is_full(error, settings.folder):
        return TrainingError(
            f"the disk of {settings.folder} is full: free some space and run the same command again",
            reason=Reason.DISK_FULL,
            retryable=True,
        )
    if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
        adapt = settings.adapt
        return TrainingError(
            f"out of memory with {adapt.optimizer.micro_batch} samples of {adapt.sampling.n_context} "
            "views at a time: lower adapt.optimizer.micro_batch (which changes no result), then "
            f"adapt.sampling.n_context, then adapt.image_px. {str(error).splitlines()[0]}",
            reason=Reason.MEMORY_LIMIT,
        )
    return None


@contextmanager
def _deterministic(ranks: Ranks) -> Iterator[None]:
    """On the CPU the same bits every time; on CUDA rasteriser and attention add in any order anyway."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(ranks.device.type == "cpu" or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
