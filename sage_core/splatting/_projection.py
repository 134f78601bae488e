"""Gaussians in space to Gaussians on an image, in plain torch so that autograd differentiates it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sage_core.splatting._constants import RasterConstants

_FIELD_MARGIN = 0.15
"""The Jacobian is taken no farther outside the image than this share of it (3DGS's 1.3 x field of view)."""


@dataclass(frozen=True)
class Splats:
    """N Gaussians as C cameras see them."""

    xy: Tensor
    """[C, N, 2] centres in pixels, +0.5 rule."""
    conic: Tensor
    """[C, N, 3] inverse covariance on the image: xx, xy, yy."""
    depth: Tensor
    """[C, N] z in the camera."""
    extent: Tensor
    """[C, N, 2] half width and height in pixels of the region with alpha >= alpha_min; 0 = not seen."""


def project(
    means: Tensor,
    scales: Tensor,
    quats: Tensor,
    opacities: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    size: tuple[int, int],
    constants: RasterConstants,
) -> Splats:
    """Elliptical weighted average splatting: the covariance through the camera's local affine map."""
    x, y, z = (
        turned[..., 0] + cam_from_world[:, i, 3, None]
        for i, turned in enumerate(_turn(cam_from_world, means[..., None]))
    )
    seen = (z > constants.near) & (z < constants.far)
    z = torch.where(seen, z, 1.0)  # keeps gradients finite for what is behind the camera
    xx, xy, yy = _image_covariance((x, y, z), scales, quats, cam_from_world, intrinsics, size)
    xx, yy = xx + constants.eps2d, yy + constants.eps2d
    determinant = xx * yy - xy * xy
    seen = seen & (determinant > 0) & determinant.isfinite()
    determinant = torch.where(seen, determinant, 1.0)
    fx, fy, cx, cy = pinhole(intrinsics)
    pixels = torch.stack((fx * x / z + cx, fy * y / z + cy), dim=-1)
    return Splats(
        xy=pixels,
        conic=torch.stack((yy, -xy, xx), dim=-1) / determinant[..., None],
        depth=z,
        extent=_extent(xx, yy, opacities, seen & pixels.isfinite().all(-1), constants),
    )


def _image_covariance(
    centres: tuple[Tensor, Tensor, Tensor],
    scales: Tensor,
    quats: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    size: tuple[int, int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Entries xx, xy, yy [C, N] of J·R·Σ·Rᵀ·Jᵀ, as products of the rows of J·R·Q·S."""
    x, y, z = centres
    fx, fy, _, _ = lens = pinhole(intrinsics)
    left, right, top, bottom = ray_bounds(lens, size)
    x = z * (x / z).clamp(left, right)
    y = z * (y / z).clamp(top, bottom)
    axes = rotation_matrix(quats) * scales[:, None, :]
    a, b, c = _turn(cam_from_world, axes)
    row_x = (fx / z)[..., None] * a - (fx * x / z**2)[..., None] * c
    row_y = (fy / z)[..., None] * b - (fy * y / z**2)[..., None] * c
    return _dot(row_x, row_x), _dot(row_x, row_y), _dot(row_y, row_y)


def _turn(cam_from_world: Tensor, columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows 0, 1, 2, each [C, N, K], of R @ columns [N, 3, K].

    Spelled out, because a matrix library sums in an order that depends on the number of threads.
    """
    a, b, c = columns.unbind(1)

    def row(i: int) -> Tensor:
        r = cam_from_world[:, i, :3, None, None]
        return r[:, 0] * a + r[:, 1] * b + r[:, 2] * c

    return row(0), row(1), row(2)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    product = a * b
    return product[..., 0] + product[..., 1] + product[..., 2]


def pinhole(intrinsics: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """fx, fy, cx, cy, each [C, 1]."""
    K = intrinsics[:, None]
    return K[..., 0, 0], K[..., 1, 1], K[..., 0, 2], K[..., 1, 2]


def ray_bounds(
    pinhole: tuple[Tensor, Tensor, Tensor, Tensor], size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Least and largest x/z, then y/z, that the Jacobian is taken at, each [C, 1]."""
    fx, fy, cx, cy = pinhole
    width, height = size
    return (
        (-cx - _FIELD_MARGIN * width) / fx,
        (width - cx + _FIELD_MARGIN * width) / fx,
        (-cy - _FIELD_MARGIN * height) / fy,
        (height - cy + _FIELD_MARGIN * height) / fy,
    )


@torch.no_grad()
def _extent(
    xx: Tensor, yy: Tensor, opacities: Tensor, seen: Tensor, constants: RasterConstants
) -> Tensor:
    """Half sides of the box around all pixels where opacity · exp(-d²/2) reaches alpha_min."""
    reach = (2 * (opacities / constants.alpha_min).log()).clamp(min=0).sqrt()
    box = torch.stack((xx, yy), dim=-1).clamp(min=0).sqrt() * reach[:, None]
    return torch.where(seen[..., None], box, 0.0).nan_to_num(0.0)


def rotation_matrix(quats: Tensor) -> Tensor:
    """[N, 3, 3] of quaternions [N, 4] (w, x, y, z) of any length but zero."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)
