"""Corner tracks through a few frames, to be looked at: which tell of depth, which go their own way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sage_core.mining._tracks import chain_inliers, find_corners, follow
from sage_core.mining._two_views import off_plane

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Tracks:
    """Corners that lasted through all frames, and what explains how they went.

    Attributes:
        paths: float32 [N, T, 2], pixels (x, y) in each frame.
        odd: bool [N], no single rigid scene explains them.
        deep: bool [N], a rigid scene does, but neither a plane nor a turn of the camera.
        survival: share of the first frame's corners that lasted.
    """

    paths: NDArray[np.float32]
    odd: Mask
    deep: Mask
    survival: float


def follow_corners(frames: Sequence[NDArray[np.uint8]]) -> Tracks:
    """Follow corners as the miner does through grey frames, uint8 [H, W], at least one."""
    paths = find_corners(frames[0])[:, None]
    begun = len(paths)
    for before, after in pairwise(frames):
        found, kept = follow(before, after, np.ascontiguousarray(paths[:, -1]))
        paths = np.concatenate([paths[kept], found[kept, None]], axis=1)
    start, end = (np.ascontiguousarray(paths[:, at]) for at in (0, -1))
    rigid = chain_inliers(start, end, frames[0].shape)[0]
    deep = np.zeros(len(paths), bool)
    deep[rigid] = off_plane(start[rigid], end[rigid])
    return Tracks(paths, ~rigid, deep, len(paths) / max(1, begun))
