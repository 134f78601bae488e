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

_VIEWS = 2_000
"""Keeps the draws of view counts apart from all others of a seed."""


class Kind(StrEnum):
    """What a sample learns from."""

    VIDEO = "video"
    LABELLED = "labelled"


@dataclass(frozen=True)
class SampleId:
    """One sample of a run: the ``index``-th of its kind in its epoch, with so many context views.

    ``views`` is 0 where the number of views is not drawn, but the settings'.
    """

    kind: Kind
    epoch: int
    index: int
    views: int = 0

    def __str__(self) -> str:
        name = f"{self.kind.value}:{self.epoch}:{self.index}"
        return f"{name}:{self.views}" if self.views else name

    def rng(self, seed: int) -> np.random.Generator:
        """The sample's own random numbers; no other sample of the run shares them."""
        kind = list(Kind).index(self.kind)
        return np.random.default_rng([seed, kind, self.epoch, self.index])


@dataclass(frozen=True)
class ViewCounts:
    """The number of context views of each step's samples, drawn evenly from ``least`` … ``most``.

    It depends on seed and step alone, so it is the same on every rank, and none waits for another.
    """

    least: int
    most: int
    seed: int

    def at(self, step: int) -> int:
        """Views of the samples of a step."""
        rng = np.random.default_rng([self.seed, _VIEWS, step])
        return int(rng.integers(self.least, self.most + 1))


@dataclass(frozen=True)
class SampleOrder:
    """The stream of samples of a run.

    Attributes:
        per_epoch: video samples in an epoch.
        ratio: video samples for each labelled one (the paper's 30); 0 for labelled samples alone, None for
            none of them.
        batch: samples of one optimiser step, over all ranks.
        view_counts: how many context views each step's samples have; None for as many as the settings say.
    """

    per_epoch: int
    ratio: int | None
    batch: int
    view_counts: ViewCounts | None = None

    def at(self, number: int) -> SampleId:
        """The sample with a number of the stream."""
        views = self.views(number // self.batch)
        if self.ratio == 0:
            return SampleId(Kind.LABELLED, *divmod(number, self.per_epoch), views)
        if self.ratio:
            turn, place = divmod(number, self.ratio + 1)
            if place == self.ratio:
                per_epoch = max(1, self.per_epoch // self.ratio)
                return SampleId(Kind.LABELLED, *divmod(turn, per_epoch), views)
            number -= turn
        return SampleId(Kind.VIDEO, *divmod(number, self.per_epoch), views)

    def views(self, step: int) -> int:
        """Context views of a step's samples; 0 for as many as the settings say."""
        return self.view_counts.at(step) if self.view_counts else 0

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
        labelled = 0 if self.ratio is None else total // (self.ratio + 1)
        return {Kind.VIDEO: total - labelled, Kind.LABELLED: labelled}

    def steps(self, epochs: int) -> int:
        """Optimiser steps that see every video sample of ``epochs`` epochs."""
        videos = epochs * self.per_epoch
        labelled = videos // self.ratio if self.ratio else 0
        return math.ceil((videos + labelled) / self.batch)
