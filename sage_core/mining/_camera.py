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


def camera_of(measures: Measures, kind: NDArray[np.int64], steps: slice) -> Camera:
    """What the camera does in most of some steps, given the kind of each step."""
    found = kind[steps]
    if len(found) == 0:
        return Camera.UNCLEAR
    most = Kind(int(np.argmax(np.bincount(found, minlength=len(Kind)))))
    if most is not Kind.PARALLAX:
        return _OF_KIND[most]
    deep = np.zeros(len(kind), dtype=bool)
    deep[steps] = found == Kind.PARALLAX
    ahead, turn = (np.median(values[deep]) for values in ways(measures))
    if ahead >= _AHEAD:
        return Camera.WALKING
    return Camera.ORBIT if _ORBIT[0] <= turn <= _ORBIT[1] else Camera.TRAVELLING


def ways(measures: Measures) -> tuple[Array, Array]:
    """Per step [K]: how much of the travel is along the gaze, 0 to 1, and ``Chain.turn``."""
    ahead, turn = np.zeros(len(measures.steps)), np.zeros(len(measures.steps))
    for chain in measures.chains:
        covered = _covered(chain)
        ahead[covered], turn[covered] = abs(chain.way[2]), chain.turn
    return ahead, turn


def _covered(chain: Chain) -> slice:
    return slice(chain.start + 1, chain.end + 1)
