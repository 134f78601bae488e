"""The GPU backend: gsplat's rasteriser behind this project's conventions.

Written for gsplat 1.5.3 and 1.6.0: colours are given after activation (``sh_degree`` None), whose shape
the two agree on, and constants that are compiled in are read from the package where it tells them.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from sage_core.errors import ConfigError
from sage_core.splatting._constants import RasterConstants

_CPU_INSTEAD = "or render on the CPU"


_BUILT_IN = {
    # Our name, the name in gsplat.cuda._constants since 1.6, and the value compiled into 1.5.
    "alpha_cap": ("MAX_ALPHA", 0.999),
    "alpha_min": ("ALPHA_THRESHOLD", 1 / 255),
    "transmittance_min": ("TRANSMITTANCE_THRESHOLD", 1e-4),
}
_BUILD = (
    "build it once with a CUDA toolkit of torch's major version, "
    "python -m pip install --no-build-isolation gsplat, before training starts,"
)


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
    if getattr(backend, "_C", None) is None:
        return f"gsplat was installed without its CUDA code: {_BUILD} {_CPU_INSTEAD}"
    return None


def misfit(constants: RasterConstants) -> str | None:
    """Which constants differ from those compiled into gsplat, and what to do, or None."""
    own = built_in()
    asked = {name: getattr(constants, name) for name in own}
    wrong = [name for name, value in own.items() if abs(asked[name] - value) > 1e-6 * value]
    if not wrong:
        return None
    found = ", ".join(f"{name} {own[name]:g}" for name in wrong)
    wanted = ", ".join(f"{name} {asked[name]:g}" for name in wrong)
    settings = " ".join(f"adapt.rendering.{name}={own[name]:.9g}" for name in wrong)
    return (
        f"gsplat {version('gsplat')} has {found} compiled in, and {wanted} is asked for: set {settings} "
        f"(the CPU rasteriser follows), or install a gsplat that has it (1.5 caps alpha at 0.999, 1.6 at "
        "0.99)"
    )


def built_in() -> dict[str, float]:
    """The constants that the installed gsplat was compiled with, by this project's names."""
    try:
        told: Any = import_module("gsplat.cuda._constants")
    except ModuleNotFoundError:  # up to 1.5 they stand in the CUDA sources only
        told = None
    return {
        name: float(getattr(told, theirs, before)) for name, (theirs, before) in _BUILT_IN.items()
    }


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
    if not means.is_cuda or means.dtype != torch.float32:
        raise ConfigError(
            f"gsplat renders float32 tensors on a CUDA device, these are {means.dtype} on {means.device}"
        )
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
