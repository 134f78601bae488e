"""What the camera does through a window, in the words of people who film."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from sage_core.mining._kinds import Kind
from sage_core.mining._measures import Measures
from sage_core.mining._tracks import Chain

_AHEAD = 0.7
_ORBIT = (0.5, 4.0)
"""Turn towards the scene, radians per scene depth travelled: 1 where the middle of the scene is circled."""

Array = NDArray[np.float64]


class Camera(StrEnum):
    """Of a stretch of video, by what takes most of its time."""

    STATIC = "static"
    ROTATION = "rotation"
    ZOOM = "zoom"
    PLANAR = "planar"
    """It travels, but all that it sees is one plane."""
    WALKING = "walking"
    """It travels ahead, or back, along its gaze."""
    ORBIT = "orbit"
    """It travels aside and turns towards what it sees."""
    TRAVELLING = "travelling"
    """It travels otherwise: aside, up, or with its gaze elsewhere."""
    UNCLEAR = "unclear"
    """Tracks break, or no rigid scene explains them."""


_OF_KIND = {
    Kind.STILL: Camera.STATIC,
    Kind.TURNING: Camera.ROTATION,
    Kind.ZOOMING: Camera.ZOOM,
    Kind.FLAT: Camera.PLANAR,
    Kind.LOST: Camera.UNCLEAR,
    Kind.MOVING: Camera.UNCLEAR,
}


def camera_of(kind: NDArray[np.int64], ahead: Array, turn: Array) -> Camera:
    """What the camera does in most of some steps, given their kinds and :func:`ways` [K]."""
    if len(kind) == 0:
        return Camera.UNCLEAR
    most = Kind(int(np.argmax(np.bincount(kind, minlength=len(Kind)))))
    if most is not Kind.PARALLAX:
        return _OF_KIND[most]
    deep = kind == Kind.PARALLAX
    if np.median(ahead[deep]) >= _AHEAD:
        return Camera.WALKING
    least, most_turn = _ORBIT
    return Camera.ORBIT if least <= np.median(turn[deep]) <= most_turn else Camera.TRAVELLING


def ways(measures: Measures) -> tuple[Array, Array]:
    """Per step [K]: how much of the travel is along the gaze, 0 to 1, and ``Chain.turn``."""
    ahead, turn = np.zeros(len(measures.steps)), np.zeros(len(measures.steps))
    for chain in measures.chains:
        covered = _covered(chain)
        ahead[covered], turn[covered] = abs(chain.way[2]), chain.turn
    return ahead, turn


def _covered(chain: Chain) -> slice:
    return slice(chain.start + 1, chain.end + 1)
