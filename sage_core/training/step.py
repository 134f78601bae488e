"""The passes of one optimiser step: micro-batches forward and backward, gradients added up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sage_core.training.average import WeightAverage
from sage_core.training.metrics import TermSums
from sage_core.training.optimisation import TrainedGroup
from sage_core.training.order import SampleId
from sage_core.training.parallel import exchanging

T = TypeVar("T")
Terms = dict[str, float]


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
        teach: (model with averaged weights, samples) → the samples with what that model says of them.
        picture: model → uint8 [H, W, 3] RGB to look at now and then, or None where there is nothing to see.
        flops: context views (0: as set) → operations of one sample, forward and backward.
    """

    model: nn.Module
    groups: Sequence[TrainedGroup]
    sample: Callable[[SampleId], T]
    losses: Callable[[nn.Module, list[T]], tuple[Tensor, list[Terms]]]
    terms: tuple[str, ...]
    teach: Callable[[nn.Module, list[T]], list[T]] | None = None
    picture: Callable[[nn.Module], NDArray[np.uint8] | None] | None = None
    flops: Callable[[int], float | None] | None = None


@dataclass
class Passed:
    """What the passes of one step gave on this rank, besides gradients."""

    terms: TermSums
    loss: float = 0.0
    finite: bool = True


@dataclass
class Passes(Generic[T]):
    """Takes micro-batches forward and backward."""

    parts: Parts[T]
    forward: nn.Module
    average: WeightAverage | None = None

    def run(self, batches: Iterable[list[T]], samples: int) -> Passed:
        """Add up the gradients of the mean loss over this rank's ``samples`` samples."""
        passed, seen = Passed(TermSums(self.parts.terms)), 0
        for batch in batches:
            taught = self._taught(batch)
            seen += len(batch)
            with exchanging(self.forward, seen == samples):
                loss, terms = self.parts.losses(self.forward, taught)
                # Also when it is not finite: every rank must take part in the gradients' exchange.
                torch.autograd.backward(loss * (len(batch) / samples))
            value = float(loss.detach())
            passed.finite = passed.finite and abs(value) < float("inf")
            passed.loss += value * len(batch) / samples
            for sample_terms in terms:
                passed.terms.add(sample_terms)
        return passed

    def _taught(self, batch: list[T]) -> list[T]:
        if self.parts.teach is None or self.average is None:
            return batch
        # Before the model's own forward pass: the average takes its weights' place in memory.
        with self.average.swapped(), looking(self.parts.model):
            return self.parts.teach(self.parts.model, batch)


@contextmanager
def looking(model: nn.Module) -> Iterator[None]:
    """Without gradients and in evaluation mode, so that nothing of the training changes."""
    mode = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(mode)
