"""Accuracy, completeness and normals of clouds, as CUT3R's, Spann3R's and Pi3's suites compute them.

``accuracy`` is the distance from a predicted point to the nearest true one, ``completeness`` the other way
round, both plain and in metres; ``nc_knn30`` the mean of ``|n · n'|`` between a point's normal and that of
its nearest point in the other cloud, with normals from the 30 nearest points (Open3D's default). The suites
align, then refine by ICP, which hides errors of pose; figures before ICP are given beside those after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from sage_core.errors import SageError
from sage_core.evaluation.metrics import Mask, lower_median, masked_points, median_size, tree
from sage_core.geometry import Sim3, umeyama
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
Alignment = Literal["median", "umeyama"]
"""``median``: joint median depth and joint median distance (CUT3R, Spann3R); ``umeyama``: a similarity
fitted to all pairs of pixels (Pi3)."""
ICP_REACH_M = 0.1
_ICP_ROUNDS = 30
_ICP_STILL = 1e-6
_NEIGHBOURS = 30
_AT_ONCE = 50_000


@dataclass(frozen=True)
class CloudScores:
    """Figures of one pair of clouds; medians beside means, as the suites print both."""

    accuracy: float
    accuracy_median: float
    completeness: float
    completeness_median: float
    nc_knn30: float
    nc_knn30_median: float


def align_by_medians(points: npt.ArrayLike, true_points: npt.ArrayLike, valid: Mask) -> Array:
    """The prediction [V, H, W, 3] moved along z to the truth's median depth and brought to its size.

    Size is the median distance to the median point (DUSt3R's criterion with shift and scale left free).

    Raises:
        SageError: not one valid pixel, or a prediction that is not finite.
    """
    prediction, truth = masked_points(points, valid), masked_points(true_points, valid)
    z, true_z = lower_median(prediction[valid][:, 2]), lower_median(truth[valid][:, 2])
    size = min(max(median_size(prediction, valid), 1e-3), 1e3)
    scale = median_size(truth, valid) / size
    moved = (prediction - [0, 0, float(z)]) * scale + [0, 0, float(true_z)]
    return np.where(valid[..., None], moved, 0.0)


def align_by_umeyama(points: npt.ArrayLike, true_points: npt.ArrayLike, valid: Mask) -> Array:
    """The prediction [V, H, W, 3] under the similarity that fits all valid pairs of pixels best.

    Raises:
        SageError: fewer than three valid pixels, or a prediction that is not finite or one point.
    """
    prediction, truth = masked_points(points, valid), masked_points(true_points, valid)
    try:
        fit = umeyama(truth[valid], prediction[valid])
    except ValueError as error:
        raise SageError(
            f"the clouds cannot be aligned: {error}", reason=Reason.NOT_FINITE
        ) from error
    return np.where(valid[..., None], fit.points(prediction), 0.0)


def icp(cloud: Array, truth: Array, reach: float = ICP_REACH_M, workers: int = 1) -> Sim3:
    """The rigid motion of a cloud [N, 3] onto another [M, 3], point to point.

    Begins at rest; pairs further apart than ``reach`` do not count; ends after 30 rounds, or when neither
    the share of pairs nor their root mean square distance changes by more than 1e-6 (Open3D's defaults).
    The scale is 1.
    """
    motion = Sim3(1.0, np.eye(3), np.zeros(3))
    nearest = tree(truth)
    share, error = 0.0, 0.0
    for _ in range(_ICP_ROUNDS):
        moved = motion.points(cloud)
        distance, index = nearest.query(moved, distance_upper_bound=reach, workers=workers)
        met = np.isfinite(distance)
        if met.sum() < 3:
            break
        before = share, error
        share, error = float(met.mean()), float(np.sqrt(np.square(distance[met]).mean()))
        if abs(share - before[0]) < _ICP_STILL and abs(error - before[1]) < _ICP_STILL:
            break
        motion = umeyama(truth[index[met]], cloud[met], with_scale=False)
    return motion


def normals_knn(cloud: Array, workers: int = 1) -> Array:
    """Unit normals [N, 3] of a cloud [N, 3] from the 30 nearest points of each, itself included; signs are
    free.
    """
    count = min(_NEIGHBOURS, len(cloud))
    nearest = tree(cloud)
    normals = []
    for begin in range(0, len(cloud), _AT_ONCE):
        _, index = nearest.query(cloud[begin : begin + _AT_ONCE], k=count, workers=workers)
        near = cloud[index.reshape(-1, count)]
        centred = near - near.mean(axis=1, keepdims=True)
        _, axes = np.linalg.eigh(np.einsum("nki,nkj->nij", centred, centred))
        normals.append(axes[:, :, 0])
    return np.concatenate(normals)


def cloud_scores(cloud: Array, truth: Array, workers: int = 1) -> CloudScores:
    """Score a cloud [N, 3] against the truth [M, 3], metres."""
    to_truth, of_truth = tree(truth).query(cloud, workers=workers)
    to_cloud, of_cloud = tree(cloud).query(truth, workers=workers)
    normals, true_normals = normals_knn(cloud, workers), normals_knn(truth, workers)
    there = np.abs(np.sum(normals * true_normals[of_truth], axis=-1))
    back = np.abs(np.sum(true_normals * normals[of_cloud], axis=-1))
    return CloudScores(
        float(to_truth.mean()),
        float(np.median(to_truth)),
        float(to_cloud.mean()),
        float(np.median(to_cloud)),
        float((there.mean() + back.mean()) / 2),
        float((np.median(there) + np.median(back)) / 2),
    )


def reconstruction_scores(
    points: npt.ArrayLike,
    true_points: npt.ArrayLike,
    valid: Mask,
    alignment: Alignment,
    workers: int = 1,
) -> tuple[CloudScores, CloudScores]:
    """Scores of pointmaps [V, H, W, 3] (view 0's frame, any scale) before and after ICP.

    Raises:
        SageError: as the alignments.
    """
    align = align_by_medians if alignment == "median" else align_by_umeyama
    cloud = align(points, true_points, valid)[valid]
    truth = masked_points(true_points, valid)[valid]
    refined = icp(cloud, truth, workers=workers).points(cloud)
    return cloud_scores(cloud, truth, workers), cloud_scores(refined, truth, workers)
