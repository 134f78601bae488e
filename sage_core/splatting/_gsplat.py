"""The GPU backend: gsplat's rasteriser behind this project's conventions."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from sage_core.splatting._constants import RasterConstants

_CPU_INSTEAD = "or render on the CPU"


@cache
def problem() -> str | None:
    """Why gsplat cannot be used here, found out by loading its compiled part, or None."""
    if find_spec("gsplat") is None:
        return (
            "rendering on a GPU needs the package gsplat, which is not installed: install SAGE's extra "
            f"'gpu' (python -m pip install 'sage-video3d[gpu]') {_CPU_INSTEAD}"
        )
    if not torch.cuda.is_available():
        return f"gsplat renders on CUDA devices only and torch sees none: check the driver {_CPU_INSTEAD}"
    try:
        backend: Any = import_module("gsplat.cuda._backend")
    except Exception as error:  # noqa: BLE001  a failed build raises whatever the compiler's driver raised
        return f"gsplat's CUDA code does not load ({error}): {_BUILD} {_CPU_INSTEAD}"
    if backend._C is None:
        return f"gsplat was installed without its CUDA code: {_BUILD} {_CPU_INSTEAD}"
    return None


_BUILD = (
    "build it once with a CUDA toolkit of torch's major version, "
    "python -m pip install --no-build-isolation gsplat, before training starts,"
)


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
    """See :func:`sage_core.splatting.render`. gsplat samples pixels at +0.5, as this project does."""
    gsplat: Any = import_module("gsplat")
    cameras, channels = cam_from_world.shape[0], colours.shape[1]
    bottom = cam_from_world.new_tensor([0, 0, 0, 1]).expand(cameras, 1, 4)
    features, alpha, _ = gsplat.rasterization(
        means=means,
        quats=quats,
        scales=scales,
        opacities=opacities,
        colors=colours[None].expand(cameras, -1, -1),
        viewmats=torch.cat((cam_from_world, bottom), dim=1),
        Ks=intrinsics,
        width=width,
        height=height,
        near_plane=constants.near,
        far_plane=constants.far,
        eps2d=constants.eps2d,
        packed=False,
        backgrounds=colours.new_full((cameras, channels), constants.background),
        render_mode="RGB+ED",
    )
    return features[..., :channels], alpha[..., 0], features[..., channels]
