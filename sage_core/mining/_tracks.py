"""Corner tracks chained until they have something to say about parallax.

Between neighbouring frames a slow flight over a deep scene and a pure rotation look alike: both leave
less than a tenth of a pixel after a homography. So tracks are chained from an anchor frame until their
median displacement is large enough to judge, or too few are left; then one homography and one
essential matrix are fitted to the whole chain. Where they still look alike, the baseline grows on.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.mining._two_views import (
    FOCALS,
    NOWHERE,
    Points,
    epipolar_inliers,
    homography_residual,
    rotation_residual,
    travelled,
    zoom_residual,
)

CHAIN_FLOW = 0.08
"""A chain is judged when its median displacement reaches this share of the long side and shows depth."""
LONGEST_FLOW = 0.16
"""Without any sign of depth it is followed up to here."""
CHAIN_SURVIVAL = 0.45
"""A chain is judged when fewer than this share of its corners are left."""
LOST_SURVIVAL = 0.2
"""A chain is lost when a single step keeps fewer than this share: a cut, a flash, a blank wall."""

_CORNERS = 400
_MIN_CORNERS = 24
_FORWARD_BACKWARD_PX = 1.0
_CHAIN_EPIPOLAR_PX = 3.0
"""Tracks drift and lenses bend over a chain of :data:`CHAIN_FLOW`, more over a longer one; what moves by
itself is further off than that."""
_STEP_EPIPOLAR_PX = 0.75
_COHERENT = 0.6
"""Share of the tracks without which the way of the camera is not asked for."""
_STEP_FOCALS = (0.7, 1.2)
_GROWTH = 1.2
_PLAIN_OFF_PLANE, _PLAIN_ROTATION_PX, _PLAIN_ZOOM_SHARE = 0.2, 2.5, 0.08
"""What no drift of tracks and no bent lens leaves over :data:`CHAIN_FLOW`."""
_STEP_DRAWS, _CHAIN_DRAWS = 200, 400
"""Draws at most: enough to find a geometry that half of the tracks share; less is no rigid scene."""


@dataclass(frozen=True)
class Step:
    """One step of the tracker, from the step frame before to this one.

    ``survival``: share of the tracked corners found again; ``flow``: their median displacement in long
    sides; ``corners``: how many were tracked; ``rigid``: share of those found that one rigid scene
    explains; ``moving``: share that it does not and that lie together. The first step has no frame
    before it: survival and rigid 1, the rest 0.
    """

    survival: float = 1.0
    flow: float = 0.0
    corners: int = 0
    rigid: float = 1.0
    moving: float = 0.0


@dataclass(frozen=True)
class Chain:
    """Corners followed from step ``start`` to step ``end``, and which geometry explains them.

    Attributes:
        start, end: indices of step frames.
        flow: median displacement over the chain, in long sides.
        survival: share of the corners that lasted.
        tracks: how many lasted.
        parallax_px: median residual of the essential matrix's inliers under the best homography, in
            pixels at the measuring size. Near zero for a turning camera, a flat scene, a still camera.
        off_plane: share of them that it does not explain.
        epipolar: share of the tracks that one rigid scene explains.
        moving: share of the tracks that it does not explain and that lie among others of the kind.
        rotation_px: median residual under the best pure rotation.
        zoom_px: the same of a rotation with a change of focal length by the factor ``zoom``.
        way: direction of travel in the first camera's axes (x right, y down, z ahead), length 1.
        turn: by how much the optical axis turns towards the scene while the camera moves aside by the
            scene's median depth, radians: about 1 on an orbit, 0 for a straight gaze, negative outwards.
        lost: the chain ended because a step kept too few corners.
    """

    start: int
    end: int
    flow: float
    survival: float
    tracks: int
    parallax_px: float
    off_plane: float
    epipolar: float
    moving: float
    rotation_px: float
    zoom_px: float
    zoom: float
    way: tuple[float, float, float]
    turn: float
    lost: bool


class ChainTracker:
    """Feed grey frames (uint8 [H, W], one size) with :meth:`step`; ``steps`` and ``chains`` fill up.

    ``moved``: where the tracks of the latest step came from and went to, float32 [N, 2] each.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.chains: list[Chain] = []
        self.moved: tuple[Points, Points] = (np.empty((0, 2), np.float32),) * 2
        self._grey: NDArray[np.uint8] | None = None
        self._from: Points = np.empty((0, 2), np.float32)
        self._at: Points = self._from
        self._begun = 0
        self._started_with = 0
        self._judge_at = CHAIN_FLOW

    def step(self, grey: NDArray[np.uint8]) -> None:
        """Follow the corners into the next frame and close the chain when it can be judged."""
        if self._grey is None:
            self.steps.append(Step())
            self._begin(grey)
            return
        before = self._at
        found, kept = follow(self._grey, grey, before)
        self.moved = before[kept], found[kept]
        step = _stepped(before, found[kept], kept, grey)
        if step.survival < LOST_SURVIVAL:
            self._break(step, grey)
            return
        self.steps.append(step)
        self._from, self._at = self._from[kept], found[kept]
        self._grey = grey
        if len(self._at) < CHAIN_SURVIVAL * self._started_with or self._tells(grey):
            self._close()
            self._begin(grey)

    def finish(self) -> None:
        """Judge the chain that is still open at the end."""
        self._close()

    def _tells(self, grey: NDArray[np.uint8]) -> bool:
        """Whether the tracks have moved far enough to show what there is; looked at as they grow."""
        flow = _flow(self._from, self._at, grey)
        if flow < self._judge_at:
            return False
        self._judge_at = flow * _GROWTH
        if flow >= LONGEST_FLOW:
            return True
        zoom_px = zoom_residual(self._from, self._at, grey.shape)[1]
        return (
            zoom_px >= _PLAIN_ZOOM_SHARE * flow * max(grey.shape)
            and rotation_residual(self._from, self._at, grey.shape) >= _PLAIN_ROTATION_PX
            and homography_residual(self._from, self._at)[1] >= _PLAIN_OFF_PLANE
        )

    def _begin(self, grey: NDArray[np.uint8]) -> None:
        self._grey = grey
        self._from = self._at = find_corners(grey)
        self._begun = len(self.steps) - 1
        self._started_with = len(self._from)
        self._judge_at = CHAIN_FLOW

    def _break(self, step: Step, grey: NDArray[np.uint8]) -> None:
        """Judge what led up to a step that lost the tracks; the step itself says nothing more."""
        self._close()
        self.steps.append(step)
        end = len(self.steps) - 1
        self.chains.append(_unknown(end - 1, end, step.flow, step.survival, 0))
        self._begin(grey)

    def _close(self) -> None:
        end = len(self.steps) - 1
        if self._grey is None or end <= self._begun:
            return
        self.chains.append(
            _judged(self._from, self._at, self._begun, end, self._started_with, self._grey)
        )


def find_corners(grey: NDArray[np.uint8]) -> Points:
    """Up to 400 corners, float32 [N, 2] (x, y), well apart."""
    corners = cv2.goodFeaturesToTrack(grey, _CORNERS, 0.005, 7, blockSize=5)
    if corners is None:
        return np.empty((0, 2), np.float32)
    return np.asarray(corners, dtype=np.float32).reshape(-1, 2)


def follow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], points: Points
) -> tuple[Points, NDArray[np.bool_]]:
    """Where the points went, and which of them also find their way back."""
    if len(points) == 0:
        return points, np.zeros(0, dtype=bool)
    found, forth, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, None, winSize=(15, 15), maxLevel=4
    )
    back, home, _ = cv2.calcOpticalFlowPyrLK(
        after, before, found, None, winSize=(15, 15), maxLevel=4
    )
    returned = np.linalg.norm(back - points, axis=1) <= _FORWARD_BACKWARD_PX
    height, width = after.shape
    inside = ((found >= 0) & (found < (width, height))).all(axis=1)
    kept = (forth.ravel() == 1) & (home.ravel() == 1) & returned & inside
    return np.asarray(found, dtype=np.float32), kept


def _flow(start: Points, end: Points, grey: NDArray[np.uint8]) -> float:
    if len(start) == 0:
        return 0.0
    return float(np.median(np.linalg.norm(end - start, axis=1)) / max(grey.shape))


def _stepped(
    before: Points, found: Points, kept: NDArray[np.bool_], grey: NDArray[np.uint8]
) -> Step:
    survival = float(kept.mean()) if len(kept) else 0.0
    flow = _flow(before[kept], found, grey)
    if len(found) < _MIN_CORNERS:
        return Step(survival, flow, len(before))
    rigid, _ = epipolar_inliers(
        before[kept], found, grey.shape, _STEP_EPIPOLAR_PX, _STEP_FOCALS, _STEP_DRAWS
    )
    moving = _clustered(found, ~rigid, max(grey.shape))
    return Step(survival, flow, len(before), float(rigid.mean()), moving)


def _unknown(start: int, end: int, flow: float, survival: float, tracks: int) -> Chain:
    nothing = dict.fromkeys(("parallax_px", "off_plane", "epipolar", "moving", "turn"), 0.0)
    return Chain(
        start,
        end,
        flow,
        survival,
        tracks,
        **nothing,
        rotation_px=0.0,
        zoom_px=0.0,
        zoom=1.0,
        way=(0.0, 0.0, 0.0),
        lost=True,
    )


def chain_inliers(
    start: Points, end: Points, shape: tuple[int, ...]
) -> tuple[NDArray[np.bool_], float]:
    """Tracks over a chain that one rigid scene explains, bool [N], and the focal length in long sides."""
    if len(start) < _MIN_CORNERS:
        return np.ones(len(start), bool), FOCALS[0]
    flow = float(np.median(np.linalg.norm(end - start, axis=1)) / max(shape))
    tolerance = _CHAIN_EPIPOLAR_PX * max(1.0, flow / CHAIN_FLOW)
    return epipolar_inliers(start, end, shape, tolerance, FOCALS, _CHAIN_DRAWS)


def _judged(
    start: Points, end: Points, begun: int, ended: int, started_with: int, grey: NDArray[np.uint8]
) -> Chain:
    flow = _flow(start, end, grey)
    survival = len(end) / started_with if started_with else 0.0
    if len(end) < _MIN_CORNERS:
        return _unknown(begun, ended, flow, survival, len(end))
    rigid, focal = chain_inliers(start, end, grey.shape)
    parallax_px, off_plane = homography_residual(start[rigid], end[rigid])
    zoom, zoom_px = zoom_residual(start[rigid], end[rigid], grey.shape)
    coherent = bool(rigid.mean() >= _COHERENT)
    way, turn = travelled(start[rigid], end[rigid], grey.shape, focal) if coherent else NOWHERE
    return Chain(
        start=begun,
        end=ended,
        flow=flow,
        survival=survival,
        tracks=len(end),
        parallax_px=parallax_px,
        off_plane=off_plane,
        epipolar=float(rigid.mean()),
        moving=_clustered(end, ~rigid, max(grey.shape)),
        rotation_px=rotation_residual(start[rigid], end[rigid], grey.shape),
        zoom_px=zoom_px,
        zoom=zoom,
        way=way,
        turn=turn,
        lost=False,
    )


def _clustered(points: Points, odd: NDArray[np.bool_], long_side: int) -> float:
    """Share of points that are odd and have mostly odd neighbours: a moving thing, not noise."""
    if not odd.any():
        return 0.0
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    near = np.argsort(apart, axis=1)[:, :5]
    close = np.take_along_axis(apart, near, axis=1) < 0.15 * long_side
    odd_near = (odd[near] & close).sum(axis=1)
    return float((odd & (odd_near >= 3)).mean())
