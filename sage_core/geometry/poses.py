"""Rigid and similarity transforms, projection and back-projection, in numpy and in double precision.

A rigid transform is a 3x4 matrix ``[R | t]`` and is named by its ends: ``cam_from_world``, ``a_from_b``.
Leading dimensions broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def invert(a_from_b: ArrayLike) -> Array:
    """``b_from_a`` [..., 3, 4]."""
    T = np.asarray(a_from_b, np.float64)
    R = np.swapaxes(T[..., :3], -1, -2)
    return np.concatenate([R, -R @ T[..., 3:]], -1)


def compose(a_from_b: ArrayLike, b_from_c: ArrayLike) -> Array:
    """``a_from_c`` [..., 3, 4]."""
    A, B = np.asarray(a_from_b, np.float64), np.asarray(b_from_c, np.float64)
    R = A[..., :3] @ B[..., :3]
    t = A[..., :3] @ B[..., 3:] + A[..., 3:]
    return np.concatenate([R, t], -1)


def relative(a_from_world: ArrayLike, b_from_world: ArrayLike) -> Array:
    """``a_from_b`` [..., 3, 4] of two cameras."""
    return compose(a_from_world, invert(b_from_world))


def transform(a_from_b: ArrayLike, points_b: ArrayLike) -> Array:
    """Points [..., N, 3] of frame b in frame a."""
    T = np.asarray(a_from_b, np.float64)
    return np.asarray(points_b, np.float64) @ np.swapaxes(T[..., :3], -1, -2) + T[..., None, :, 3]


def camera_centres(cam_from_world: ArrayLike) -> Array:
    """Where cameras [..., 3, 4] stand in the world, [..., 3]."""
    return invert(cam_from_world)[..., 3]


def intrinsics_matrix(fx_fy_cx_cy: ArrayLike) -> Array:
    """K [..., 3, 3] from [..., 4]."""
    v = np.asarray(fx_fy_cx_cy, np.float64)
    K = np.zeros((*v.shape[:-1], 3, 3))
    K[..., 0, 0], K[..., 1, 1], K[..., 0, 2], K[..., 1, 2] = np.moveaxis(v, -1, 0)
    K[..., 2, 2] = 1
    return K


def intrinsics_vector(K: ArrayLike) -> Array:
    """[..., 4] fx, fy, cx, cy from K [..., 3, 3]."""
    k = np.asarray(K, np.float64)
    return np.stack([k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]], -1)


def pixel_centres(width: int, height: int) -> Array:
    """Every pixel's centre [height, width, 2]; the top-left one is (0.5, 0.5)."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y], -1)


def project(K: ArrayLike, points_cam: ArrayLike) -> tuple[Array, Array]:
    """Pixels [..., N, 2] and depths z [..., N] of camera-frame points [..., N, 3].

    Points with z <= 0 are behind the camera and get pixels NaN.
    """
    points = np.asarray(points_cam, np.float64)
    depth = points[..., 2]
    v = intrinsics_vector(K)[..., None, :]
    z = np.where(depth > 0, depth, np.nan)[..., None]
    return points[..., :2] / z * v[..., :2] + v[..., 2:], depth


def unproject(K: ArrayLike, xy: ArrayLike, depth: ArrayLike) -> Array:
    """Camera-frame points [..., N, 3] at pixels [..., N, 2] with depth z [..., N]."""
    v = intrinsics_vector(K)[..., None, :]
    rays = (np.asarray(xy, np.float64) - v[..., 2:]) / v[..., :2]
    z = np.asarray(depth, np.float64)[..., None]
    return np.concatenate([rays * z, z], -1)


def rotation_angle_deg(R: ArrayLike) -> Any:
    """Angle of rotations [..., 3, 3] in degrees, [...]; exact near 0 and near 180."""
    r = np.asarray(R, np.float64)
    axis = np.stack(
        [
            r[..., 2, 1] - r[..., 1, 2],
            r[..., 0, 2] - r[..., 2, 0],
            r[..., 1, 0] - r[..., 0, 1],
        ],
        -1,
    )
    # 2 sin and 2 cos of the angle: arctan2 keeps the digits that arccos of the trace loses at both ends.
    trace = np.trace(r, axis1=-2, axis2=-1)
    return np.degrees(np.arctan2(np.linalg.norm(axis, axis=-1), trace - 1))


@dataclass(frozen=True)
class Sim3:
    """A similarity ``x_a = scale * R @ x_b + t`` between two worlds.

    Attributes:
        scale: metres of a per unit of b, above 0.
        rotation: R [3, 3].
        translation: t [3], in units of a.
    """

    scale: float
    rotation: Array
    translation: Array

    def points(self, points_b: ArrayLike) -> Array:
        """Points [..., 3] of world b in world a."""
        moved = np.asarray(points_b, np.float64) @ self.rotation.T
        return self.scale * moved + self.translation

    def cameras(self, cam_from_b: ArrayLike) -> Array:
        """Cameras [..., 3, 4] posed in world b, posed in world a; depths grow by ``scale``."""
        T = np.asarray(cam_from_b, np.float64)
        R = T[..., :3] @ self.rotation.T
        t = self.scale * T[..., 3:] - R @ self.translation[:, None]
        return np.concatenate([R, t], -1)

    def inverse(self) -> Sim3:
        """The similarity b from a."""
        R = self.rotation.T
        return Sim3(1 / self.scale, R, -(R @ self.translation) / self.scale)


def umeyama(points_a: ArrayLike, points_b: ArrayLike, *, with_scale: bool = True) -> Sim3:
    """The similarity a from b that fits N >= 3 matched points [N, 3] best in least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", 1991.

    Raises:
        ValueError: fewer than three points, shapes that differ, values that are not finite, or points
            of b that all coincide.
    """
    a, b = np.asarray(points_a, np.float64), np.asarray(points_b, np.float64)
    if a.shape != b.shape or a.ndim != 2 or a.shape[1] != 3 or len(a) < 3:
        raise ValueError(f"alignment needs two [N >= 3, 3] arrays, got {a.shape} and {b.shape}")
    mean_a, mean_b = a.mean(0), b.mean(0)
    spread = np.square(b - mean_b).sum() / len(b)
    if not (np.isfinite(a).all() and np.isfinite(b).all()) or spread == 0:
        raise ValueError("alignment needs finite points that do not all coincide")
    U, S, Vt = np.linalg.svd((a - mean_a).T @ (b - mean_b) / len(a))
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])
    R = U * signs @ Vt
    scale = float((S * signs).sum() / spread) if with_scale else 1.0
    return Sim3(scale, R, mean_a - scale * R @ mean_b)
