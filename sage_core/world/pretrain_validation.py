"""How good a model is while it is pretrained, and when it is done, on scenes that it is not trained on.

``python -m sage_core.world.pretrain_validation MODEL`` holds it against the answer that needs no picture:
the labelled scenes' mean pointmap, on every test domain.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from torch import Tensor

from sage_core.models import MVDust3r, load_model
from sage_core.world.domains import DOMAINS, TEST_DOMAINS, domain_batch
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
    """Held-out scenes, and the error of always answering the labelled scenes' mean pointmap.

    Args:
        views: of a tuple, the reference first.
        domains: by default the labelled one and the one to choose by.
        tuples: of each, the first of the domain's test or validation split.
    """

    def __init__(
        self, views: int, domains: tuple[str, ...] = ("labelled", "choice"), tuples: int = _TUPLES
    ) -> None:
        self.sets = {name: _held_out(name, views, tuples) for name in domains}
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


def _held_out(domain: str, views: int, tuples: int) -> tuple[Tensor, Tensor]:
    split = "test" if domain in TEST_DOMAINS else "validation"
    seeds = list(SPLITS[split][:tuples])
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


def main() -> None:
    """Print a table: error of the model and of the mean pointmap by domain and number of views."""
    parser = argparse.ArgumentParser(description="Hold a model against the mean pointmap.")
    parser.add_argument("model", help="name or weights file")
    parser.add_argument("--views", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--tuples", type=int, default=64, help="of each domain")
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    if not isinstance(model, MVDust3r):
        raise SystemExit(
            f"{arguments.model} is no MV-DUSt3R: the other models are not pretrained here"
        )
    print("| views | domain | error | mean pointmap |\n| --- | --- | --- | --- |")
    for views in arguments.views:
        held_out = Validation(views, ("choice", *TEST_DOMAINS), arguments.tuples)
        for name, error in held_out(model).items():
            print(f"| {views} | {name} | {error:.3f} | {held_out.baseline[name]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
