"""One training run from settings to adapted weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial

import torch

from sage_core import __version__
from sage_core.config.adapt import AdaptConfig
from sage_core.errors import TrainingError
from sage_core.losses import AnchorQuality
from sage_core.models import GeometricModel, load_model, save_model
from sage_core.training.board import check_tensorboard
from sage_core.training.cost import peak_flops
from sage_core.training.drawing import SampleRules, VideoSamples
from sage_core.training.engine import Ending, Trainer
from sage_core.training.failures import named, unknown
from sage_core.training.files import read_json, write_json
from sage_core.training.journal import loss_figures, read_metrics, write_losses
from sage_core.training.labelled import labelled_source
from sage_core.training.lock import run_lock
from sage_core.training.objective import TERMS, Objective
from sage_core.training.optimisation import LearningRate
from sage_core.training.order import Kind, SampleId, SampleOrder, ViewCounts
from sage_core.training.precision import half
from sage_core.training.preparation import Prepared, filled, prepared
from sage_core.training.ranks import Ranks, joined
from sage_core.training.renders import picture
from sage_core.training.routine import Routine
from sage_core.training.samples import (
    LabelledSample,
    VideoSample,
    labelled_sample,
)
from sage_core.training.settings import TrainSettings
from sage_core.training.step import Parts
from sage_core.training.supervision import supervision
from sage_core.training.teaching import teacher
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


@dataclass(frozen=True)
class Built:
    """A run that is ready to start: its model, what it trains on, how it proceeds."""

    prepared: Prepared
    parts: Parts[Sample]
    routine: Routine


def build(settings: TrainSettings, ranks: Ranks) -> Built:
    """Model, data, loss and schedule of a run, on this rank's device.

    Raises:
        SageError: weights that do not load, data that yields no samples, settings that contradict.
    """
    adapt, device = settings.adapt, ranks.device
    if adapt.tensorboard:
        check_tensorboard()
    ready = prepared(load_model(adapt.base), adapt, ranks, settings.seed)
    videos, sample = _samples(settings, ready)
    objective = Objective(adapt, device, supervision(ready.model))
    parts = Parts(
        ready.model,
        ready.groups,
        sample,
        objective,
        TERMS,
        teach=teacher(adapt, device),
        picture=picture(objective, partial(videos, SampleId(Kind.VIDEO, 0, 0)))
        if adapt.render_steps and videos
        else None,
        # Where pictures keep their shape no two samples need take the same.
        flops=ready.flops(adapt) if ready.size_rule.kind == "square" else None,
    )
    peak = peak_flops(device, half=half(adapt, device), given_tflops=adapt.peak_tflops)
    order = sample_order(adapt, len(settings.datasets), settings.seed)
    return Built(ready, parts, routine(settings, order, peak))


def sample_order(adapt: AdaptConfig, datasets: int, seed: int) -> SampleOrder:
    """The stream of samples that the settings describe."""
    ratio = adapt.regularisation.ratio if adapt.regularisation.enabled else None
    views = adapt.views
    counts = ViewCounts(views.min, views.max, seed) if views.min and views.max else None
    return SampleOrder(adapt.trajectories * max(1, datasets), ratio, adapt.optimizer.batch, counts)


def routine(settings: TrainSettings, order: SampleOrder, peak: float | None) -> Routine:
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
        images=optimizer.micro_batch * adapt.sampling.n_context,
        betas=(optimizer.beta1, optimizer.beta2),
        weight_decay=optimizer.weight_decay,
        clip_norm=optimizer.clip_norm,
        clip_per_group=optimizer.clip_per_group,
        ema_decay=adapt.ema_decay,
        checkpoint_minutes=adapt.checkpoint.minutes,
        checkpoint_steps=adapt.checkpoint.steps,
        keep=adapt.checkpoint.keep,
        max_skipped=optimizer.max_skipped,
        skip_window=optimizer.skip_window,
        threads=adapt.loader_threads,
        render_steps=adapt.render_steps,
        tensorboard=adapt.tensorboard,
        peak_flops=peak,
    )


def _run(settings: TrainSettings, ranks: Ranks, until: int | None) -> Ending:
    built = build(settings, ranks)
    trainer = Trainer(built.parts, built.routine, settings.folder, ranks)
    ending = trainer.run(until)
    if ending is Ending.FINISHED:
        weights = trainer.weights()
        if ranks.first:
            _publish(settings, trainer, filled(built.prepared.shell, weights))
    ranks.barrier()
    return ending


def _samples(
    settings: TrainSettings, ready: Prepared
) -> tuple[VideoSamples | None, Callable[[SampleId], Sample]]:
    adapt = settings.adapt
    order = sample_order(adapt, len(settings.datasets), settings.seed)
    videos = None if order.ratio == 0 else _videos(settings, ready, order)
    views = labelled_source(adapt, ready.image_px, settings.seed)

    def sample(one: SampleId) -> Sample:
        if one.kind is Kind.VIDEO and videos:
            return videos(one)
        return labelled_sample(views(one), ready.size_rule)

    return videos, sample


def _videos(settings: TrainSettings, ready: Prepared, order: SampleOrder) -> VideoSamples:
    adapt = settings.adapt
    return VideoSamples(
        settings.datasets,
        adapt.sampling,
        size=ready.size_rule,
        seed=settings.seed,
        shuffle_views=adapt.shuffle_views,
        most_views=adapt.views.max,
        rules=_rules(adapt, order),
    )


def _rules(adapt: AdaptConfig, order: SampleOrder) -> SampleRules:
    loss = adapt.loss
    steps = adapt.steps or order.steps(adapt.epochs)
    quality = AnchorQuality(loss.quality_error_px, loss.quality_track, loss.quality_angle_deg)
    return SampleRules(
        per_epoch=order.per_epoch,
        samples=order.counts(steps)[Kind.VIDEO],
        curriculum=adapt.curriculum,
        quality=quality if loss.anchor_weights == "quality" else None,
        masks=loss.masks,
        per_visit=adapt.mixing.per_visit,
        augment=adapt.augment,
    )


def _publish(settings: TrainSettings, trainer: Trainer[Sample], model: GeometricModel) -> None:
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
        "weights": "average" if trainer.average else "last",
        "losses": loss_figures(lines),
        "skipped": list(trainer.state.skipped),
        "seconds": round(sum(line["seconds"] for line in lines), 1),
        "memory_mb": max(line["memory_mb"] for line in lines),
        "ranks": trainer.ranks.world,
        "parallel": settings.adapt.parallel if trainer.ranks.world > 1 else "none",
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
    except Exception as error:
        known = named(error, settings) or unknown(error)
        data = {"status": "failed", "reason": known.reason.value, "message": str(known)}
        with suppress(OSError):
            write_json(path, {**data, "retryable": known.retryable})
        if known.reason is Reason.INTERNAL_ERROR:
            raise  # with its traceback, for the log
        raise known from error


@contextmanager
def _deterministic(ranks: Ranks) -> Iterator[None]:
    """On the CPU the same bits every time; on CUDA rasteriser and attention add in any order anyway."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(ranks.device.type == "cpu" or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
