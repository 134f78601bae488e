"""What is trained and how: parameter groups, AdamW, learning rate, clipping."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import AdamW

from sage_core.training.parallel import local, squared_norms
from sage_core.training.schedule import lr_share


@dataclass(frozen=True)
class LearningRate:
    """The schedule of a run: peak, last value, and lengths in optimiser steps."""

    peak: float
    last: float
    warmup: int
    steps: int

    def at(self, step: int) -> float:
        """Learning rate of a step (0-based)."""
        return self.peak * lr_share(step, self.steps, self.warmup, self.last / self.peak)


@dataclass(frozen=True)
class TrainedGroup:
    """Parameters with one name and one learning-rate factor."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    lr_factor: float = 1.0


def build_optimizer(
    groups: Sequence[TrainedGroup], *, betas: tuple[float, float], weight_decay: float
) -> AdamW:
    """AdamW over the groups; tensors of one dimension (biases, norms) are not decayed."""
    options = []
    for group in groups:
        for decay, wanted in ((weight_decay, True), (0.0, False)):
            chosen = [p for p in group.parameters if (p.ndim > 1) is wanted]
            if chosen:
                options.append(
                    {"params": chosen, "weight_decay": decay, "lr_factor": group.lr_factor}
                )
    return AdamW(options, lr=0.0, betas=betas, eps=1e-8)


def learning_rates(groups: Sequence[TrainedGroup], rate: float) -> dict[str, float]:
    """Learning rate of each group, by name."""
    return {group.name: rate * group.lr_factor for group in groups}


def set_learning_rate(optimizer: AdamW, rate: float) -> None:
    """Give every group the rate times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["lr_factor"]


def clip_gradients(
    groups: Sequence[TrainedGroup], limit: float, *, per_group: bool
) -> dict[str, float]:
    """Scale gradients down to an L2 norm of at most ``limit``; 0 switches it off.

    ``per_group`` limits each group by itself, else all of them together. Returns the norms before
    clipping by group name, and of all under ``total``; a gradient that is not finite shows there.
    """
    squares = squared_norms([group.parameters for group in groups])
    total = squares.sum().sqrt()
    for group, norm in zip(groups, squares.sqrt(), strict=True):
        _scale(group.parameters, norm if per_group else total, limit)
    norms = squares.sqrt().tolist()
    return {**dict(zip([g.name for g in groups], norms, strict=True)), "total": float(total)}


def _scale(parameters: Iterable[nn.Parameter], norm: Tensor, limit: float) -> None:
    if not limit or float(norm) <= limit:
        return
    for parameter in parameters:
        if parameter.grad is not None:
            local(parameter.grad).mul_(limit / norm)
