"""The camera that SfM estimates, with lens distortion, and how a picture is freed of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sage_core.errors import SageError
from sage_core.geometry.pixels import PixelMap
from sage_core.geometry.poses import pixel_centres
from sage_core.types import Reason

Array = NDArray[np.float64]

_PARAMETERS = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
}
_NEWTON_STEPS = 30
_CONVERGED = 1e-9
_ZOOM_LIMITS = (0.5, 2.0)
_BORDER_POINTS = 65


@dataclass(frozen=True)
class Camera:
    """A pinhole with Brown's radial and tangential distortion (COLMAP's OPENCV model and all below it).

    Attributes:
        width, height: size of the picture in pixels.
        fx, fy, cx, cy: focal lengths and principal point in pixels, +0.5 rule (COLMAP's own).
        k1, k2, p1, p2: distortion of normalised coordinates; all 0 for a pinhole.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    k1: float = 0.0
    k2: float = 0.0
    p1: float = 0.0
    p2: float = 0.0

    @classmethod
    def from_colmap(cls, model: str, width: int, height: int, params: Sequence[float]) -> Camera:
        """From COLMAP's model name and parameter list.

        Raises:
            SageError: a model that is not one of PINHOLE, RADIAL, OPENCV and their SIMPLE forms.
        """
        names = _PARAMETERS.get(model)
        if names is None or len(names) != len(params):
            known = ", ".join(_PARAMETERS)
            raise SageError(
                f"camera model {model} with {len(params)} parameters is not one of {known}: "
                "reconstruct the clip with reconstruct.camera_model set to one of these",
                reason=Reason.UNSUPPORTED,
            )
        values = dict(zip(names, map(float, params), strict=True))
        if "f" in values:
            values["fx"] = values["fy"] = values.pop("f")
        return cls(width, height, **values)

    @property
    def K(self) -> Array:  # noqa: N802 (the field's own name)
        """Intrinsics [3, 3] without the distortion."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    @property
    def distorted(self) -> bool:
        return any((self.k1, self.k2, self.p1, self.p2))

    def mapped(self, pixels: PixelMap) -> Camera:
        """The camera of the resized or cropped picture."""
        fx, fy = self.fx * pixels.scale_x, self.fy * pixels.scale_y
        cx, cy = pixels.points(np.array([self.cx, self.cy]))
        return replace(
            self, width=pixels.width, height=pixels.height, fx=fx, fy=fy, cx=float(cx), cy=float(cy)
        )

    def project(self, points_cam: ArrayLike) -> Array:
        """Pixels [..., 2] of camera-frame points [..., 3]; NaN behind the camera."""
        points = np.asarray(points_cam, np.float64)
        z = np.where(points[..., 2:] > 0, points[..., 2:], np.nan)
        return self._distort(points[..., :2] / z) * (self.fx, self.fy) + (self.cx, self.cy)

    def rays(self, xy: ArrayLike) -> Array:
        """Normalised, undistorted coordinates [..., 2] (x/z, y/z) seen at pixels [..., 2].

        Raises:
            SageError: the distortion cannot be inverted at one of the pixels, which a sane lens never shows.
        """
        wanted = (np.asarray(xy, np.float64) - (self.cx, self.cy)) / (self.fx, self.fy)
        if not self.distorted:
            return np.asarray(wanted)
        found = wanted.copy()
        for _ in range(_NEWTON_STEPS):
            miss = self._distort(found) - wanted
            if np.abs(miss).max(initial=0) < _CONVERGED:
                break
            found -= np.linalg.solve(self._jacobian(found), miss[..., None])[..., 0]
        self._check_inverse(found, wanted)
        return np.asarray(found)

    def pinhole(self) -> Camera:
        """The undistorted camera of the same size with the widest view that has no empty pixel."""
        if not self.distorted:
            return self
        sides = self.rays(_border(self.width, self.height)) * (self.fx, self.fy)
        left, right, top, bottom = sides
        zoom = max(
            self.cx / -left[:, 0].max(),
            (self.width - self.cx) / right[:, 0].min(),
            self.cy / -top[:, 1].max(),
            (self.height - self.cy) / bottom[:, 1].min(),
        )
        if not _ZOOM_LIMITS[0] <= zoom <= _ZOOM_LIMITS[1]:
            raise _implausible(self, f"undistorting it would scale the picture by {zoom:.2f}")
        return Camera(self.width, self.height, self.fx * zoom, self.fy * zoom, self.cx, self.cy)

    def undistort_points(self, xy: ArrayLike) -> Array:
        """Pixels [..., 2] of the distorted picture as pixels of :meth:`pinhole`'s picture."""
        if not self.distorted:
            return np.asarray(xy, np.float64)
        straight = self.pinhole()
        return self.rays(xy) * (straight.fx, straight.fy) + (straight.cx, straight.cy)

    def undistortion_map(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """For ``cv2.remap``: where each pixel of :meth:`pinhole`'s picture lies in the distorted one."""
        straight = self.pinhole()
        grid = pixel_centres(self.width, self.height)
        rays = (grid - (straight.cx, straight.cy)) / (straight.fx, straight.fy)
        # OpenCV counts pixel centres from 0.
        source = self._distort(rays) * (self.fx, self.fy) + (self.cx, self.cy) - 0.5
        return source[..., 0].astype(np.float32), source[..., 1].astype(np.float32)

    def _distort(self, rays: Array) -> Array:
        u, v = rays[..., 0], rays[..., 1]
        uu, uv, vv = u * u, u * v, v * v
        r2 = uu + vv
        radial = 1 + r2 * (self.k1 + r2 * self.k2)
        return np.stack(
            [
                u * radial + 2 * self.p1 * uv + self.p2 * (r2 + 2 * uu),
                v * radial + 2 * self.p2 * uv + self.p1 * (r2 + 2 * vv),
            ],
            -1,
        )

    def _jacobian(self, rays: Array) -> Array:
        u, v = rays[..., 0], rays[..., 1]
        r2 = u * u + v * v
        radial = 1 + r2 * (self.k1 + r2 * self.k2)
        slope = 2 * self.k1 + 4 * self.k2 * r2
        cross = u * v * slope + 2 * self.p1 * u + 2 * self.p2 * v
        du = radial + u * u * slope + 2 * self.p1 * v + 6 * self.p2 * u
        dv = radial + v * v * slope + 2 * self.p2 * u + 6 * self.p1 * v
        return np.stack([np.stack([du, cross], -1), np.stack([cross, dv], -1)], -2)

    def _check_inverse(self, found: Array, wanted: Array) -> None:
        # Beyond the radius where the model turns back on itself Newton lands on a mirrored solution.
        folded = np.linalg.det(self._jacobian(found)) <= 0
        missed = np.abs(self._distort(found) - wanted).max(-1) > 1e-6
        if np.any(folded | missed | ~np.isfinite(found).all(-1)):
            raise _implausible(self, "its distortion folds the picture over itself")


def _border(width: int, height: int) -> Array:
    """Points along the picture's sides left, right, top, bottom, [4, N, 2].

    They are the same shares of the sides at every size, so that :meth:`Camera.pinhole` of a resized camera
    is the resized pinhole.
    """
    share = np.linspace(0, 1, _BORDER_POINTS)
    x, y, zero = width * share, height * share, np.zeros(_BORDER_POINTS)
    pairs = [(zero, y), (zero + width, y), (x, zero), (x, zero + height)]
    return np.stack([np.stack(pair, -1) for pair in pairs])


def _implausible(camera: Camera, why: str) -> SageError:
    return SageError(f"{camera} is no plausible lens: {why}", reason=Reason.QUALITY_GATE)
