"""Pretraining of the small base model on labelled scenes: ``python -m sage_core.world.pretrain``.

Pointmaps first, with two, four, then eight views, since matching across views is what a model learns
last; then the Gaussian head alone, by rendering. Data are made on the fly. Killed at any moment, the
same command goes on from the last checkpoint. On several cores, one process each (gradients averaged):

    python -m torch.distributed.run --nproc-per-node 2 -m sage_core.world.pretrain --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, distributed, nn

from sage_core.losses import supervised_loss
from sage_core.models import MVDust3r, build_model, save_model
from sage_core.training.ending import leave
from sage_core.training.ranks import Ranks, joined
from sage_core.world.domains import DOMAINS, domain_batch
from sage_core.world.pretrain_losses import (
    as_input,
    everywhere,
    jittered,
    predict_points,
    splat_loss,
    true_points,
    without_skip,
)
from sage_core.world.pretrain_validation import SIZE, Validation
from sage_core.world.rooms import SPLITS, RoomBatch

ALONE = Ranks(0, 1, 0, torch.device("cpu"))
_LABELLED = DOMAINS["labelled"]
SEED = 20260
_CHECKPOINT_S = 60.0
_VALIDATION_S = 90.0


@dataclass(frozen=True)
class Phase:
    """A stretch of pretraining: its share of the time, views and samples a step, peak learning rate."""

    name: str
    share: float
    views: int
    batch: int
    lr: float


GAUSSIANS = Phase("gaussian head", 0.15, 4, 2, 1e-3)
"""Its share of the time comes on top of the pointmaps'."""
PHASES = (
    Phase("2 views", 0.40, 2, 8, 1.5e-3),
    Phase("4 views", 0.42, 4, 8, 1e-3),
    Phase("8 views", 0.18, 8, 4, 5e-4),
)


@dataclass
class Progress:
    """How far pretraining has come; saved with the weights."""

    phase: int = 0
    step: int = 0
    seconds: float = 0.0
    """Of the processor, spent in the present phase: a busy machine must not cut a phase short."""
    samples: int = 0


def learning_rate(phase: Phase, share: float) -> float:
    """Linear warm-up over the first twentieth, then half a cosine to a hundredth."""
    if share < 0.05:
        return phase.lr * (0.02 + share / 0.05)
    return phase.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (min(share, 1) - 0.05) / 0.95)))


class Pretraining:
    """The model, its optimiser and how far they are, in a folder.

    ``minutes`` are those of one process's pointmaps; ``wider`` multiplies the samples of a step, for GPUs.
    """

    def __init__(self, out: Path, minutes: float, ranks: Ranks = ALONE, wider: int = 1) -> None:
        self.out, self.minutes, self.ranks, self.wider = out, minutes, ranks, wider
        model = build_model("mini", SEED)
        assert isinstance(model, MVDust3r)  # the phases below train its parts by themselves
        self.model = model.to(ranks.device)
        self.model.licence = "Apache-2.0"
        self.progress = Progress()
        self.optimiser = self._fresh_optimiser()
        out.mkdir(parents=True, exist_ok=True)
        self._resume()

    def _fresh_optimiser(self) -> torch.optim.AdamW:
        wide = [p for p in self.model.parameters() if p.requires_grad and p.ndim > 1]
        narrow = [p for p in self.model.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": wide, "weight_decay": 0.05}, {"params": narrow, "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))

    def run(self) -> None:
        """All phases of pointmap pretraining, to the end."""
        while self.progress.phase < len(PHASES):
            phase = PHASES[self.progress.phase]
            with_time = self.minutes * 60 * phase.share
            self._run_phase(phase, with_time)
            self._next_phase()
        if self.progress.phase == len(PHASES):
            self._run_gaussians(self.minutes * 60 * GAUSSIANS.share)
            self._next_phase()

    def _next_phase(self) -> None:
        self.progress.phase += 1
        self.progress.seconds, self.progress.step = 0.0, 0
        self.optimiser = self._fresh_optimiser()
        self.save()

    def _run_gaussians(self, limit_s: float) -> None:
        """Train the Gaussian head on frozen pointmaps."""
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self.model.group_of(name) == "gaussian_head")
        self.model.eval()
        saved, losses, quality = time.process_time(), [], []
        while self.progress.seconds < limit_s:
            begin = time.process_time()
            self._set_rate(GAUSSIANS, self.progress.seconds / limit_s)
            loss, psnr = splat_loss(self.model, self._scenes(GAUSSIANS, extra=1))
            self._descend(loss, GAUSSIANS)
            losses.append(float(loss.detach()))
            quality.append(psnr)
            now = self._spent(begin)
            if now - saved > _CHECKPOINT_S:
                self._log_gaussians(losses, quality)
                losses, quality = [], []
                self.save()
                saved = time.process_time()
        self._log_gaussians(losses, quality)
        self.model.requires_grad_(True)

    def _log_gaussians(self, losses: list[float], quality: list[float]) -> None:
        """Both are of rooms that no step has seen before: a measure and a loss in one."""
        if losses:
            self._log(
                phase=GAUSSIANS.name,
                step=self.progress.step,
                seconds=round(self.progress.seconds, 1),
                loss=float(np.mean(losses)),
                target_psnr=float(np.mean(quality)),
            )

    def _scenes(self, phase: Phase, extra: int = 0) -> RoomBatch:
        count = phase.batch * self.wider
        first = SPLITS["train"][self.progress.samples + self.ranks.rank * count]
        seeds = list(range(first, first + count))
        batch = domain_batch(
            _LABELLED,
            seeds,
            phase.views + extra,
            SIZE,
            smooth_edges=False,
            device=self.ranks.device,
        )
        return batch.to(self.ranks.device)

    def _spent(self, begin: float) -> float:
        """Count the time since ``begin``, the mean over all processes, so that all stop together."""
        now = time.process_time()
        self.progress.seconds += self.ranks.sums([now - begin])[0] / self.ranks.world
        return now

    def _run_phase(self, phase: Phase, limit_s: float) -> None:
        validation = Validation(phase.views)
        self._log(phase=phase.name, mean_pointmap=validation.baseline)
        saved = validated = time.process_time()
        losses: list[float] = []
        while self.progress.seconds < limit_s:
            begin = time.process_time()
            losses.append(self._step(phase, self.progress.seconds / limit_s))
            now = self._spent(begin)
            if self.ranks.first and now - validated > _VALIDATION_S:
                self._validate(phase, validation, losses)
                validated, losses = time.process_time(), []
            if now - saved > _CHECKPOINT_S:
                self.save()
                saved = time.process_time()
        self._validate(phase, validation, losses)

    def _step(self, phase: Phase, share: float) -> float:
        self._set_rate(phase, share)
        batch = self._scenes(phase)
        drawn = self.progress.samples + self.ranks.rank * phase.batch * self.wider
        generator = torch.Generator().manual_seed(SPLITS["train"][drawn])
        images, truth = jittered(as_input(batch.images), generator), true_points(batch)
        self.model.train()
        with without_skip(self.model):
            points, conf = predict_points(self.model, images)
            loss = supervised_loss(points, conf, truth, everywhere(truth))
        self._descend(loss, phase)
        return float(loss.detach())

    def _set_rate(self, phase: Phase, share: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(phase, share)

    def _descend(self, loss: Tensor, phase: Phase) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._average_gradients()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.progress.step += 1
        self.progress.samples += phase.batch * self.wider * self.ranks.world

    def _average_gradients(self) -> None:
        if self.ranks.world == 1:
            return
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        sizes = [gradient.numel() for gradient in gradients]
        parts = torch.split(flat / self.ranks.world, sizes)
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def _validate(self, phase: Phase, validation: Validation, losses: list[float]) -> None:
        self._log(
            phase=phase.name,
            step=self.progress.step,
            samples=self.progress.samples,
            seconds=round(self.progress.seconds, 1),
            loss=float(np.mean(losses)) if losses else None,
            error=validation(self.model),
        )

    def _log(self, **row: Any) -> None:
        if not self.ranks.first:
            return
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def save(self) -> None:
        """Weights, optimiser and progress in one file, whole or not at all."""
        if not self.ranks.first:
            return
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "progress": vars(self.progress),
        }
        partial = self.out / "state.partial"
        torch.save(state, partial)
        partial.replace(self.out / "state.pt")

    def _resume(self) -> None:
        path = self.out / "state.pt"
        if path.exists():
            state = torch.load(path, weights_only=True, map_location=self.ranks.device)
            self.model.load_state_dict(state["model"])
            self.optimiser.load_state_dict(state["optimiser"])
            self.progress = Progress(**state["progress"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Pretrain the small base model on rooms.")
    parser.add_argument("--out", type=Path, required=True, help="folder of checkpoints and log")
    parser.add_argument(
        "--minutes", type=float, default=45, help="processor minutes for the pointmaps"
    )
    parser.add_argument("--wider", type=int, default=1, help="times as many samples a step (GPUs)")
    arguments = parser.parse_args()
    with joined("auto", 1) as ranks:
        run = Pretraining(arguments.out, arguments.minutes, ranks, arguments.wider)
        run.run()
        if ranks.first:
            _publish(run, arguments.minutes)
    leave(0)


def _publish(run: Pretraining, minutes: float) -> None:
    given = f"--minutes {minutes:g}" + (f" --wider {run.wider}" if run.wider > 1 else "")
    provenance = {
        "made_by": f"python -m sage_core.world.pretrain {given}, {run.ranks.world} processes",
        "data": "domain 'labelled' of the procedural world, train split",
        "samples": run.progress.samples,
        "phases": [vars(phase) for phase in (*PHASES, GAUSSIANS)],
    }
    save_model(run.model.cpu(), run.out / "mini.safetensors", provenance=provenance)


if __name__ == "__main__":
    main()
