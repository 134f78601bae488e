"""How far two trajectories of the same frames lie apart, whatever their worlds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.geometry import camera_centres, rotation_angle_deg, umeyama
from sage_core.sfm.model import frame_of

Array = NDArray[np.float64]
Poses = dict[int, Array]
"""``cam_from_world`` [3, 4] by source frame."""

_FEWEST = 5


@dataclass(frozen=True)
class Distance:
    """Attributes:
    percent: RMSE of the centres after Sim3, in percent of the second one's extent (diagonal of its box).
    deg: median angle between the cameras after the common rotation, in degrees.
    """

    percent: float
    deg: float


def poses_of(model: Any) -> Poses:
    """The poses in COLMAP's model."""
    return {
        frame_of(str(image.name)): np.asarray(image.cam_from_world().matrix())
        for image in model.images.values()
        if image.has_pose
    }


def distance(ours: Mapping[int, Array], theirs: Mapping[int, Array]) -> Distance | None:
    """Over the frames that both have; None where these are fewer than five, or do not travel."""
    both = sorted(ours.keys() & theirs.keys())
    if len(both) < _FEWEST:
        return None
    a, b = np.stack([ours[frame] for frame in both]), np.stack([theirs[frame] for frame in both])
    centres, wanted = camera_centres(a), camera_centres(b)
    extent = float(np.linalg.norm(np.ptp(wanted, axis=0)))
    if extent <= 0 or not np.ptp(centres, axis=0).any():
        return None
    miss = np.linalg.norm(umeyama(wanted, centres).points(centres) - wanted, axis=1)
    turn = a[:, :, :3] @ common_rotation(a, b) @ np.swapaxes(b[:, :, :3], 1, 2)
    return Distance(
        100 * float(np.sqrt((miss**2).mean())) / extent,
        float(np.median(rotation_angle_deg(turn))),
    )


def common_rotation(a: Array, b: Array) -> Array:
    """[3, 3] world of a from world of b, by the cameras' rotations alone: a straight path tells no roll."""
    U, _, V = np.linalg.svd(np.einsum("nij,nik->jk", a[:, :, :3], b[:, :, :3]))
    sign = np.sign(np.linalg.det(U @ V))
    return np.asarray(U @ np.diag([1.0, 1.0, sign]) @ V)
