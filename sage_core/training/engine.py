"""The training loop: samples in, losses, one optimiser step, one line of metrics, now and then a checkpoint.

It knows nothing of models, shards or losses: those come as :class:`Parts`. All its choices are functions of
seed and step, so that a run that was killed goes on from its newest checkpoint as if nothing had happened.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sage_core.errors import TrainingError
from sage_core.training.checkpoints import (
    RunState,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    thin_checkpoints,
)
from sage_core.training.files import write_json
from sage_core.training.journal import MetricsLog
from sage_core.training.loader import Loader
from sage_core.training.metrics import TermSums, memory_mb
from sage_core.training.optimisation import (
    LearningRate,
    TrainedGroup,
    build_optimizer,
    clip_gradients,
    set_learning_rate,
)
from sage_core.training.order import SampleId, SampleOrder
from sage_core.training.ranks import Ranks
from sage_core.types import Reason

T = TypeVar("T")
Terms = dict[str, float]
_SEED_STRIDE = 1_000_003


@dataclass(frozen=True)
class Parts(Generic[T]):
    """What a run trains, on what, and towards what.

    Attributes:
        model: the module, on its device, in the mode it trains in.
        groups: the parameters that train.
        sample: makes the sample with an id; pure, called from threads.
        losses: (forward, samples) → the mean loss over the samples, and each sample's terms. ``forward``
            is the model, wrapped for many ranks where there are many; the loss must depend, be it by
            nothing, on every parameter that trains, since ranks wait for each other's gradients.
        terms: names of all loss terms.
    """

    model: nn.Module
    groups: Sequence[TrainedGroup]
    sample: Callable[[SampleId], T]
    losses: Callable[[nn.Module, list[T]], tuple[Tensor, list[Terms]]]
    terms: tuple[str, ...]


@dataclass(frozen=True)
class Routine:
    """How a run proceeds.

    Attributes:
        order: which samples at which step.
        rate: learning rate by step; its ``steps`` is the run's length.
        seed, fingerprint: of the run.
        micro_batch: samples that one rank passes through the model at once.
        betas, weight_decay, clip_norm, clip_per_group: of the optimiser.
        checkpoint_minutes, checkpoint_steps: when to save besides the end; 0 switches one off.
        keep: checkpoints kept.
        max_skipped, skip_window: give up after more than so many skipped steps in the last so many.
        threads: loader threads.
    """

    order: SampleOrder
    rate: LearningRate
    seed: int
    fingerprint: str
    micro_batch: int
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    clip_per_group: bool = False
    checkpoint_minutes: float = 10.0
    checkpoint_steps: int = 0
    keep: int = 2
    max_skipped: int = 10
    skip_window: int = 100
    threads: int = 1


class Ending(StrEnum):
    """Why the loop ended without an error."""

    FINISHED = "finished"
    STOPPED = "stopped"
    """Asked to, by a signal or by ``until``; a checkpoint was written."""


@dataclass
class _Step:
    """What one optimiser step gave on this rank."""

    loss: float
    finite: bool
    sums: TermSums
    ids: list[SampleId] = field(default_factory=list)


class Trainer(Generic[T]):
    """One run in one folder."""

    def __init__(self, parts: Parts[T], routine: Routine, folder: Path, ranks: Ranks) -> None:
        """Build the optimiser and take up the newest checkpoint in ``folder``, if there is one.

        Raises:
            TrainingError: the batch cannot be shared out evenly, or nothing trains.
            CheckpointError: the newest checkpoint belongs to another run, or is damaged.
        """
        self.parts, self.routine, self.folder, self.ranks = parts, routine, folder, ranks
        self.accumulate = _accumulation(routine, ranks)
        if not parts.groups:
            raise TrainingError(
                "every parameter is frozen, so there is nothing to train: take a group out of "
                "adapt.frozen",
                reason=Reason.BAD_CONFIG,
            )
        self.optimizer = build_optimizer(
            parts.groups, betas=routine.betas, weight_decay=routine.weight_decay
        )
        self.state = self._resumed()
        self.forward = _shared(parts.model, ranks)
        self._stop = False

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.state.step >= self.routine.rate.steps

    def run(self, until: int | None = None) -> Ending:
        """Train to the end, or until step ``until`` is reached or a signal asks to stop.

        Raises:
            TrainingError: loss or gradient was not finite too often.
        """
        last = min(self.routine.rate.steps, until or self.routine.rate.steps)
        loader = Loader(self.parts.sample, self._micro_batches(last), self.routine.threads)
        log = MetricsLog(self.folder / "metrics.jsonl", self.state.step) if self._writes else None
        saved = time.monotonic()
        try:
            with self._stopping():
                batches = iter(loader)
                while self.state.step < last:
                    due = self._due(saved)
                    stop, save = self._advance(batches, loader, log, due)
                    if save or stop or self.state.step == last:
                        self._save()
                        saved = time.monotonic()
                    if stop:
                        break
        finally:
            loader.close()
            if log:
                log.close()
        return Ending.FINISHED if self.finished else Ending.STOPPED

    @property
    def _writes(self) -> bool:
        return self.ranks.first

    def _advance(
        self, batches: Iterator[list[T]], loader: Loader[T], log: MetricsLog | None, due: bool
    ) -> tuple[bool, bool]:
        """One optimiser step; returns whether to stop and whether to save, the same on every rank."""
        started, waited = time.perf_counter(), loader.waited_s
        step = self.state.step
        rate = self.routine.rate.at(step)
        set_learning_rate(self.optimizer, rate)
        torch.manual_seed((self.routine.seed * _SEED_STRIDE + step) * 64 + self.ranks.rank)
        done = self._accumulated(batches)
        norms = clip_gradients(
            self.parts.groups, self.routine.clip_norm, per_group=self.routine.clip_per_group
        )
        finite = done.finite and norms["total"] < float("inf")
        bad, stop, save = self.ranks.any([not finite, self._stop, due])
        if not bad:
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        skipped = (*self.state.skipped, step) if bad else self.state.skipped
        self.state = RunState(step + 1, self.routine.fingerprint, skipped)
        line = self._line(step, rate, norms, done, bad)
        seconds = time.perf_counter() - started
        line |= self._speed(seconds, loader.waited_s - waited)
        if log:
            log.write(line)
        if bad:
            self._judge_skips(step)
        return stop, save

    def _accumulated(self, batches: Iterator[list[T]]) -> _Step:
        total, finite, sums = 0.0, True, TermSums(self.parts.terms)
        for turn in range(self.accumulate):
            samples = next(batches)
            with self._synchronised(turn == self.accumulate - 1):
                loss, terms = self.parts.losses(self.forward, samples)
                # Also when it is not finite: every rank must take part in the gradients' exchange.
                torch.autograd.backward(loss / self.accumulate)
            value = float(loss.detach())
            finite = finite and abs(value) < float("inf")
            total += value / self.accumulate
            for sample_terms in terms:
                sums.add(sample_terms)
        return _Step(total, finite, sums)

    def _line(self, step: int, rate: float, norms: Terms, done: _Step, bad: bool) -> dict[str, Any]:
        order = self.routine.order
        line: dict[str, Any] = {
            "step": step,
            "steps": self.routine.rate.steps,
            "epoch": order.at(step * order.batch).epoch,
            "lr": rate,
            "skipped": bad,
        }
        means = done.sums.means(self.ranks)
        loss = self.ranks.sums([done.loss])[0] / self.ranks.world
        if bad:
            return {**line, "loss": None, "terms": {}, "grad_norm": None, "grad_norms": {}}
        total = norms.pop("total")
        return {**line, "loss": loss, "terms": means, "grad_norm": total, "grad_norms": norms}

    def _speed(self, seconds: float, waited: float) -> dict[str, float]:
        return {
            "samples_per_s": round(self.routine.order.batch / seconds, 3),
            "data_wait_share": round(min(1.0, waited / seconds), 4),
            "memory_mb": round(memory_mb(self.ranks.device), 1),
            "seconds": round(seconds, 4),
        }

    def _judge_skips(self, step: int) -> None:
        ids = [str(sample) for sample in self.routine.order.step(step)]
        if self._writes:
            folder = self.folder / "not_finite"
            folder.mkdir(exist_ok=True)
            write_json(folder / f"step_{step:08d}.json", {"step": step, "samples": ids})
        recent = [s for s in self.state.skipped if s > step - self.routine.skip_window]
        if len(recent) > self.routine.max_skipped:
            raise TrainingError(
                f"{len(recent)} of the last {self.routine.skip_window} steps had a loss or gradient "
                f"that was not finite, the last one at step {step} with samples {', '.join(ids)} "
                f"(all are listed in {self.folder / 'not_finite'}). Lower adapt.optimizer.lr or "
                "adapt.loss.rendering_weight, or look at those samples",
                reason=Reason.NOT_FINITE,
            )

    def _resumed(self) -> RunState:
        if self._writes:
            # Frees what a writer that was killed, or met a full disk, left behind.
            thin_checkpoints(self.folder / "checkpoints", self.routine.keep)
        self.ranks.barrier()
        newest = newest_checkpoint(self.folder / "checkpoints")
        if newest is None:
            return RunState(0, self.routine.fingerprint)
        return load_checkpoint(newest, self.parts.model, self.optimizer, self.routine.fingerprint)

    def _save(self) -> None:
        if self._writes:
            folder = self.folder / "checkpoints"
            save_checkpoint(folder, self.parts.model, self.optimizer, self.state)
            thin_checkpoints(folder, self.routine.keep)
        self.ranks.barrier()

    def _due(self, saved: float) -> bool:
        minutes, every = self.routine.checkpoint_minutes, self.routine.checkpoint_steps
        by_time = self._writes and minutes > 0 and time.monotonic() - saved > 60 * minutes
        return by_time or (every > 0 and (self.state.step + 1) % every == 0)

    def _micro_batches(self, last: int) -> Iterator[list[SampleId]]:
        size = self.routine.micro_batch
        for step in range(self.state.step, last):
            share = self.routine.order.share(step, self.ranks.rank, self.ranks.world)
            for start in range(0, len(share), size):
                yield share[start : start + size]

    def _synchronised(self, last: bool) -> AbstractContextManager[None]:
        if isinstance(self.forward, DistributedDataParallel) and not last:
            return self.forward.no_sync()
        return nullcontext()

    @contextmanager
    def _stopping(self) -> Iterator[None]:
        """Let SIGTERM and SIGINT end the run after the current step, with a checkpoint."""
        wanted = (signal.SIGTERM, signal.SIGINT)
        before = {number: signal.signal(number, self._on_signal) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop = True


def _accumulation(routine: Routine, ranks: Ranks) -> int:
    batch, together = routine.order.batch, routine.micro_batch * ranks.world
    if batch % together:
        raise TrainingError(
            f"a batch of {batch} samples does not divide among {ranks.world} ranks with "
            f"{routine.micro_batch} samples at a time: make adapt.optimizer.batch a multiple of {together}",
            reason=Reason.BAD_CONFIG,
        )
    return batch // together


def _shared(model: nn.Module, ranks: Ranks) -> nn.Module:
    if ranks.world == 1:
        return model
    devices = [ranks.local_rank] if ranks.device.type == "cuda" else None
    return DistributedDataParallel(model, device_ids=devices, gradient_as_bucket_view=True)
