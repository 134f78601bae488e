"""Which frames of a clip are matched: neighbours along it, and those far apart that look alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]

_WORDS, _SAMPLE, _ROUNDS = 128, 4000, 3
_LOOP_FRAMES = 8
"""Closer frames are neighbours, not a loop."""
_ALIKE_FRAMES = 2
"""Frames this far apart along the clip show how alike two frames must be to be worth matching."""
_ALIKE_PHOTOS = 10
"""Each photo of a set is matched with so many: those most like it."""


def sequential_pairs(count: int) -> list[Pair]:
    """Frames 1, 2, 4, 8, … places apart, as (earlier, later)."""
    offsets = [2**power for power in range(count.bit_length()) if 2**power < count]
    return [(i, i + offset) for offset in offsets for i in range(count - offset)]


def all_pairs(count: int) -> list[Pair]:
    """Every frame with every later one."""
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def loop_pairs(descriptors: Sequence[NDArray[np.uint8]], seed: int) -> list[Pair]:
    """Where the camera may have come back: each frame with the one far along the clip most like it.

    Only those count that are as alike as frames a few places apart are in the median, and that are no
    sequential pair anyway. Alike is what the words of a vocabulary trained on the clip itself say
    (Sivic and Zisserman 2003); a clip that never comes back costs its histograms and nothing more.

    Args:
        descriptors: for each frame in order, uint8 [N, 128].
    """
    count = len(descriptors)
    if count <= _LOOP_FRAMES:
        return []
    alike = similarity(descriptors, seed)
    wanted = max(float(np.median(np.diagonal(alike, _ALIKE_FRAMES))), 1e-6)
    far = np.abs(np.subtract.outer(np.arange(count), np.arange(count))) >= _LOOP_FRAMES
    for i, j in sequential_pairs(count):
        far[i, j] = far[j, i] = False
    best = np.where(far, alike, -1.0).argmax(1)
    found = {
        (min(i, j), max(i, j))
        for i, j in enumerate(best.tolist())
        if far[i, j] and alike[i, j] >= wanted
    }
    return sorted(found)


def alike_pairs(descriptors: Sequence[NDArray[np.uint8]], seed: int) -> list[Pair]:
    """Each photo of a set with those most like it; every pair of a small set.

    ``descriptors`` as for :func:`loop_pairs`.
    """
    count = len(descriptors)
    if count <= _ALIKE_PHOTOS + 1:
        return all_pairs(count)
    alike = similarity(descriptors, seed)
    np.fill_diagonal(alike, -1.0)
    best = np.argsort(-alike, axis=1, kind="stable")[:, :_ALIKE_PHOTOS]
    return sorted({(min(i, j), max(i, j)) for i, row in enumerate(best.tolist()) for j in row})


def similarity(descriptors: Sequence[NDArray[np.uint8]], seed: int) -> NDArray[np.float64]:
    """[F, F] cosine of the frames' histograms of visual words, rare words weighing more."""
    everything = np.concatenate(list(descriptors)).astype(np.float32)
    if not len(everything):
        return np.zeros((len(descriptors), len(descriptors)))
    words = _vocabulary(everything, seed)
    counts = np.stack(
        [np.bincount(_nearest(one, words), minlength=len(words)) for one in descriptors]
    )
    rare = np.log((len(descriptors) + 1) / ((counts > 0).sum(0) + 1)) + 0.1
    weighed = np.sqrt(counts) * rare
    weighed /= np.maximum(np.linalg.norm(weighed, axis=1, keepdims=True), 1e-12)
    return np.asarray(weighed @ weighed.T)


def _vocabulary(everything: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Centres [W, 128] of a few rounds of k-means on a sample."""
    rng = np.random.default_rng(seed)
    count = min(_SAMPLE, len(everything))
    sample = everything[np.sort(rng.choice(len(everything), count, replace=False))]
    words = sample[:: max(1, count // _WORDS)][:_WORDS].copy()
    for _ in range(_ROUNDS):
        nearest = _nearest(sample, words)
        for word in np.unique(nearest).tolist():
            words[word] = sample[nearest == word].mean(0)
    return words


def _nearest(descriptors: NDArray[np.generic], words: NDArray[np.float32]) -> NDArray[np.int64]:
    score = descriptors.astype(np.float32) @ words.T - 0.5 * (words**2).sum(1)
    return np.asarray(score.argmax(1))
