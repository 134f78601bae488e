"""Brightness and colour that a camera's automatics changed from view to view, taken out in closed form."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

ExposureModel = Literal["none", "gain", "gain_bias"]
"""``gain``: one factor for each view and channel; ``gain_bias``: a factor and an offset."""

_EPS = 1e-6


def match_exposure(
    rendered: Tensor,
    images: Tensor,
    model: ExposureModel,
    *,
    valid: Tensor | None = None,
    limit: float = 1.5,
    trained: bool = False,
) -> Tensor:
    """The renders [B, K, 3, H, W] in the exposure of the images, by least squares per view and channel.

    ``gain``: g = Σ r·i / Σ r². ``gain_bias``: g = cov(r, i) / var(r), b = mean(i) − g · mean(r). The gain is
    kept within ``1 / limit .. limit``, since one near 0 would make every wrong render fit.

    Args:
        images: [B, K, 3, H, W], compared with.
        valid: bool [B, K, H, W]: pixels that take part; all if None. A view with none stays as it is.
        trained: whether gradients flow through gain and offset; if not they are constants of the step.
    """
    if model == "none":
        return rendered
    weight = torch.ones_like(rendered[:, :, :1]) if valid is None else valid[:, :, None].float()
    source = rendered if trained else rendered.detach()
    count = weight.sum((-2, -1), keepdim=True)

    def mean(values: Tensor) -> Tensor:
        return (weight * values).sum((-2, -1), keepdim=True) / count.clamp(min=1)

    centre, wanted = mean(source), mean(images)
    if model == "gain":
        centre, wanted = torch.zeros_like(centre), torch.zeros_like(wanted)
    shift, target = source - centre, images - wanted
    # A render without contrast says nothing of the gain: the small numbers make it 1 then.
    gain = (mean(shift * target) + _EPS) / (mean(shift * shift) + _EPS)
    gain = gain.clamp(1 / limit, limit).where(count > 0, 1.0)
    return gain * (rendered - centre) + wanted.where(count > 0, centre)
