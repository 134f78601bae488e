"""What two views of the same tracks say: which geometry explains them, and how the camera went.

Nothing is known of the lens: focal lengths are tried, the principal point is the middle. Points are
float32 [N, 2] (x, y) in pixels, ``shape`` is (height, width).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

FOCALS = (0.6, 0.85, 1.2, 2.0)
"""Focal lengths, in long sides, that the essential matrix and the rotation are tried with."""
_ROTATION_FOCALS = (0.5, 0.65, 0.85, 1.1, 1.5, 2.0)
"""Finer than needed for counting inliers: a wrong focal length looks like parallax in a long turn."""
_FEWEST = 8
_OFF_PX, _OFF_SHARE = 0.7, 0.015
_SHARP_EPIPOLAR_PX = 0.5
_SHARP_DRAWS = 100
_FAR = 1e3
NOWHERE = (0.0, 0.0, 0.0), 0.0
"""What :func:`travelled` says where it cannot tell."""
_LOST_CAUSE = 0.5

Points = NDArray[np.float32]
Shape = tuple[int, ...]


def epipolar_inliers(
    start: Points,
    end: Points,
    shape: Shape,
    tolerance_px: float,
    focals: tuple[float, ...],
    draws: int,
) -> tuple[NDArray[np.bool_], float]:
    """Tracks that one essential matrix explains, and the focal length that explains the most."""
    best, best_focal = np.zeros(len(start), dtype=bool), focals[0]
    for focal in focals:
        K = _camera(shape, focal)
        _, mask = cv2.findEssentialMat(start, end, K, cv2.USAC_DEFAULT, 0.999, tolerance_px, draws)
        inliers = best if mask is None else mask.ravel().astype(bool)
        if inliers.sum() > best.sum():
            best, best_focal = inliers, focal
        if best.mean() < _LOST_CAUSE or best.all():
            break  # no focal length turns this into a rigid scene, or improves on it
    return best, best_focal


def homography_residual(start: Points, end: Points) -> tuple[float, float]:
    """Median residual, in pixels, of the best homography, and the share of tracks that it leaves off.

    Off are those with over 0.7 px and 1.5 % of the median displacement: one wall may hold most tracks of a
    room, and then the median says little of the rest.
    """
    residuals = _homography_residuals(start, end)
    if residuals is None:
        return 0.0, 0.0
    return float(np.median(residuals)), float(_off(residuals, start, end).mean())


def off_plane(start: Points, end: Points) -> NDArray[np.bool_]:
    """Which tracks the best homography leaves off, bool [N]; none where there are too few to tell."""
    residuals = _homography_residuals(start, end)
    return np.zeros(len(start), bool) if residuals is None else _off(residuals, start, end)


def _homography_residuals(start: Points, end: Points) -> NDArray[np.float32] | None:
    if len(start) < _FEWEST:
        return None
    H, _ = cv2.findHomography(start, end, cv2.RANSAC, 1.0, maxIters=500)
    if H is None:
        return None
    moved = cv2.perspectiveTransform(start[None], H)[0]
    return np.asarray(np.linalg.norm(moved - end, axis=1), np.float32)


def _off(residuals: NDArray[np.float32], start: Points, end: Points) -> NDArray[np.bool_]:
    displacement = float(np.median(np.linalg.norm(end - start, axis=1)))
    return np.asarray(residuals > max(_OFF_PX, _OFF_SHARE * displacement))


def rotation_residual(start: Points, end: Points, shape: Shape, zoom: float = 1.0) -> float:
    """Median residual, in pixels, of the best camera that only turns, and zooms by that factor."""
    if len(start) < _FEWEST:
        return 0.0
    residuals = []
    for focal in _ROTATION_FOCALS:
        before, after = _camera(shape, focal), _camera(shape, focal * zoom)
        rays, turned = _rays(start, before), _rays(end, after)
        U, _, Vt = np.linalg.svd(turned.T @ rays)
        R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
        seen = (rays @ R.T) @ after.T
        residuals.append(np.median(np.linalg.norm(seen[:, :2] / seen[:, 2:] - end, axis=1)))
    return float(min(residuals))


def zoom_residual(start: Points, end: Points, shape: Shape) -> tuple[float, float]:
    """The factor of the best zoom, from how much the picture grows, and :func:`rotation_residual` with it."""
    if len(start) < _FEWEST:
        return 1.0, 0.0
    similar, _ = cv2.estimateAffinePartial2D(start, end, ransacReprojThreshold=3.0, maxIters=500)
    if similar is None:
        return 1.0, 0.0
    zoom = float(np.hypot(similar[0, 0], similar[1, 0]))
    return zoom, rotation_residual(start, end, shape, zoom)


def travelled(
    start: Points, end: Points, shape: Shape, focal: float
) -> tuple[tuple[float, float, float], float]:
    """Direction of travel in the first camera's axes, and how the gaze turns meanwhile (see ``Chain``).

    Means nothing where there is no parallax.
    """
    if len(start) < _FEWEST:
        return NOWHERE
    K = _camera(shape, focal)
    E, mask = cv2.findEssentialMat(
        start, end, K, cv2.RANSAC, 0.99, _SHARP_EPIPOLAR_PX, _SHARP_DRAWS
    )
    if E is None or E.shape != (3, 3):
        return NOWHERE
    found, R, t, _, X = cv2.recoverPose(E, start, end, K, distanceThresh=_FAR, mask=mask)
    depth = (X[2] / X[3])[mask.ravel() > 0]
    depth = depth[(depth > 0) & (depth < _FAR)]
    if found < _FEWEST or len(depth) < _FEWEST:
        return NOWHERE
    way = (-R.T @ t).ravel()
    x, y, z = (float(value) for value in way)
    return (x, y, z), _turn(R, way, float(np.median(depth)))


def _turn(R: NDArray[np.float64], way: NDArray[np.float64], depth: float) -> float:
    """Turn of the optical axis against the sideways way, for a way as long as the scene is deep."""
    aside = float(np.linalg.norm(way[:2]))
    if aside < 1e-3:
        return 0.0
    axis = R[2]  # the second camera's optical axis, seen from the first
    return float(-np.arctan2(axis[:2] @ way[:2] / aside, axis[2]) * depth / aside)


def _camera(shape: Shape, focal: float) -> NDArray[np.float64]:
    height, width = shape
    f = focal * max(height, width)
    return np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]])


def _rays(points: Points, K: NDArray[np.float64]) -> NDArray[np.float64]:
    rays = np.column_stack([(points - K[:2, 2]) / K[0, 0], np.ones(len(points))])
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))
