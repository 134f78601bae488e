"""Pretraining of the small base model on rooms of family P: ``python -m sage_core.world.pretrain``.

Pointmaps first, with two, four, then eight views, since matching across views is what a model learns
last; then the Gaussian head alone, by rendering. Data are made on the fly. Killed at any moment, the
same command goes on from the last checkpoint.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sage_core.geometry import batched
from sage_core.models import MVDust3r, build_model, save_model
from sage_core.world.rooms import SPLITS, RoomBatch, room_batch

SIZE = 64
SEED = 20260
_CHECKPOINT_S = 60.0
_VALIDATION_S = 90.0
_VALIDATION_TUPLES = 32
_ALPHA = 0.2


@dataclass(frozen=True)
class Phase:
    """A stretch of pretraining: its share of the time, views and samples a step, peak learning rate."""

    name: str
    share: float
    views: int
    batch: int
    lr: float


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


def true_points(batch: RoomBatch) -> Tensor:
    """Pointmaps in view 0's frame, float32 [B, V, H, W, 3], metres."""
    pose = batched.relative(batch.cam_from_world, batch.cam_from_world[:, :1])
    return batched.pointmap(batch.depth.double(), batch.intrinsics, batched.invert(pose)).float()


def mean_distance(points: Tensor) -> Tensor:
    """Mean distance from the reference camera over all views, [B, 1, 1, 1, 1]."""
    distance = torch.linalg.vector_norm(points, dim=-1).mean(dim=(1, 2, 3))
    return distance.clamp(min=1e-8)[:, None, None, None, None]


def normalised_error(points: Tensor, truth: Tensor) -> Tensor:
    """Distance per pixel [B, V, H, W] after dividing each cloud by its own mean distance."""
    difference = points / mean_distance(points) - truth / mean_distance(truth)
    return torch.linalg.vector_norm(difference, dim=-1)


def pointmap_loss(points: Tensor, conf: Tensor, truth: Tensor) -> Tensor:
    """Confidence-weighted regression: the reference's mean plus the sum of the sources' means.

    DUSt3R's ConfLoss with alpha 0.2 over the scale-normalised error, as MV-DUSt3R trains.
    """
    weighted = conf * normalised_error(points, truth) - _ALPHA * conf.log()
    return weighted.mean(dim=(0, 2, 3)).sum()


class _NoSkip(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return torch.zeros_like(features[:, :3])


@contextmanager
def without_skip(model: MVDust3r) -> Iterator[None]:
    """Leave out the point heads' convolutional branch: zero at its start, yet 40 % of the time."""
    heads = (model.downstream_head1, model.downstream_head2)
    kept = [head.skip_proj for head in heads]
    for head in heads:
        head.skip_proj = _NoSkip()  # type: ignore[assignment]
    try:
        yield
    finally:
        for head, branch in zip(heads, kept, strict=True):
            head.skip_proj = branch


def predict_points(model: MVDust3r, images: Tensor) -> tuple[Tensor, Tensor]:
    """Points and confidence without the Gaussians, which this phase does not need."""
    images = 2 * images - 1
    grid = (images.shape[-2] // model.patch_size, images.shape[-1] // model.patch_size)
    tokens = model.decode(model.encode(images), 1, grid)
    first = model.downstream_head1(tokens[:, 0], images[:, 0])
    rest = model.downstream_head2(tokens[:, 1:].flatten(0, 1), images[:, 1:].flatten(0, 1))
    shape = (len(images), images.shape[1] - 1)
    points, conf = (
        torch.cat((a[:, None], b.unflatten(0, shape)), dim=1)
        for a, b in zip(first, rest, strict=True)
    )
    return points, conf


def as_input(images: Tensor) -> Tensor:
    """uint8 [B, V, H, W, 3] to float [B, V, 3, H, W] in 0..1."""
    return images.permute(0, 1, 4, 2, 3).float() / 255


def jittered(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each view with its own exposure, contrast and white balance."""
    shape = (*images.shape[:2], 1, 1, 1)
    gain = 1 + 0.5 * (torch.rand(shape, generator=generator) - 0.5)
    contrast = 1 + 0.4 * (torch.rand(shape, generator=generator) - 0.5)
    balance = 1 + 0.2 * (torch.rand((*images.shape[:2], 3, 1, 1), generator=generator) - 0.5)
    middle = images.mean(dim=(2, 3, 4), keepdim=True)
    return (((images - middle) * contrast + middle) * gain * balance).clamp(0, 1)


def draw(progress: Progress, phase: Phase) -> tuple[Tensor, Tensor]:
    """The step's images and true points, from seeds that no other step has."""
    first = SPLITS["train"][progress.samples]
    batch = room_batch(
        list(range(first, first + phase.batch)), phase.views, SIZE, "P", smooth_edges=False
    )
    generator = torch.Generator().manual_seed(first)
    return jittered(as_input(batch.images), generator), true_points(batch)


def learning_rate(phase: Phase, share: float) -> float:
    """Linear warm-up over the first twentieth, then half a cosine to a hundredth."""
    if share < 0.05:
        return phase.lr * (0.02 + share / 0.05)
    return phase.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (min(share, 1) - 0.05) / 0.95)))


class Validation:
    """Held-out rooms of both families, and the error of always answering P's mean pointmap."""

    def __init__(self, views: int) -> None:
        self.sets = {name: _held_out(name, views) for name in ("P", "V")}
        mean = _mean_pointmap(views)
        self.baseline = {
            name: float(normalised_error(mean.expand_as(truth), truth).mean())
            for name, (_, truth) in self.sets.items()
        }

    @torch.no_grad()
    def __call__(self, model: MVDust3r) -> dict[str, float]:
        model.eval()
        with without_skip(model):
            return {
                name: float(
                    np.mean(
                        [
                            float(
                                normalised_error(predict_points(model, x[None])[0], y[None]).mean()
                            )
                            for x, y in zip(images, truth, strict=True)
                        ]
                    )
                )
                for name, (images, truth) in self.sets.items()
            }


def _held_out(family: str, views: int) -> tuple[Tensor, Tensor]:
    seeds = list(SPLITS["validation"][:_VALIDATION_TUPLES])
    batch = room_batch(seeds, views, SIZE, family)
    return as_input(batch.images), true_points(batch)


def _mean_pointmap(views: int) -> Tensor:
    """Mean over other rooms of P of the normalised pointmaps: [1, V, H, W, 3], one map for sources."""
    seeds = list(SPLITS["validation"][1000:1128])
    truth = true_points(room_batch(seeds, views, SIZE, "P", smooth_edges=False))
    mean = (truth / mean_distance(truth)).mean(dim=0, keepdim=True)
    mean[:, 1:] = mean[:, 1:].mean(dim=1, keepdim=True)
    return mean


class Pretraining:
    """The model, its optimiser and how far they are, in a folder."""

    def __init__(self, out: Path, minutes: float) -> None:
        self.out, self.minutes = out, minutes
        self.model = build_model("mini", SEED)
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
            self.progress.phase += 1
            self.progress.seconds, self.progress.step = 0.0, 0
            self.optimiser = self._fresh_optimiser()
            self.save()

    def _run_phase(self, phase: Phase, limit_s: float) -> None:
        validation = Validation(phase.views)
        self._log(phase=phase.name, mean_pointmap=validation.baseline)
        saved = validated = time.process_time()
        losses: list[float] = []
        while self.progress.seconds < limit_s:
            begin = time.process_time()
            losses.append(self._step(phase, self.progress.seconds / limit_s))
            now = time.process_time()
            self.progress.seconds += now - begin
            if now - validated > _VALIDATION_S:
                self._validate(phase, validation, losses)
                validated, losses = time.process_time(), []
            if now - saved > _CHECKPOINT_S:
                self.save()
                saved = time.process_time()
        self._validate(phase, validation, losses)

    def _step(self, phase: Phase, share: float) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(phase, share)
        images, truth = draw(self.progress, phase)
        self.model.train()
        with without_skip(self.model):
            loss = pointmap_loss(*predict_points(self.model, images), truth)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.progress.step += 1
        self.progress.samples += phase.batch
        return float(loss.detach())

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
        with (self.out / "log.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")

    def save(self) -> None:
        """Weights, optimiser and progress in one file, whole or not at all."""
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
            state = torch.load(path, weights_only=True)
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
    arguments = parser.parse_args()
    run = Pretraining(arguments.out, arguments.minutes)
    run.run()
    provenance = {
        "made_by": f"python -m sage_core.world.pretrain --minutes {arguments.minutes:g}",
        "data": "procedural rooms of family P, train split",
        "samples": run.progress.samples,
        "phases": [vars(phase) for phase in PHASES],
    }
    save_model(run.model, arguments.out / "mini.safetensors", provenance=provenance)


if __name__ == "__main__":
    main()
