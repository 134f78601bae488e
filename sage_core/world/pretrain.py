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
from sage_core.losses import (
    RenderedViews,
    RenderingOptions,
    mean_distance,
    normalised_errors,
    rendering_loss,
    supervised_loss,
)
from sage_core.models import Gaussians, MVDust3r, build_model, save_model
from sage_core.world.rooms import SPLITS, RoomBatch, room_batch

SIZE = 64
SEED = 20260
_CHECKPOINT_S = 60.0
_VALIDATION_S = 90.0
_VALIDATION_TUPLES = 32


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


def true_points(batch: RoomBatch) -> Tensor:
    """Pointmaps in view 0's frame, float32 [B, V, H, W, 3], metres."""
    pose = batched.relative(batch.cam_from_world, batch.cam_from_world[:, :1])
    return batched.pointmap(batch.depth.double(), batch.intrinsics, batched.invert(pose)).float()


def everywhere(points: Tensor) -> Tensor:
    """The mask of pointmaps that have a point in every pixel, as rooms' do."""
    return torch.ones(points.shape[:-1], dtype=torch.bool)


def normalised(points: Tensor) -> Tensor:
    """Pointmaps at mean distance 1 from the reference camera."""
    return points / mean_distance(points, everywhere(points)).view(-1, 1, 1, 1, 1)


def mean_error(points: Tensor, truth: Tensor) -> float:
    """Mean distance of the normalised pointmaps."""
    return float(normalised_errors(points, truth, everywhere(truth)).mean())


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
    return points_of(model, tokens_of(model, images), 2 * images - 1)


def tokens_of(model: MVDust3r, images: Tensor) -> Tensor:
    """The trunk's answer [B, V, N, D] for images in 0..1."""
    grid = (images.shape[-2] // model.patch_size, images.shape[-1] // model.patch_size)
    return model.decode(model.encode(2 * images - 1), 1, grid)


def points_of(model: MVDust3r, tokens: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """The point heads' answer; images in -1..1."""
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
            name: mean_error(mean.expand_as(truth), truth) for name, (_, truth) in self.sets.items()
        }

    @torch.no_grad()
    def __call__(self, model: MVDust3r) -> dict[str, float]:
        model.eval()
        with without_skip(model):
            return {name: _mean_error_on(model, *held_out) for name, held_out in self.sets.items()}


def _mean_error_on(model: MVDust3r, images: Tensor, truth: Tensor) -> float:
    pairs = zip(images, truth, strict=True)
    errors = [mean_error(predict_points(model, x[None])[0], y[None]) for x, y in pairs]
    return float(np.mean(errors))


def _held_out(family: str, views: int) -> tuple[Tensor, Tensor]:
    seeds = list(SPLITS["validation"][:_VALIDATION_TUPLES])
    batch = room_batch(seeds, views, SIZE, family)
    return as_input(batch.images), true_points(batch)


def _mean_pointmap(views: int) -> Tensor:
    """Mean over other rooms of P of the normalised pointmaps: [1, V, H, W, 3], one map for sources."""
    seeds = list(SPLITS["validation"][1000:1128])
    truth = true_points(room_batch(seeds, views, SIZE, "P", smooth_edges=False))
    mean = normalised(truth).mean(dim=0, keepdim=True)
    mean[:, 1:] = mean[:, 1:].mean(dim=1, keepdim=True)
    return mean


class Pretraining:
    """The model, its optimiser and how far they are, in a folder."""

    def __init__(self, out: Path, minutes: float) -> None:
        self.out, self.minutes = out, minutes
        model = build_model("mini", SEED)
        assert isinstance(model, MVDust3r)  # the phases below train its parts by themselves
        self.model = model
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
            loss, psnr = splat_loss(self.model, self._rooms(GAUSSIANS, extra=1))
            self._descend(loss, GAUSSIANS.batch)
            losses.append(float(loss.detach()))
            quality.append(psnr)
            now = time.process_time()
            self.progress.seconds += now - begin
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

    def _rooms(self, phase: Phase, extra: int = 0) -> RoomBatch:
        first = SPLITS["train"][self.progress.samples]
        seeds = list(range(first, first + phase.batch))
        return room_batch(seeds, phase.views + extra, SIZE, "P", smooth_edges=False)

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
        self._set_rate(phase, share)
        batch = self._rooms(phase)
        generator = torch.Generator().manual_seed(SPLITS["train"][self.progress.samples])
        images, truth = jittered(as_input(batch.images), generator), true_points(batch)
        self.model.train()
        with without_skip(self.model):
            points, conf = predict_points(self.model, images)
            loss = supervised_loss(points, conf, truth, everywhere(truth))
        self._descend(loss, phase.batch)
        return float(loss.detach())

    def _set_rate(self, phase: Phase, share: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(phase, share)

    def _descend(self, loss: Tensor, samples: int) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.progress.step += 1
        self.progress.samples += samples

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


def splat_loss(model: MVDust3r, batch: RoomBatch) -> tuple[Tensor, float]:
    """Rendering loss of the Gaussian head alone, and the PSNR (dB) of the target views.

    All views but the last are the model's; the first and the last are rendered, with true cameras brought to
    the scale of the prediction. Trunk and pointmaps are given and get no gradient.
    """
    images, truth = as_input(batch.images), true_points(batch)
    context = images[:, :-1]
    with torch.no_grad():
        tokens = tokens_of(model, context)
        points, _ = points_of(model, tokens, 2 * context - 1)
    pose = batched.relative(batch.cam_from_world, batch.cam_from_world[:, :1])
    seen, shown = truth[:, :-1], [0, -1]
    views = RenderedViews(
        images[:, shown],
        pose.float()[:, shown],
        batch.intrinsics.float()[:, shown],
        mean_distance(seen, everywhere(seen)),
    )
    terms = rendering_loss(
        points,
        gaussians_of(model, tokens, context),
        context,
        mean_distance(points, everywhere(points)),
        views,
        RenderingOptions(gradient="all"),
    )
    error = (terms.rendered[:, -1].detach().clamp(0, 1) - images[:, -1]).square().mean()
    return terms.total(0.0).mean(), -10 * math.log10(float(error))


def gaussians_of(model: MVDust3r, tokens: Tensor, images: Tensor) -> Gaussians:
    """What the Gaussian head makes of the tokens, with gradient."""
    grid = (images.shape[-2] // model.patch_size, images.shape[-1] // model.patch_size)
    first = model.downstream_GS_head[0](tokens[:, 0], grid)
    rest = model.downstream_GS_head[1](tokens[:, 1:].flatten(0, 1), grid)
    shape = (len(tokens), -1)
    opacity, scale, rotation, colour = (
        torch.cat((a[:, None], b.unflatten(0, shape)), dim=1)
        for a, b in zip(first, rest, strict=True)
    )
    return Gaussians(opacity, scale, rotation, colour)


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
        "phases": [vars(phase) for phase in (*PHASES, GAUSSIANS)],
    }
    save_model(run.model, arguments.out / "mini.safetensors", provenance=provenance)


if __name__ == "__main__":
    main()
