"""Which sample is trained when: a pure function of seed, epoch and step, with nothing to save.

A run consumes a stream of samples numbered 0, 1, 2, …; step ``s`` of a run with ``batch`` samples a
step takes the numbers ``s * batch … (s + 1) * batch - 1``, however many ranks share them. So a resumed
run, and a run on another number of ranks, see the same samples at the same step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Kind(StrEnum):
    """What a sample learns from."""

    VIDEO = "video"
    LABELLED = "labelled"


@dataclass(frozen=True)
class SampleId:
    """One sample of a run: the ``index``-th of its kind in its epoch."""

    kind: Kind
    epoch: int
    index: int

    def __str__(self) -> str:
        return f"{self.kind.value}:{self.epoch}:{self.index}"

    def rng(self, seed: int) -> np.random.Generator:
        """The sample's own random numbers; no other sample of the run shares them."""
        kind = list(Kind).index(self.kind)
        return np.random.default_rng([seed, kind, self.epoch, self.index])


@dataclass(frozen=True)
class SampleOrder:
    """The stream of samples of a run.

    Attributes:
        per_epoch: video samples in an epoch.
        ratio: video samples for each labelled one (the paper's 30); 0 for no labelled samples.
        batch: samples of one optimiser step, over all ranks.
    """

    per_epoch: int
    ratio: int
    batch: int

    def at(self, number: int) -> SampleId:
        """The sample with a number of the stream."""
        if self.ratio:
            turn, place = divmod(number, self.ratio + 1)
            if place == self.ratio:
                return self._numbered(Kind.LABELLED, turn, max(1, self.per_epoch // self.ratio))
            number -= turn
        return self._numbered(Kind.VIDEO, number, self.per_epoch)

    def step(self, step: int) -> list[SampleId]:
        """All samples of one optimiser step."""
        return [self.at(number) for number in range(step * self.batch, (step + 1) * self.batch)]

    def share(self, step: int, rank: int, world: int) -> list[SampleId]:
        """The part of a step's samples that one rank trains."""
        per_rank = self.batch // world
        return self.step(step)[rank * per_rank : (rank + 1) * per_rank]

    def counts(self, steps: int) -> dict[Kind, int]:
        """How many samples of each kind the first ``steps`` steps take."""
        total = steps * self.batch
        labelled = total // (self.ratio + 1) if self.ratio else 0
        return {Kind.VIDEO: total - labelled, Kind.LABELLED: labelled}

    def steps(self, epochs: int) -> int:
        """Optimiser steps that see every video sample of ``epochs`` epochs."""
        videos = epochs * self.per_epoch
        labelled = videos // self.ratio if self.ratio else 0
        return math.ceil((videos + labelled) / self.batch)

    @staticmethod
    def _numbered(kind: Kind, number: int, per_epoch: int) -> SampleId:
        epoch, index = divmod(number, per_epoch)
        return SampleId(kind, epoch, index)
