"""Torch twins of :mod:`sage_core.geometry.poses`, batched and differentiable, on any device.

Shapes broadcast over leading dimensions; conventions are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


def invert(a_from_b: Tensor) -> Tensor:
    """``b_from_a`` [..., 3, 4]."""
    R = a_from_b[..., :3].transpose(-1, -2)
    return torch.cat([R, -R @ a_from_b[..., 3:]], -1)


def compose(a_from_b: Tensor, b_from_c: Tensor) -> Tensor:
    """``a_from_c`` [..., 3, 4]."""
    R = a_from_b[..., :3] @ b_from_c[..., :3]
    t = a_from_b[..., :3] @ b_from_c[..., 3:] + a_from_b[..., 3:]
    return torch.cat([R, t], -1)


def relative(a_from_world: Tensor, b_from_world: Tensor) -> Tensor:
    """``a_from_b`` [..., 3, 4] of two cameras."""
    return compose(a_from_world, invert(b_from_world))


def transform(a_from_b: Tensor, points_b: Tensor) -> Tensor:
    """Points [..., N, 3] of frame b in frame a."""
    return points_b @ a_from_b[..., :3].transpose(-1, -2) + a_from_b[..., None, :, 3]


def project(K: Tensor, points_cam: Tensor, near: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Pixels [..., N, 2] (+0.5 rule) and depths z [..., N] of camera-frame points [..., N, 3].

    Depths below ``near`` are clamped for the division, so that gradients stay finite: mask by the depth.
    """
    depth = points_cam[..., 2]
    rays = points_cam[..., :2] / depth.clamp(min=near)[..., None]
    focal = torch.diagonal(K, dim1=-2, dim2=-1)[..., None, :2]
    return rays * focal + K[..., None, :2, 2], depth


def unproject(K: Tensor, xy: Tensor, depth: Tensor) -> Tensor:
    """Camera-frame points [..., N, 3] at pixels [..., N, 2] with depth z [..., N]."""
    focal = torch.diagonal(K, dim1=-2, dim2=-1)[..., None, :2]
    rays = (xy - K[..., None, :2, 2]) / focal
    return torch.cat([rays * depth[..., None], depth[..., None]], -1)


def pixel_centres(
    width: int,
    height: int,
    *,
    device: torch.device | str | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Every pixel's centre [height, width, 2]; the top-left one is (0.5, 0.5)."""
    x = torch.arange(width, device=device, dtype=dtype) + 0.5
    y = torch.arange(height, device=device, dtype=dtype) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)


def pointmap(depth: Tensor, K: Tensor, a_from_cam: Tensor) -> Tensor:
    """Points [..., H, W, 3] in frame a of depth maps [..., H, W]; K [..., 3, 3], a_from_cam [..., 3, 4]."""
    height, width = depth.shape[-2:]
    grid = pixel_centres(width, height, device=depth.device, dtype=depth.dtype).reshape(-1, 2)
    points = transform(a_from_cam, unproject(K, grid, depth.flatten(-2)))
    return points.reshape(*points.shape[:-2], height, width, 3)


def rotation_from_quaternion(quaternion: Tensor) -> Tensor:
    """R [..., 3, 3] of quaternions [..., 4] (w, x, y, z) of any length but zero."""
    w, x, y, z = quaternion.unbind(-1)
    s = 2 / quaternion.square().sum(-1)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """Unit quaternions [..., 4] (w, x, y, z), w >= 0, of R [..., 3, 3].

    Each of the four components can be had from the diagonal, and the others from it; the largest one is
    taken, so that nothing small is divided by (Shepperd 1978).
    """
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(-1) for row in rotation.unbind(-2))
    candidates = torch.stack(
        [
            torch.stack([1 + a + e + i, h - f, c - g, d - b], -1),
            torch.stack([h - f, 1 + a - e - i, b + d, c + g], -1),
            torch.stack([c - g, b + d, 1 - a + e - i, f + h], -1),
            torch.stack([d - b, c + g, f + h, 1 - a - e + i], -1),
        ],
        -2,
    )
    largest = torch.diagonal(candidates, dim1=-2, dim2=-1).argmax(-1)
    index = largest[..., None, None].expand(*largest.shape, 1, 4)
    best = candidates.gather(-2, index).squeeze(-2)
    unit = best / torch.linalg.vector_norm(best, dim=-1, keepdim=True)
    return torch.where(unit[..., :1] < 0, -unit, unit)
