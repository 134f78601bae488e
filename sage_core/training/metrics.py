"""Figures of a step, gathered over samples and ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from sage_core.training.order import SampleOrder
from sage_core.training.ranks import Ranks


@dataclass
class TermSums:
    """Loss terms summed over the samples of a step, each with the number of samples that had it."""

    names: tuple[str, ...]
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, terms: Mapping[str, float]) -> None:
        """Count one sample's terms."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self, ranks: Ranks) -> dict[str, float]:
        """Mean of each term over the samples of all ranks that had it."""
        sums = ranks.sums([self.sums.get(name, 0.0) for name in self.names])
        counts = ranks.sums([float(self.counts.get(name, 0)) for name in self.names])
        return {
            name: total / count
            for name, total, count in zip(self.names, sums, counts, strict=True)
            if count
        }


@dataclass(frozen=True)
class Speed:
    """How fast a step was.

    Attributes:
        flops: context views (0: as set) → the model's operations on one sample, forward and backward; what
            is computed again for checkpointing, rendering and losses do not count.
        peak: operations a second that one rank's device could do.
    """

    order: SampleOrder
    ranks: Ranks
    flops: Callable[[int], float | None] | None = None
    peak: float | None = None

    def line(self, step: int, seconds: float, waited: float) -> dict[str, float | None]:
        """Its part of a line of metrics; ``mfu`` is None where operations or peak are not known."""
        mfu = self._mfu(step, seconds)
        return {
            "samples_per_s": round(self.order.batch / seconds, 3),
            "mfu": None if mfu is None else round(mfu, 4),
            "data_wait_share": round(min(1.0, waited / seconds), 4),
            "memory_mb": round(memory_mb(self.ranks.device), 1),
            "seconds": round(seconds, 4),
        }

    def _mfu(self, step: int, seconds: float) -> float | None:
        if self.flops is None or self.peak is None:
            return None
        flops = self.flops(self.order.views(step))
        if flops is None:
            return None
        return self.order.batch * flops / (seconds * self.ranks.world * self.peak)


def memory_mb(device: torch.device) -> float:
    """Peak memory: of the device on CUDA, of this process (resident) on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
