"""The training loop: samples in, losses, one optimiser step, one line of metrics, now and then a checkpoint.

It knows nothing of models, shards or losses: those come as :class:`Parts`. All its choices are functions of
seed and step, so that a run that was killed goes on from its newest checkpoint as if nothing had happened.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from enum import StrEnum
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from sage_core.errors import TrainingError
from sage_core.training.average import WeightAverage
from sage_core.training.checkpoints import (
    RunState,
    Trained,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    thin_checkpoints,
)
from sage_core.training.files import write_json
from sage_core.training.journal import Journal
from sage_core.training.loader import Loader
from sage_core.training.metrics import Speed
from sage_core.training.optimisation import (
    build_optimizer,
    clip_gradients,
    learning_rates,
    set_learning_rate,
)
from sage_core.training.parallel import agree_on_buffers, gathered, running_statistics, shared
from sage_core.training.ranks import Ranks
from sage_core.training.routine import Routine
from sage_core.training.step import Parts, Passed, Passes, Terms, looking
from sage_core.types import Reason

T = TypeVar("T")
_SEED_STRIDE = 1_000_003


class Ending(StrEnum):
    """Why the loop ended without an error."""

    FINISHED = "finished"
    STOPPED = "stopped"
    """Asked to, by a signal or by ``until``; a checkpoint was written."""


class Trainer(Generic[T]):
    """One run in one folder."""

    def __init__(self, parts: Parts[T], routine: Routine, folder: Path, ranks: Ranks) -> None:
        """Build the optimiser and take up the newest checkpoint in ``folder``, if there is one.

        Raises:
            TrainingError: the batch cannot be shared out evenly.
            CheckpointError: the newest checkpoint belongs to another run, or is damaged.
        """
        self.parts, self.routine, self.folder, self.ranks = parts, routine, folder, ranks
        routine.check(ranks)
        self.optimizer = build_optimizer(
            parts.groups, betas=routine.betas, weight_decay=routine.weight_decay
        )
        decay = routine.ema_decay
        self.average = WeightAverage(parts.model, decay) if decay else None
        self.state = self._resumed()
        self._passes = Passes(parts, shared(parts.model, ranks), self.average)
        self._speed = Speed(routine.order, ranks, parts.flops, routine.peak_flops)
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
        ids = self.routine.micro_batches(self.state.step, last, self.ranks)
        saved = time.monotonic()
        with (
            closing(Loader(self.parts.sample, ids, self.routine.threads)) as loader,
            self._journal() as journal,
            self._stopping(),
        ):
            batches = iter(loader)
            while self.state.step < last:
                due = self._due(saved)
                stop, save = self._advance(batches, loader, journal, due)
                if save or stop or self.state.step == last:
                    self._save()
                    saved = time.monotonic()
                if stop:
                    break
        return Ending.FINISHED if self.finished else Ending.STOPPED

    def weights(self) -> dict[str, Tensor]:
        """The model's whole state on the first rank, averaged where there is an average; all must call it."""
        tensors = gathered(self.parts.model.state_dict(), self.ranks)
        return tensors | (self.average.gathered(self.ranks) if self.average else {})

    def _journal(self) -> AbstractContextManager[Journal | None]:
        if not self.ranks.first:
            return nullcontext()
        board = self.routine.tensorboard
        return closing(Journal(self.folder, self.state.step, tensorboard=board))

    def _advance(
        self, batches: Iterator[list[T]], loader: Loader[T], journal: Journal | None, due: bool
    ) -> tuple[bool, bool]:
        """One optimiser step; returns whether to stop and whether to save, the same on every rank."""
        started, waited = time.perf_counter(), loader.waited_s
        step = self.state.step
        rate = self.routine.rate.at(step)
        set_learning_rate(self.optimizer, rate)
        torch.manual_seed((self.routine.seed * _SEED_STRIDE + step) * 64 + self.ranks.rank)
        turns, share = self.routine.turns(step, self.ranks), self.routine.share(self.ranks)
        statistics = running_statistics(self.parts.model)
        before = [statistic.clone() for statistic in statistics]
        passed = self._passes.run(islice(batches, turns), share)
        norms = clip_gradients(
            self.parts.groups, self.routine.clip_norm, per_group=self.routine.clip_per_group
        )
        finite = passed.finite and norms["total"] < float("inf")
        bad, stop, save = self.ranks.any([not finite, self._stop, due])
        self._update(bad)
        if bad:
            for statistic, kept in zip(statistics, before, strict=True):
                statistic.copy_(kept)
        line = self._line(step, rate, norms, passed, bad)
        line |= self._speed.line(step, time.perf_counter() - started, loader.waited_s - waited)
        if journal:
            journal.write(line)
        self._draw(step, journal)
        if bad:
            self._judge_skips(step)
        return stop, save

    def _update(self, bad: bool) -> None:
        step = self.state.step
        if not bad:
            self.optimizer.step()
            agree_on_buffers(self.parts.model)
            if self.average:
                self.average.update()
        self.optimizer.zero_grad(set_to_none=True)
        skipped = (*self.state.skipped, step) if bad else self.state.skipped
        self.state = RunState(step + 1, self.routine.fingerprint, skipped)

    def _line(
        self, step: int, rate: float, norms: Terms, passed: Passed, bad: bool
    ) -> dict[str, Any]:
        order = self.routine.order
        line: dict[str, Any] = {
            "step": step,
            "steps": self.routine.rate.steps,
            "epoch": order.at(step * order.batch).epoch,
            "lr": rate,
            "lrs": learning_rates(self.parts.groups, rate),
            "skipped": bad,
        }
        if order.view_counts:
            line["views"] = order.views(step)
        means = passed.terms.means(self.ranks)
        loss = self.ranks.sums([passed.loss])[0] / self.ranks.world
        if bad:
            return {**line, "loss": None, "terms": {}, "grad_norm": None, "grad_norms": {}}
        total = norms.pop("total")
        return {**line, "loss": loss, "terms": means, "grad_norm": total, "grad_norms": norms}

    def _draw(self, step: int, journal: Journal | None) -> None:
        """A picture, on every rank since a model in shares takes them all; the first one keeps it."""
        every = self.routine.render_steps
        if self.parts.picture is None or not every or (step + 1) % every:
            return
        with looking(self.parts.model):
            picture = self.parts.picture(self.parts.model)
        if journal and picture is not None:
            journal.picture(step + 1, picture)

    def _judge_skips(self, step: int) -> None:
        ids = [str(sample) for sample in self.routine.order.step(step)]
        if self.ranks.first:
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

    @property
    def _trained(self) -> Trained:
        return Trained(self.parts.model, self.optimizer, self.average)

    def _resumed(self) -> RunState:
        if self.ranks.first:
            # Frees what a writer that was killed, or met a full disk, left behind.
            thin_checkpoints(self.folder / "checkpoints", self.routine.keep)
        self.ranks.barrier()
        newest = newest_checkpoint(self.folder / "checkpoints")
        if newest is None:
            return RunState(0, self.routine.fingerprint)
        return load_checkpoint(newest, self._trained, self.routine.fingerprint)

    def _save(self) -> None:
        folder = self.folder / "checkpoints"
        save_checkpoint(folder, self._trained, self.state, self.ranks)
        if self.ranks.first:
            thin_checkpoints(folder, self.routine.keep)
        self.ranks.barrier()

    def _due(self, saved: float) -> bool:
        minutes, every = self.routine.checkpoint_minutes, self.routine.checkpoint_steps
        by_time = self.ranks.first and minutes > 0 and time.monotonic() - saved > 60 * minutes
        return by_time or (every > 0 and (self.state.step + 1) % every == 0)

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
