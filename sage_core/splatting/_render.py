"""The one entry: checks shapes, chooses the backend."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sage_core.errors import ConfigError
from sage_core.splatting._constants import RasterConstants

Backend = Literal["auto", "cpu", "gsplat"]


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
    constants: RasterConstants = RasterConstants(),  # noqa: B008  frozen
    backend: Backend = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Splat N Gaussians into C pinhole cameras (Kerbl et al. 2023; projection after Zwicker et al. 2001).

    Differentiable, once, with respect to all tensors (intrinsics on the CPU backend only). The CPU backend
    gives the same bits at any number of threads, forward and backward; the GPU's gradients are summed in
    no fixed order. What is not finite, behind a camera, or fainter than ``alpha_min`` is not drawn and has
    gradient 0. ``docs/rendering.md`` has the formulas.

    Args:
        means: [N, 3] centres in the world frame; N may be 0. float32, or float64 on the CPU, as all others.
        scales: [N, 3] standard deviations along the axes that ``quats`` turns into the world, > 0.
        quats: [N, 4] rotations w, x, y, z; normalised here.
        opacities: [N] in 0..1.
        colours: [N, D], any range.
        cam_from_world: [C, 3, 4], OpenCV axes.
        intrinsics: [C, 3, 3] in pixels, pixel centres at +0.5.
        width, height: of the images in pixels.
        backend: ``auto`` takes the one for the tensors' device.

    Returns:
        image [C, H, W, D] over the background, alpha [C, H, W], and the expected depth z [C, H, W] of
        what was hit (0 where nothing was).

    Raises:
        ConfigError: shapes or types that do not fit, a backend that is not there, constants that it does
            not have.
    """
    _check(means, scales, quats, opacities, colours, cam_from_world, intrinsics)
    if width < 1 or height < 1:
        raise ConfigError(f"render: an image of {width}x{height} pixels")
    chosen = backend if backend != "auto" else ("gsplat" if means.is_cuda else "cpu")
    if problem := missing_backend(chosen, constants):
        raise ConfigError(problem)
    if chosen == "cpu":
        from sage_core.splatting import _cpu

        if means.is_cuda:
            raise ConfigError("the CPU rasteriser was asked for, but the Gaussians are on a GPU")
        draw = _cpu.render
    else:
        from sage_core.splatting import _gsplat

        draw = _gsplat.render
    return draw(
        means,
        scales,
        quats,
        opacities,
        colours,
        cam_from_world,
        intrinsics,
        width,
        height,
        constants,
    )


def missing_backend(
    backend: Literal["cpu", "gsplat"],
    constants: RasterConstants = RasterConstants(),  # noqa: B008  frozen
) -> str | None:
    """Why a backend cannot be used on this machine, or not with these constants, and what to do; or None."""
    if backend == "cpu":
        return None
    from sage_core.splatting import _gsplat

    return _gsplat.problem() or _gsplat.misfit(constants)


def _check(
    means: Tensor,
    scales: Tensor,
    quats: Tensor,
    opacities: Tensor,
    colours: Tensor,
    cam_from_world: Tensor,
    intrinsics: Tensor,
) -> None:
    count, cameras = means.shape[0], cam_from_world.shape[0]
    wanted = {
        "means": (means, (count, 3)),
        "scales": (scales, (count, 3)),
        "quats": (quats, (count, 4)),
        "opacities": (opacities, (count,)),
        "colours": (colours, (count, colours.shape[-1])),
        "cam_from_world": (cam_from_world, (cameras, 3, 4)),
        "intrinsics": (intrinsics, (cameras, 3, 3)),
    }
    for name, (tensor, shape) in wanted.items():
        if tuple(tensor.shape) != shape:
            raise ConfigError(f"render: {name} is {list(tensor.shape)}, must be {list(shape)}")
        if tensor.dtype != means.dtype or tensor.dtype not in (torch.float32, torch.float64):
            raise ConfigError(
                f"render: {name} is {tensor.dtype} and means are {means.dtype}: all must be float32, or "
                "all float64"
            )
