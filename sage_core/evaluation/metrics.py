"""How right pointmaps, cameras and renders are, as MV-DUSt3R's evaluation computes it, and plainer cousins.

Names matter here. ``nd``, ``dac`` and ``cd`` follow the published evaluation *code*: ``dac`` says of a
whole tuple whether its ``nd`` is below a threshold in metres, and ``cd`` adds up *squared* distances.
What papers say in words (a share of pixels, plain distances) has names of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sage_core.errors import SageError
from sage_core.geometry import compose, invert
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

ERROR_CAP = 10.0
"""Mean errors of a view (m) and Chamfer distances (m²) are cut here, as in the published code."""
DAC_THRESHOLDS_M = (0.1, 0.2, 0.3, 0.5)
_EPS = 1e-8


@dataclass(frozen=True)
class PointmapScores:
    """All figures of one tuple; dictionaries go by threshold."""

    nd: float
    """Mean error (m) of the aligned points, view by view; the paper's tables show it times 10."""
    dac: dict[float, bool]
    """Whether ``nd`` is below the threshold (m); averaged over tuples this is the published DAc."""
    cd: float
    """Chamfer distance (m²): both mean squared distances added; the tables show it times 100."""
    within_m: dict[float, float]
    """Share of all valid pixels whose aligned error is at most the threshold (m)."""
    within_normalised: dict[float, float]
    """The same, unaligned, after dividing either side by its own mean distance."""
    accuracy_m: float
    """Mean distance (m) from a predicted point to the nearest true one."""
    completeness_m: float
    """Mean distance (m) from a true point to the nearest predicted one."""


def pointmap_scores(
    points: npt.ArrayLike,
    true_points: npt.ArrayLike,
    valid: Mask,
    *,
    thresholds: tuple[float, ...] = DAC_THRESHOLDS_M,
    workers: int = 1,
) -> PointmapScores:
    """Score one tuple.

    Args:
        points: [V, H, W, 3] predicted in the camera frame of view 0, any scale.
        true_points: [V, H, W, 3] in the same frame, metres; free where not valid.
        valid: bool [V, H, W].
        workers: threads of the nearest-neighbour search; changes nothing but the time.

    Raises:
        SageError: not one valid pixel.
    """
    aligned, truth = align(points, true_points, valid)
    nd = float(view_errors(aligned, truth, valid).mean())
    to_truth, to_prediction = nearest_distances(aligned[valid], truth[valid], workers)
    errors = np.linalg.norm(aligned - truth, axis=-1)[valid]
    normalised = normalised_errors(points, true_points, valid)
    return PointmapScores(
        nd=nd,
        dac={threshold: nd < threshold for threshold in thresholds},
        cd=chamfer(to_truth, to_prediction),
        within_m={t: float((errors <= t).mean()) for t in thresholds},
        within_normalised={t: float((normalised <= t).mean()) for t in thresholds},
        accuracy_m=float(to_truth.mean()),
        completeness_m=float(to_prediction.mean()),
    )


def align(points: npt.ArrayLike, true_points: npt.ArrayLike, valid: Mask) -> tuple[Array, Array]:
    """Both clouds shifted to their own median, the prediction brought to the truth's size.

    Size is the median distance to the median. No rotation is estimated: both are in the camera frame
    of view 0. The truth stays in metres. Values where not valid are 0.

    Raises:
        SageError: not one valid pixel, or a prediction that is not finite.
    """
    prediction, truth = masked_points(points, valid), masked_points(true_points, valid)
    prediction = prediction / _mean_distance(prediction, valid)
    prediction, truth = _centred(prediction, valid), _centred(truth, valid)
    size = min(max(median_size(prediction, valid), 1e-3), 1e3)
    return np.asarray(prediction * (median_size(truth, valid) / size)), truth


def view_errors(aligned: Array, truth: Array, valid: Mask) -> Array:
    """Mean distance over each view's valid pixels [V], at most :data:`ERROR_CAP`; 0 for a view with none."""
    errors = np.linalg.norm(aligned - truth, axis=-1) * valid
    per_view = tuple(range(1, valid.ndim))
    means = errors.sum(per_view) / np.maximum(valid.sum(per_view), 1)
    return np.asarray(np.minimum(means, ERROR_CAP))


def normalised_errors(points: npt.ArrayLike, true_points: npt.ArrayLike, valid: Mask) -> Array:
    """Distances at the valid pixels [M] once either side has mean distance 1 to the origin."""
    prediction, truth = masked_points(points, valid), masked_points(true_points, valid)
    prediction = prediction / _mean_distance(prediction, valid)
    truth = truth / _mean_distance(truth, valid)
    return np.asarray(np.linalg.norm(prediction - truth, axis=-1)[valid])


def nearest_distances(a: Array, b: Array, workers: int = 1) -> tuple[Array, Array]:
    """From every point of a [N, 3] to the nearest of b [M, 3], and back."""
    to_b, _ = tree(b).query(a, workers=workers)
    to_a, _ = tree(a).query(b, workers=workers)
    return np.asarray(to_b), np.asarray(to_a)


def tree(points: Array) -> Any:
    """A k-d tree of points [N, 3]; split at middles, not medians, which clouds of pictures are found in
    faster.
    """
    from scipy.spatial import cKDTree

    return cKDTree(points, balanced_tree=False, compact_nodes=False)


def chamfer(to_b: Array, to_a: Array) -> float:
    """Sum of the two mean *squared* distances, at most :data:`ERROR_CAP`."""
    return min(float(np.square(to_b).mean() + np.square(to_a).mean()), ERROR_CAP)


def masked_points(points: npt.ArrayLike, valid: Mask) -> Array:
    """Points [V, H, W, 3] in double precision, 0 where not valid.

    Raises:
        SageError: not one valid pixel, or a valid point that is not finite.
    """
    array = np.asarray(points, np.float64)
    if not valid.any():
        raise SageError(
            "no pixel with known depth in any view of this sample, so there is nothing to compare "
            "with: leave the sample out",
            reason=Reason.NO_DATA,
        )
    if not np.isfinite(array[valid]).all():
        raise SageError(
            "points that are not finite at pixels with known depth: the model's weights may have "
            "diverged",
            reason=Reason.NOT_FINITE,
        )
    return np.where(valid[..., None], array, 0.0)


def _mean_distance(points: Array, valid: Mask) -> float:
    return max(float(np.linalg.norm(points, axis=-1).sum() / (valid.sum() + _EPS)), _EPS)


def lower_median(values: Array) -> Array:
    """Along axis 0; the lower of the two middle values where their count is even, as torch has it."""
    middle = (len(values) - 1) // 2
    return np.asarray(np.partition(values, middle, axis=0)[middle])


def _centred(points: Array, valid: Mask) -> Array:
    return np.where(valid[..., None], points - lower_median(points[valid]), 0.0)


def median_size(points: Array, valid: Mask) -> float:
    """Median distance of the valid points from their median."""
    cloud = points[valid]
    return float(lower_median(np.linalg.norm(cloud - lower_median(cloud), axis=-1)))


@dataclass(frozen=True)
class PoseAccuracy:
    """Shares of view pairs; papers print the complements RRE, RTE and mAE in percent."""

    rra15: float
    """Rotation error below 15 degrees."""
    rta15: float
    """Error of the translation's direction below 15 degrees."""
    maa30: float
    """Mean over 1..30 degrees of the share with both errors below."""


def pose_errors(
    cam_from_reference: npt.ArrayLike, true_cam_from_reference: npt.ArrayLike
) -> tuple[Array, Array]:
    """Errors of rotation and of the translation's direction, in degrees, for all pairs i < j.

    As the published code has it: the motion between a pair is ``reference_from_i · j_from_reference``,
    the sign of the translation is ignored (0..90), and the angle is continued linearly near 0, so that
    a perfect rotation reads 0.405.

    Args:
        cam_from_reference, true_cam_from_reference: [V, 3, 4]; units do not matter.
    """
    motion, true_motion = _pair_motions(cam_from_reference), _pair_motions(true_cam_from_reference)
    product = np.einsum("nij,nkj->nik", true_motion[:, :, :3], motion[:, :, :3])
    cosine = (np.trace(product, axis1=1, axis2=2) - 1) / 2
    direction, true_direction = _direction(motion[:, :, 3]), _direction(true_motion[:, :, 3])
    sine_squared = np.maximum(1 - np.sum(direction * true_direction, axis=-1) ** 2, 1e-15)
    return (
        np.degrees(_acos_continued(cosine)),
        np.degrees(np.arccos(np.sqrt(1 - np.minimum(sine_squared, 1)))),
    )


def pose_accuracy(rotation_deg: Array, translation_deg: Array) -> PoseAccuracy:
    """Shares below the thresholds over the pairs of one tuple."""
    worst = np.maximum(rotation_deg, translation_deg)
    return PoseAccuracy(
        rra15=float((rotation_deg < 15).mean()),
        rta15=float((translation_deg < 15).mean()),
        maa30=float(np.mean([(worst < limit).mean() for limit in range(1, 31)])),
    )


def _pair_motions(cam_from_reference: npt.ArrayLike) -> Array:
    poses = np.asarray(cam_from_reference, np.float64)
    i, j = np.triu_indices(len(poses), k=1)
    return np.asarray(compose(invert(poses[i]), poses[j]))


def _direction(translation: Array) -> Array:
    return np.asarray(translation / (np.linalg.norm(translation, axis=-1, keepdims=True) + 1e-15))


def _acos_continued(cosine: Array, bound: float = 1 - 1e-4) -> Array:
    inside = np.clip(cosine, -bound, bound)
    slope = -1 / math.sqrt(1 - bound * bound)
    return np.asarray(np.arccos(inside) + slope * (cosine - inside))


def focal_from_pointmap(points: npt.ArrayLike, conf: npt.ArrayLike, rounds: int = 10) -> float:
    """Focal length (px) of a pinhole whose centre is the image's, robustly (Weiszfeld's iteration).

    Args:
        points: [H, W, 3] in the camera's own frame, any scale.
        conf: [H, W]; the least confident 3 % are left out.

    Pixel coordinates are whole numbers here, as in the published evaluation.
    """
    points, conf = np.asarray(points, np.float64), np.asarray(conf, np.float64)
    height, width = conf.shape
    keep = conf >= np.sort(conf, axis=None)[int(0.03 * height * width)]
    rows, columns = np.nonzero(keep)
    pixels = np.stack((columns - width / 2, rows - height / 2), axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rays = points[keep][:, :2] / points[keep][:, 2:]
    rays = np.nan_to_num(rays, nan=0.0, posinf=0.0, neginf=0.0)
    along, length = np.sum(pixels * rays, axis=-1), np.sum(rays * rays, axis=-1)
    focal = along.sum() / max(length.sum(), _EPS)
    for _ in range(rounds):
        weight = 1 / np.maximum(np.linalg.norm(pixels - focal * rays, axis=-1), _EPS)
        focal = (weight * along).sum() / max((weight * length).sum(), _EPS)
    return max(float(focal), 0.0)


def cameras_from_pointmaps(points: npt.ArrayLike, valid: Mask, focal: float) -> Array:
    """Poses [V, 3, 4] from the camera frame of view 0, by PnP with RANSAC (OpenCV's defaults).

    A view that has no solution gets the published code's stand-in, R = 1 and t = (1, 1, 1).

    Args:
        points: [V, H, W, 3] predicted in the camera frame of view 0; translations come out in their unit.
        valid: bool [V, H, W] pixels to use.
        focal: px, of all views.
    """
    points = np.asarray(points, np.float64)
    height, width = valid.shape[1:]
    K = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return np.stack([_pnp(view, mask, K) for view, mask in zip(points, valid, strict=True)])


def _pnp(points: Array, valid: Mask, K: Array) -> Array:
    rows, columns = np.nonzero(valid)
    pixels = np.stack((columns, rows), axis=-1).astype(np.float64)
    failed = np.concatenate((np.eye(3), np.ones((3, 1))), axis=1)
    if len(pixels) < 4:
        return failed
    try:
        found, rotation, translation, _ = cv2.solvePnPRansac(points[valid], pixels, K, None)
    except cv2.error:  # degenerate point sets
        return failed
    if not found:
        return failed
    return np.concatenate((cv2.Rodrigues(rotation)[0], translation.reshape(3, 1)), axis=1)


def psnr(image: npt.ArrayLike, truth: npt.ArrayLike) -> float:
    """Peak signal-to-noise ratio (dB) of images [H, W, C] in 0..1; infinite where they are equal."""
    a, b = np.clip(np.asarray(image, np.float64), 0, 1), np.asarray(truth, np.float64)
    error = float(np.mean((a - b) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(image: npt.ArrayLike, truth: npt.ArrayLike, data_range: float | None = None) -> float:
    """Structural similarity (Wang et al. 2004) of images [H, W, C] in 0..1, averaged over the whole map.

    Gaussian window of 11 px, sigma 1.5, reflecting borders. Without a ``data_range`` the larger of the
    two images' own is taken, as torchmetrics does for MV-DUSt3R's published figures.
    """
    a, b = np.clip(np.asarray(image, np.float64), 0, 1), np.asarray(truth, np.float64)
    if data_range is None:
        data_range = max(float(np.ptp(a)), float(np.ptp(b)))
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b = _blur(a), _blur(b)
    var_a, var_b = _blur(a * a) - mean_a**2, _blur(b * b) - mean_b**2
    covariance = _blur(a * b) - mean_a * mean_b
    score = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    norm = (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    with np.errstate(invalid="ignore"):
        return float(np.where(norm > 0, score / norm, 1.0).mean())


def _blur(image: Array) -> Any:
    return cv2.GaussianBlur(image, (11, 11), 1.5, borderType=cv2.BORDER_REFLECT_101)
