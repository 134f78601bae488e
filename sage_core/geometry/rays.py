"""Pinhole intrinsics from rays, for models that predict rays or camera-frame points in place of a camera."""

from __future__ import annotations

import torch
from torch import Tensor

from sage_core.geometry.batched import pixel_centres

_NEAR = 1e-6
_FLAT = 1e-12


def fit_intrinsics(rays: Tensor, weight: Tensor | None = None) -> Tensor:
    """Intrinsics [..., 3, 3] that best explain rays, by least squares in pixels, differentiable.

    Each axis is a line, ``u = fx · x/z + cx``, so the answer is a weighted linear regression.

    Args:
        rays: [..., H, W, 3], any length, in each view's own camera (OpenCV axes); camera-frame points are
            rays. Those with z <= 0 do not count.
        weight: [..., H, W] >= 0, or None for equal weights.
    """
    height, width = rays.shape[-3:-1]
    pixels = pixel_centres(width, height, device=rays.device, dtype=rays.dtype)
    ahead = rays[..., 2] > _NEAR
    slopes = rays[..., :2] / rays[..., 2].where(ahead, 1.0)[..., None]
    share = ahead.to(rays.dtype) if weight is None else weight.where(ahead, 0.0)
    share = (share / share.sum((-1, -2), keepdim=True).clamp(min=_FLAT))[..., None]
    mean_slope = (share * slopes).sum((-2, -3), keepdim=True)
    mean_pixel = (share * pixels).sum((-2, -3), keepdim=True)
    along = (share * (slopes - mean_slope) * (pixels - mean_pixel)).sum((-2, -3))
    spread = (share * (slopes - mean_slope).square()).sum((-2, -3))
    focal = along / spread.clamp(min=_FLAT)
    centre = mean_pixel[..., 0, 0, :] - focal * mean_slope[..., 0, 0, :]
    K = torch.zeros((*rays.shape[:-3], 3, 3), dtype=rays.dtype, device=rays.device)
    K[..., 0, 0], K[..., 1, 1] = focal.unbind(-1)
    K[..., 0, 2], K[..., 1, 2] = centre.unbind(-1)
    K[..., 2, 2] = 1.0
    return K
