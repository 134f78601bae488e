"""The CPU backend: projection in torch, compositing in numba tiles with a hand-written backward."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sage_core.splatting import _kernels
from sage_core.splatting._constants import RasterConstants
from sage_core.splatting._projection import project

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
    splats = project(
        means, scales, quats, opacities, cam_from_world, intrinsics, (width, height), constants
    )
    images, alphas, depths = [], [], []
    for camera in range(len(cam_from_world)):
        depth = splats.depth[camera]
        # Depth rides along as one more channel.
        features = torch.cat((colours, depth[:, None]), dim=1)
        drawn, alpha = _Composite.apply(  # type: ignore[no-untyped-call]
            splats.xy[camera],
            splats.conic[camera],
            opacities,
            features,
            _tiles(depth, splats.xy[camera], splats.extent[camera], width, height),
            constants,
        )
        images.append(drawn[..., :-1] + (1 - alpha[..., None]) * constants.background)
        alphas.append(alpha)
        depths.append(drawn[..., -1] / alpha.clamp(min=_ALPHA_FLOOR))
    return torch.stack(images), torch.stack(alphas), torch.stack(depths)


def _tiles(
    depth: Tensor, xy: Tensor, extent: Tensor, width: int, height: int
) -> _kernels.TileLists:
    """Which splats touch which tile, near to far."""
    boxes = _kernels.pixel_boxes(_numpy(xy), _numpy(extent), width, height)
    order = np.argsort(_numpy(depth), kind="stable")
    starts, members = _kernels.bin_tiles(boxes, order, width, height)
    return _kernels.TileLists(boxes, starts, members, width, height)


def _numpy(tensor: Tensor) -> Any:
    return tensor.detach().contiguous().numpy()


class _Composite(Function):
    """Front-to-back compositing of one image: sum of alpha · transmittance · feature."""

    @staticmethod
    def forward(
        ctx: Any,
        xy: Tensor,
        conic: Tensor,
        opacities: Tensor,
        features: Tensor,
        tiles: _kernels.TileLists,
        constants: RasterConstants,
    ) -> tuple[Tensor, Tensor]:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        limits = _limits(constants, xy.dtype)
        drawn, remaining, last = _kernels.composite(
            *(_numpy(t) for t in (xy, conic, opacities, features)), *tiles, limits
        )
        ctx.save_for_backward(xy, conic, opacities, features)
        ctx.drawing = (tiles, limits, remaining, last)
        return torch.from_numpy(drawn), torch.from_numpy(1 - remaining)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_drawn: Tensor, grad_alpha: Tensor) -> tuple[Tensor | None, ...]:
        tiles, limits, remaining, last = ctx.drawing
        inputs = [_numpy(tensor) for tensor in ctx.saved_tensors]
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        per_member = _kernels.composite_backward(
            *inputs, *tiles, limits, remaining, last, _numpy(grad_drawn), _numpy(grad_alpha)
        )
        # Splats are summed over tiles in the lists' order, whichever thread filled which tile.
        grads = torch.from_numpy(_kernels.sum_members(per_member, tiles.members, len(inputs[0])))
        return grads[:, 0:2], grads[:, 2:5], grads[:, 5], grads[:, 6:], None, None


def _limits(constants: RasterConstants, dtype: torch.dtype) -> Any:
    """The three thresholds in the tensors' own precision, so that the kernels stay in it."""
    limits = (constants.alpha_cap, constants.alpha_min, constants.transmittance_min)
    return torch.tensor(limits, dtype=dtype).numpy()
