"""What the camera and the scene do at each step, from the chain of tracks that covers it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from sage_core.config.curate import CurateConfig
from sage_core.mining._measures import Measures
from sage_core.mining._tracks import Chain

_STILL_FLOW = 0.02
_STILL_RATE = 0.008
_STILL_PICTURE_PX, _STILL_PICTURE_ODD = 0.7, 0.02
"""A zoom over a photograph leaves 0.3 to 0.6 px behind a homography: trackers round towards no zoom."""


class Kind(IntEnum):
    """Of a stretch of time."""

    LOST = 0
    """Tracks break: too fast, too blurred, no texture."""
    STILL = 1
    """Hardly any motion."""
    MOVING = 2
    """No single rigid scene explains the tracks."""
    TURNING = 3
    """A camera that only turns explains them."""
    FLAT = 4
    """A homography explains them: a plane, or a zoom."""
    PARALLAX = 5
    """A rigid scene with depth."""


def kind_of(chain: Chain, seconds: float, config: CurateConfig) -> Kind:
    """The kind of one chain that lasted so many seconds.

    A chain that ended early, for want of corners, is still only if it was slow too: a fast flight loses
    its corners before it has moved far.
    """
    if chain.lost:
        return Kind.LOST
    if chain.flow < _STILL_FLOW and chain.flow < _STILL_RATE * seconds:
        return Kind.STILL
    if chain.epipolar < config.min_epipolar_share:
        return Kind.MOVING
    if chain.rotation_px < config.min_rotation_px:
        return Kind.TURNING
    if chain.parallax_px < config.min_parallax_px:
        return Kind.FLAT
    return Kind.PARALLAX


def kinds(measures: Measures, config: CurateConfig) -> NDArray[np.int64]:
    """The kind of each step's interval [K]; step k stands for the time from step k - 1 to k."""
    found = np.full(len(measures.steps), int(Kind.LOST), dtype=np.int64)
    for chain in measures.chains:
        kind = kind_of(chain, _seconds(measures, chain), config)
        found[chain.start + 1 : chain.end + 1] = int(kind)
    if len(found) > 1:
        found[0] = found[1]
    return found


def travel(measures: Measures) -> NDArray[np.float64]:
    """Long sides of the frame that the picture has travelled up to each step [K].

    Over a chain only the displacement from its start counts, so that trembling does not add up.
    """
    steps = np.zeros(len(measures.steps))
    for chain in _kept(measures.chains):
        steps[chain.start + 1 : chain.end + 1] = chain.flow / (chain.end - chain.start)
    return np.asarray(np.cumsum(steps))


def moving_share(measures: Measures) -> NDArray[np.float64]:
    """Per step [K]: the larger share of self-moving tracks, from step to step or over the chain."""
    share = measures.steps.moving.copy()
    for chain in _kept(measures.chains):
        covered = slice(chain.start + 1, chain.end + 1)
        share[covered] = np.maximum(share[covered], chain.moving)
    return np.asarray(share)


def flat_motion(measures: Measures) -> NDArray[np.bool_]:
    """Per step [K]: whether one homography moves every track, as a zoom over a still picture does."""
    found = np.zeros(len(measures.steps), dtype=bool)
    for chain in _kept(measures.chains):
        flat = chain.parallax_px < _STILL_PICTURE_PX and chain.epipolar > 1 - _STILL_PICTURE_ODD
        found[chain.start + 1 : chain.end + 1] = flat and chain.moving < _STILL_PICTURE_ODD
    return found


def _kept(chains: Iterable[Chain]) -> list[Chain]:
    return [chain for chain in chains if not chain.lost]


def _seconds(measures: Measures, chain: Chain) -> float:
    times = measures.frames.time_s[measures.steps.at[[chain.start, chain.end]]]
    return float(times[1] - times[0])
