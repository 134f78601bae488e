"""Do two halves of a point's views put it in the same place?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sage_core.geometry import camera_centres
from sage_core.sfm.model import SparseModel

Array = NDArray[np.float64]

_MIN_VIEWS = 4
"""Two rays a half."""


def split_disagreement(model: SparseModel) -> Array:
    """Distance between a point's places by every other mapped frame and by the rest, [P].

    Each half is intersected by itself, the point nearest to all its rays, and the distance is divided by
    the median distance of the cameras: 0.05 says that the views differ by a twentieth of the depth.
    Reprojection errors cannot tell that: where rays are nearly parallel, a wrong depth costs no pixels.
    NaN for points in fewer than four mapped frames.
    """
    point, centre, ray = _rays(model)
    order = np.argsort(point, kind="stable")  # keeps the frames of each point in order
    point, centre, ray = point[order], centre[order], ray[order]
    first = np.searchsorted(point, np.arange(len(model.xyz)))
    half = (np.arange(len(point)) - first[point]) % 2
    places = [
        _nearest(len(model.xyz), point[half == h], centre[half == h], ray[half == h])
        for h in (0, 1)
    ]
    away = np.linalg.norm(model.xyz[point] - centre, axis=1)
    disagreement = np.full(len(model.xyz), np.nan)
    counts = np.bincount(point, minlength=len(model.xyz))
    for row in np.flatnonzero(counts >= _MIN_VIEWS).tolist():
        depth = np.median(away[first[row] : first[row] + counts[row]])
        disagreement[row] = np.linalg.norm(places[0][row] - places[1][row]) / depth
    return disagreement


def _rays(model: SparseModel) -> tuple[NDArray[np.int64], Array, Array]:
    """Of each observation in a mapped frame: its point's row, the camera's centre, the unit ray in world."""
    points, centres, rays = [], [], []
    for frame in (frame for frame in model.frames if frame.mapped):
        seen = np.concatenate([frame.camera.rays(frame.xy), np.ones((len(frame.xy), 1))], 1)
        ray = seen @ frame.cam_from_world[:, :3]
        points.append(frame.point)
        rays.append(ray / np.linalg.norm(ray, axis=1, keepdims=True))
        centres.append(np.broadcast_to(camera_centres(frame.cam_from_world), ray.shape))
    if not points:
        return np.empty(0, np.int64), np.empty((0, 3)), np.empty((0, 3))
    return np.concatenate(points), np.concatenate(centres), np.concatenate(rays)


def _nearest(count: int, point: NDArray[np.int64], centre: Array, ray: Array) -> Array:
    """The place [count, 3] with the least squared distance to each point's rays."""
    across = np.eye(3) - ray[:, :, None] * ray[:, None, :]
    normal, target = np.zeros((count, 3, 3)), np.zeros((count, 3))
    np.add.at(normal, point, across)
    np.add.at(target, point, (across @ centre[:, :, None])[..., 0])
    normal += 1e-12 * np.eye(3)  # parallel rays meet nowhere: any place will do, and disagree
    return np.asarray(np.linalg.solve(normal, target[..., None])[..., 0])
