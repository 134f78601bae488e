"""A second opinion on a clip's lens: where its principal point lies, and whether its focal length stays.

COLMAP maps with the principal point in the middle and one focal length. A clip that was cropped before it
was uploaded, or that zooms, is bent to fit that, and reprojection errors hardly tell. Child process only.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.sfm.copies import posed_images, with_cameras

THIRDS = 3
_FEWEST_OF_A_THIRD = 3


@dataclass(frozen=True)
class PrincipalPoint:
    """Where an adjustment with the principal point free puts it.

    Attributes:
        offset: distance from the picture's middle along the worse axis, over the long side.
        sigma: standard deviation of that coordinate, over the long side, by the adjustment's covariance.
    """

    offset: float
    sigma: float


@dataclass(frozen=True)
class FocalSpread:
    """Focal lengths of a clip's thirds, one adjustment with a camera for each.

    Attributes:
        spread: the largest over the smallest, minus 1.
        sigma: the largest of their standard deviations, each over its focal length.
    """

    spread: float
    sigma: float

    @property
    def beyond_doubt(self) -> float:
        """What three standard deviations leave of the spread: where the focal length is open, so is this."""
        return max(0.0, self.spread - 3 * self.sigma)


def repeatable(sigma: float) -> float:
    """Nine digits of it: COLMAP adds covariances up in threads, so that the last of sixteen differ."""
    return float(f"{sigma:.9g}")


def free_principal_point(model: Any) -> tuple[Any, PrincipalPoint | None]:
    """A copy of the model with its principal point refined too, and where that lies.

    None, and the model itself, where there are several cameras or the covariance cannot be computed.
    """
    if len(model.cameras) != 1:
        return model, None
    freed = copy.deepcopy(model)
    (sigmas,) = _adjust(freed, principal_point=True) or (None,)
    if sigmas is None:
        return model, None
    (camera,) = freed.cameras.values()
    middle = np.array([camera.width, camera.height]) / 2
    at = np.array([camera.principal_point_x, camera.principal_point_y])
    offset = np.abs(at - middle) / max(camera.width, camera.height)
    worse = int(offset.argmax())
    sigma = sigmas[1 + worse] / max(camera.width, camera.height)
    return freed, PrincipalPoint(float(offset[worse]), float(sigma))


def focal_spread(model: Any) -> FocalSpread | None:
    """How far apart the focal lengths of the clip's thirds lie; None for few frames or several cameras."""
    images = sorted(posed_images(model), key=lambda image: str(image.name))
    if len(model.cameras) != 1 or len(images) < THIRDS * _FEWEST_OF_A_THIRD:
        return None
    groups = [place * THIRDS // len(images) + 1 for place in range(len(images))]
    thirds = with_cameras(model, images, groups)
    sigmas = _adjust(thirds, principal_point=False)
    if sigmas is None:
        return None
    lengths = [camera.focal_length for _, camera in sorted(thirds.cameras.items())]
    shares = [float(s[0] / length) for s, length in zip(sigmas, lengths, strict=True)]
    return FocalSpread(max(lengths) / min(lengths) - 1, max(shares))


def _adjust(model: Any, *, principal_point: bool) -> list[NDArray[np.float64]] | None:
    """One more bundle adjustment, in place.

    Returns:
        For each camera by id the standard deviations of what was refined of f, cx, cy, k, observations taken
        to err by the mean reprojection error; None where the covariance cannot be computed.
    """
    import pycolmap

    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = principal_point
    options.print_summary = False
    options.ceres.solver_options.num_threads = 1
    options.ceres.solver_options.function_tolerance = 1e-6
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.reg_image_ids():
        config.add_image(image_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, config, model)
    adjuster.solve()
    # COLMAP gives a point behind its camera the largest error there is, and one ruins the mean.
    pycolmap.ObservationManager(model).filter_observations_with_negative_depth()
    model.update_point_3d_errors()
    found = pycolmap.estimate_ba_covariance(pycolmap.BACovarianceOptions(), model, adjuster)
    if found is None:
        return None
    error_px = model.compute_mean_reprojection_error()
    covariances = [found.get_other_params_cov(c.params) for _, c in sorted(model.cameras.items())]
    if any(one is None for one in covariances):
        return None
    sigmas = [error_px * np.sqrt(np.maximum(np.diag(one), 0)) for one in covariances]
    return [np.array([repeatable(sigma) for sigma in one]) for one in sigmas]
