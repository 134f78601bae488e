"""Cameras as VGGT codes them, and the one place where its pixel rule meets the project's.

The code is nine numbers: the translation of cam_from_world, its rotation as a quaternion (x, y, z, w), and
the vertical and the horizontal field of view in radians. The principal point is not coded: it lies at W/2,
H/2, counted between pixels whose centres have *whole* numbers. Here the first pixel's centre is at 0.5.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sage_core.geometry.batched import quaternion_from_rotation, rotation_from_quaternion

PIXEL_OFFSET = 0.5
"""What to add to VGGT's pixel coordinates to get the project's."""

FOV_LIMITS = (1e-2, math.pi - 1e-2)
"""Fields of view are kept in here before they become focal lengths: VGGT may well predict 0."""

_SHORTEST = 1e-12


def decode_cameras(code: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """cam_from_world [..., 3, 4] and intrinsics [..., 3, 3] (+0.5 rule) of codes [..., 9].

    Predicted quaternions are of any length. One of length 0 stands for no rotation.
    """
    translation, fov = code[..., :3], code[..., 7:].clamp(*FOV_LIMITS)
    wxyz = code[..., [6, 3, 4, 5]]
    none = wxyz.square().sum(-1, keepdim=True) < _SHORTEST
    rotation = rotation_from_quaternion(wxyz.where(~none, wxyz.new_tensor((1.0, 0.0, 0.0, 0.0))))
    focal = code.new_tensor((height, width)) / 2 / torch.tan(fov / 2)
    return torch.cat((rotation, translation[..., None]), dim=-1), _intrinsics(focal, height, width)


def encode_cameras(cam_from_world: Tensor, intrinsics: Tensor, height: int, width: int) -> Tensor:
    """Codes [..., 9] of cameras; the principal point is lost, and no rotation has w < 0."""
    wxyz = quaternion_from_rotation(cam_from_world[..., :3])
    focal = torch.diagonal(intrinsics, dim1=-2, dim2=-1)[..., [1, 0]]
    fov = 2 * torch.atan(focal.new_tensor((height, width)) / 2 / focal)
    return torch.cat((cam_from_world[..., 3], wxyz[..., [1, 2, 3, 0]], fov), dim=-1)


def _intrinsics(focal_yx: Tensor, height: int, width: int) -> Tensor:
    K = focal_yx.new_zeros((*focal_yx.shape[:-1], 3, 3))
    K[..., 0, 0], K[..., 1, 1] = focal_yx[..., 1], focal_yx[..., 0]
    K[..., 0, 2], K[..., 1, 2] = width / 2 + PIXEL_OFFSET, height / 2 + PIXEL_OFFSET
    K[..., 2, 2] = 1
    return K
