"""How good a model is while it is pretrained, on scenes that it is not trained on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from sage_core.models import MVDust3r
from sage_core.world.domains import DOMAINS, domain_batch
from sage_core.world.pretrain_losses import (
    as_input,
    mean_error,
    normalised,
    predict_points,
    true_points,
    without_skip,
)
from sage_core.world.rooms import SPLITS

SIZE = 64
"""Side of the pictures in pixels."""
_TUPLES = 32


class Validation:
    """Held-out scenes, labelled ones and those to choose by, and the error of always answering the labelled
    scenes' mean pointmap.
    """

    def __init__(self, views: int) -> None:
        self.sets = {name: _held_out(name, views) for name in ("labelled", "choice")}
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
    errors = [
        mean_error(predict_points(model, x[None].to(model.device))[0].cpu(), y[None])
        for x, y in pairs
    ]
    return float(np.mean(errors))


def _held_out(domain: str, views: int) -> tuple[Tensor, Tensor]:
    seeds = list(SPLITS["validation"][:_TUPLES])
    batch = domain_batch(DOMAINS[domain], seeds, views, SIZE)
    return as_input(batch.images), true_points(batch)


def _mean_pointmap(views: int) -> Tensor:
    """Mean over other labelled scenes of the normalised pointmaps: [1, V, H, W, 3], one map for sources."""
    seeds = list(SPLITS["validation"][1000:1128])
    scenes = domain_batch(DOMAINS["labelled"], seeds, views, SIZE, smooth_edges=False)
    truth = true_points(scenes)
    mean = normalised(truth).mean(dim=0, keepdim=True)
    mean[:, 1:] = mean[:, 1:].mean(dim=1, keepdim=True)
    return mean
