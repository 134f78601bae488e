"""Pseudo depth: anchors with the errors that depth from a network has, frame by frame.

A stand-in for "run a depth network on the video instead of structure from motion": the same clips, cameras
and places in the picture, but each frame's depth is stretched by a factor that drifts from frame to frame,
and warped smoothly over the picture. So a study compares the errors of two kinds of depth, nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sage_core.shards import ShardReader, ShardWriter
from sage_core.shards.records import FrameRecord

SHARD = "pseudo"


@dataclass(frozen=True)
class DepthErrors:
    """How wrong the depth of a video is, as standard deviations of its logarithm.

    Attributes:
        drift: of a frame's factor, a stationary process.
        memory: share of it that stays from frame to frame: 0 for none, towards 1 for a slow drift.
        warp: of the smooth error within a frame: a plane and a bowl over the picture, new in each frame.
    """

    drift: float = 0.10
    memory: float = 0.9
    warp: float = 0.08


def write_pseudo_shard(
    shards: Sequence[str], folder: Path, seed: int, errors: DepthErrors | None = None
) -> None:
    """Write the clips of ``shards`` into ``folder`` with pseudo depth in place of their anchors' own.

    The same seed gives the same bytes. A shard that is there is left alone.
    """
    errors = errors or DepthErrors()
    reader = ShardReader(shards)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / f"clips-{SHARD}.parquet").is_file():
        return
    with ShardWriter(folder, SHARD) as writer:
        for name in sorted(reader.names):
            clip = reader.clip(name)
            frames = reader.frames(clip, range(clip.n_frames))
            writer.add(clip, wrong_depth(frames, seed, errors), reader.points(name))


def wrong_depth(frames: Sequence[FrameRecord], seed: int, errors: DepthErrors) -> list[FrameRecord]:
    """Frames of one clip, in order, with the errors of video depth on their anchors."""
    rng = np.random.default_rng(
        [seed, int(hashlib.sha256(frames[0].clip.encode()).hexdigest()[:12], 16)]
    )
    drift = rng.normal(0, errors.drift)
    wrong = []
    for frame in frames:
        factor = np.exp(drift + _warp(frame, rng.normal(0, errors.warp, 4)))
        depth = (frame.anchors.depth * factor).astype(np.float32)
        wrong.append(replace(frame, anchors=replace(frame.anchors, depth=depth)))
        fresh = np.sqrt(1 - errors.memory**2)
        drift = errors.memory * drift + fresh * rng.normal(0, errors.drift)
    return wrong


def _warp(frame: FrameRecord, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The frame's smooth error at its anchors, logarithmic; as large as the weights over the picture."""
    x, y = (frame.anchors.xy / (frame.width, frame.height) * 2 - 1).T.astype(np.float64)
    terms = np.stack([x, y, x * y * np.sqrt(3), (x**2 + y**2 - 2 / 3) * np.sqrt(15 / 8)])
    # Each term's variance over the picture is 1/3.
    return np.asarray(weights @ terms * np.sqrt(3) / 2)
