"""The CPU backend: numba kernels for projection and compositing, their gradients written by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sage_core.splatting._backward_kernels import composite_backward
from sage_core.splatting._binning_kernels import bin_tiles, sort_tiles
from sage_core.splatting._composite_kernels import composite
from sage_core.splatting._constants import RasterConstants
from sage_core.splatting._numba import share_threads
from sage_core.splatting._projection import pinhole, ray_bounds
from sage_core.splatting._projection_backward_kernels import project_backward
from sage_core.splatting._projection_kernels import DEPTH, project

_ALPHA_FLOOR = 1e-10


def render(
    means: Tensor,
    scales: Tensor,
    quats: Tensor,
    opacities: Tensor,
    colours: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
    width: int,
    height: int,
    constants: RasterConstants,
) -> tuple[Tensor, Tensor, Tensor]:
    """See :func:`sage_core.splatting.render`."""
    gaussians = (means, scales, quats, opacities, colours)
    drawn, depth, remaining = _Splatting.apply(  # type: ignore[no-untyped-call]
        *gaussians, cam_from_world, intrinsics, (width, height), constants
    )
    alpha = 1 - remaining
    image = drawn + remaining[..., None] * constants.background
    return image, alpha, depth / alpha.clamp(min=_ALPHA_FLOOR)


@dataclass(frozen=True)
class _Drawing:
    """What the backward pass needs of the forward pass, as numpy arrays; see the kernels."""

    pinholes: Any
    splats: Any
    first: Any
    starts: Any
    members: Any
    rows: Any
    reached: Any
    size: tuple[int, int]
    limits: Any
    remaining: Any
    last: Any


class _Splatting(Function):
    """Sums of colour and z [C, H, W, …] by weight, and the transmittance left; all cameras at once."""

    @staticmethod
    def forward(
        ctx: Any,
        means: Tensor,
        scales: Tensor,
        quats: Tensor,
        opacities: Tensor,
        colours: Tensor,
        cam_from_world: Tensor,
        intrinsics: Tensor,
        size: tuple[int, int],
        constants: RasterConstants,
    ) -> tuple[Tensor, ...]:
        share_threads()
        gaussians = map(_numpy, (means, scales, quats, opacities[:, None]))
        poses, pinholes = _poses(cam_from_world), _numpy(_pinholes(intrinsics, size))
        seen = (constants.near, constants.far, constants.eps2d, constants.alpha_min)
        splats, boxes = project(*gaussians, poses, pinholes, size, np.array(seen, poses.dtype))
        depth_bits = splats.view(f"i{splats.itemsize}")[..., DEPTH]
        first, starts, keys, members, rows, touched = bin_tiles(boxes, depth_bits, size)
        sort_tiles(starts, keys, members, rows, touched)
        limits = np.array((constants.alpha_cap, constants.transmittance_min), splats.dtype)
        drawn, depth, remaining, last, reached = composite(
            splats, _numpy(colours), starts, members, touched, size, limits
        )
        ctx.save_for_backward(means, scales, quats, colours, cam_from_world)
        ctx.drawing = _Drawing(
            pinholes, splats, first, starts, members, rows, reached, size, limits, remaining, last
        )
        return tuple(map(torch.from_numpy, (drawn, depth, remaining.copy())))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, g_drawn: Tensor, g_depth: Tensor, g_remaining: Tensor
    ) -> tuple[Tensor | None, ...]:
        share_threads()
        *gaussians, colours, _ = map(_numpy, ctx.saved_tensors)
        poses = _poses(ctx.saved_tensors[-1])
        d: _Drawing = ctx.drawing
        parts = composite_backward(
            *(d.splats, colours, d.starts, d.members, d.rows, d.reached, d.size, d.limits),
            *(d.remaining, d.last),
            *map(_numpy, (g_drawn, g_depth, g_remaining)),
        )
        *gradients, camera = project_backward(
            *gaussians, poses, d.pinholes, d.splats, d.first, parts
        )
        pose, pinhole = np.split(camera, (12,), axis=1)
        return (
            *map(torch.from_numpy, gradients),
            torch.from_numpy(pose).view(-1, 3, 4),
            _intrinsics_grad(torch.from_numpy(pinhole)),
            None,
            None,
        )


def _numpy(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


def _poses(cam_from_world: Tensor) -> Any:
    return _numpy(cam_from_world.reshape(-1, 12))


def _pinholes(intrinsics: Tensor, size: tuple[int, int]) -> Tensor:
    """[C, 8]: focal lengths, centre, and the bounds of x/z and y/z within which the Jacobian is taken."""
    pinholes = pinhole(intrinsics)
    return torch.cat((*pinholes, *ray_bounds(pinholes, size)), dim=1)


def _intrinsics_grad(pinhole: Tensor) -> Tensor:
    """[C, 3, 3] from the gradients of fx, fy, cx, cy [C, 4]."""
    fx, fy, cx, cy = pinhole.unbind(1)
    zero = torch.zeros_like(fx)
    rows = (fx, zero, cx, zero, fy, cy, zero, zero, zero)
    return torch.stack(rows, dim=1).view(-1, 3, 3)
