"""Residuals of which large ones count less than they measure."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

RobustKernel = Literal["none", "huber", "cauchy", "geman_mcclure"]
"""``none``: the residual itself. The others are ``e² / 2s`` for residuals far below the scale s; beyond it
``huber`` goes on at slope 1, ``cauchy`` as a logarithm, and ``geman_mcclure`` levels off at ``s / 2``."""


def robust(errors: Tensor, kernel: RobustKernel, scale: float) -> Tensor:
    """The kernel ρ(e) of residuals ``errors`` >= 0, in their own unit, with the same shape.

    ``huber`` (Huber 1964): ``e² / 2s`` up to s, then ``e − s / 2``. ``cauchy``: ``s/2 · ln(1 + (e/s)²)``.
    ``geman_mcclure`` (Geman and McClure 1985): ``s/2 · (e/s)² / (1 + (e/s)²)``. None exceeds the residual.
    """
    if kernel == "none":
        return errors
    squared = (errors / scale).square()
    if kernel == "huber":
        return scale * torch.where(errors <= scale, squared / 2, errors / scale - 0.5)
    if kernel == "cauchy":
        return scale / 2 * squared.log1p()
    return scale / 2 * squared / (1 + squared)
