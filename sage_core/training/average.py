"""An exponential moving average of the weights that train."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sage_core.training.parallel import drop_whole_weights, gathered, local, scattered
from sage_core.training.ranks import Ranks


class WeightAverage:
    """``average ← decay · average + (1 - decay) · weight`` after each step, from the base weights on.

    Only what trains has an average of its own; the rest is the model's.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay = model, decay
        self._weights = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        self._average = {name: weight.clone() for name, weight in self._weights.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they stand."""
        average, weights = self._parts()
        torch._foreach_lerp_(average, weights, 1 - self._decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model computes with the average inside. No backward pass may be pending: values are
        exchanged in place.
        """
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def gathered(self, ranks: Ranks) -> dict[str, Tensor]:
        """Whole tensors by parameter name, on the first rank."""
        return gathered(self._average, ranks)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """The inverse of :meth:`gathered`, on every rank."""
        for name, mine in self._average.items():
            mine.copy_(scattered(tensors[name], mine))

    @torch.no_grad()
    def _swap(self) -> None:
        for mine, weight in zip(*self._parts(), strict=True):
            kept = weight.clone()
            weight.copy_(mine)
            mine.copy_(kept)
        drop_whole_weights(self._model)

    def _parts(self) -> tuple[list[Tensor], list[Tensor]]:
        names = list(self._average)
        return [local(self._average[n]) for n in names], [local(self._weights[n]) for n in names]
