"""Errors of relative poses, as VGGT's, Pi3's and MapAnything's evaluations compute them.

The pose of a pair is that of camera j as seen from camera i. Its rotation's error is the angle between true
and predicted rotation; its translation's the angle between the directions, whose sign does not count (0 to
90 degrees). MV-DUSt3R's own figures (:func:`sage_core.evaluation.metrics.pose_errors`) compose the pair
otherwise.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sage_core.geometry import relative, rotation_angle_deg

Array = npt.NDArray[np.float64]
LIMITS_DEG = (5, 15, 30)


def relative_pose_errors(
    cam_from_world: npt.ArrayLike, true_cam_from_world: npt.ArrayLike
) -> tuple[Array, Array]:
    """Errors of rotation and of the translation's direction, in degrees, for all pairs i < j.

    Args:
        cam_from_world, true_cam_from_world: [V, 3, 4]; their worlds and units may differ.

    A true translation of length 0 has no direction: its error is 0. A predicted one of length 0 errs by 90.
    """
    motion, truth = _pairs(cam_from_world), _pairs(true_cam_from_world)
    turn = motion[:, :, :3] @ np.swapaxes(truth[:, :, :3], -1, -2)
    return np.asarray(rotation_angle_deg(turn)), _direction_errors(motion[:, :, 3], truth[:, :, 3])


def relative_pose_figures(rotation_deg: Array, translation_deg: Array) -> dict[str, float]:
    """``rra@k``, ``rta@k``: shares of pairs with an error below k degrees; ``auc@k``: mean over 1..k
    degrees of the share of pairs whose larger error is below.
    """
    worst = np.maximum(rotation_deg, translation_deg)
    figures = {}
    for limit in LIMITS_DEG:
        figures[f"rra@{limit}"] = float((rotation_deg < limit).mean())
        figures[f"rta@{limit}"] = float((translation_deg < limit).mean())
        figures[f"auc@{limit}"] = float(np.mean([(worst < k).mean() for k in range(1, limit + 1)]))
    return figures


def _pairs(cam_from_world: npt.ArrayLike) -> Array:
    poses = np.asarray(cam_from_world, np.float64)
    i, j = np.triu_indices(len(poses), k=1)
    return relative(poses[j], poses[i])


def _direction_errors(motion: Array, truth: Array) -> Array:
    length, true_length = np.linalg.norm(motion, axis=-1), np.linalg.norm(truth, axis=-1)
    # arctan2 of sine and cosine keeps the digits of small angles.
    sine = np.linalg.norm(np.cross(motion, truth), axis=-1)
    cosine = np.abs(np.sum(motion * truth, axis=-1))
    angle = np.degrees(np.arctan2(sine, cosine))
    angle = np.where(length > 0, angle, 90.0)
    return np.where(true_length > 0, angle, 0.0)
