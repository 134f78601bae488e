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
_ZOOM_NOISE_PX, _ZOOM_GAIN = 0.35, 5.0
_STILL_PICTURE_ODD = 0.02


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
    ZOOMING = 4
    """A change of focal length does, with a turn: nothing travels."""
    FLAT = 5
    """A homography explains them: a plane."""
    PARALLAX = 6
    """A rigid scene with depth."""


def kind_of(chain: Chain, seconds: float, long_side: int, config: CurateConfig) -> Kind:
    """The kind of one chain that lasted so many seconds, in pictures of ``long_side`` pixels.

    A chain that ended early, for want of corners, is still only if it was slow too: a fast flight loses
    its corners before it has moved far. What a wrong model leaves grows with the displacement, so it is
    held against that.
    """
    if chain.lost:
        return Kind.LOST
    if chain.flow < _STILL_FLOW and chain.flow < _STILL_RATE * seconds:
        return Kind.STILL
    if chain.epipolar < config.min_epipolar_share:
        return Kind.MOVING
    displacement = chain.flow * long_side
    if chain.rotation_px < max(config.min_rotation_px, config.min_rotation_share * displacement):
        return Kind.TURNING
    if _zooms(chain, displacement, config):
        return Kind.ZOOMING
    if chain.off_plane < config.min_off_plane_share:
        return Kind.FLAT
    return Kind.PARALLAX


def _zooms(chain: Chain, displacement: float, config: CurateConfig) -> bool:
    """A zoom explains what a turn leaves: a plane that is passed by may also grow a little."""
    left = max(_ZOOM_NOISE_PX, config.min_zoom_share * displacement)
    return chain.zoom_px < left and chain.rotation_px > _ZOOM_GAIN * chain.zoom_px


def kinds(measures: Measures, config: CurateConfig) -> NDArray[np.int64]:
    """The kind of each step's interval [K]; step k stands for the time from step k - 1 to k."""
    found = np.full(len(measures.steps), int(Kind.LOST), dtype=np.int64)
    for chain in measures.chains:
        kind = kind_of(chain, _seconds(measures, chain), max(measures.size), config)
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


def flat_motion(measures: Measures, kind: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Per step [K]: whether every track moves as on one picture, drawn over by a zoom or a slide."""
    found = np.isin(kind, [Kind.STILL, Kind.TURNING, Kind.ZOOMING, Kind.FLAT])
    for chain in measures.chains:
        if chain.epipolar <= 1 - _STILL_PICTURE_ODD or chain.moving >= _STILL_PICTURE_ODD:
            found[chain.start + 1 : chain.end + 1] = False
    return found


def _kept(chains: Iterable[Chain]) -> list[Chain]:
    return [chain for chain in chains if not chain.lost]


def _seconds(measures: Measures, chain: Chain) -> float:
    times = measures.frames.time_s[measures.steps.at[[chain.start, chain.end]]]
    return float(times[1] - times[0])
