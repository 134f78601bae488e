"""Which data set and clip a video sample comes from: exact proportions, every clip in its turn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_CLIP_ORDER = 1_000
"""Keeps the draws of the clips' order apart from all others of a seed."""

_AT_ONCE = 8
"""Clips that take turns when each has several: what the reader keeps of them stays below its bound."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Mixture:
    """The data sets of a run, by weight, as a stream of turns; a pure function of seed, epoch and index.

    In an epoch each data set has its share of the samples, rounded to whole ones that add up, evenly spread:
    the first n samples hold n times its share, give or take one. Within a data set no clip is drawn again
    before all others were, across epochs, in an order of the seed's own that changes from lap to lap. With
    ``per_visit`` above 1, eight clips at a time take turns until each had that many, while the reader
    still has their frames in memory.

    Attributes:
        weights: of the data sets, > 0.
        clips: how many clips each holds.
        per_epoch: video samples in an epoch.
        seed: of the run.
        per_visit: samples of a clip in each lap.
    """

    weights: tuple[float, ...]
    clips: tuple[int, ...]
    per_epoch: int
    seed: int
    per_visit: int = 1

    def at(self, epoch: int, index: int) -> tuple[int, int]:
        """Data set and clip, by number, of the ``index``-th sample of an epoch."""
        order, turns = _interleaved(self.counts())
        data = int(order[index % self.per_epoch])
        turn = epoch * self.counts()[data] + int(turns[index % self.per_epoch])
        clips = self.clips[data]
        lap, place = divmod(turn, clips * self.per_visit)
        table, step = divmod(place, _AT_ONCE * self.per_visit)
        first = table * _AT_ONCE
        chosen = first + step % min(_AT_ONCE, clips - first)
        return data, int(_permutation(self.seed, data, lap, clips)[chosen])

    def counts(self) -> tuple[int, ...]:
        """Samples of each data set in an epoch."""
        return _apportioned(self.weights, self.per_epoch)


@lru_cache(maxsize=16)
def _apportioned(weights: tuple[float, ...], total: int) -> tuple[int, ...]:
    """Whole numbers in proportion to the weights that add up to ``total`` (largest remainders)."""
    exact = np.asarray(weights, np.float64) * total / sum(weights)
    counts = np.floor(exact + 1e-9).astype(np.int64)
    short = total - int(counts.sum())
    counts[np.argsort(counts - exact, kind="stable")[:short]] += 1
    return tuple(counts.tolist())


@lru_cache(maxsize=16)
def _interleaved(counts: tuple[int, ...]) -> tuple[Ints, Ints]:
    """The data sets of an epoch's samples, evenly spread, and how often each had its turn before."""
    data = np.repeat(np.arange(len(counts)), counts)
    turns = np.concatenate([np.arange(count) for count in counts])
    moments = (turns + 0.5) / np.repeat(counts, counts)
    order = np.argsort(moments, kind="stable")
    return data[order], turns[order]


@lru_cache(maxsize=64)
def _permutation(seed: int, data: int, lap: int, n: int) -> Ints:
    return np.random.default_rng([seed, _CLIP_ORDER, data, lap]).permutation(n)
