"""How far an anchor can be trusted, from what structure from motion measured of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AnchorQuality:
    """Where each measure of an anchor stops to matter.

    Attributes:
        error_px: reprojection error that halves the weight, pixels of the SfM image.
        track: number of views from which on a point has its whole weight; two views are the least.
        angle_deg: widest angle between two rays from which on a point has its whole weight.
    """

    error_px: float = 0.5
    track: int = 8
    angle_deg: float = 15.0

    def weight(self, error_px: Tensor, track: Tensor, angle_deg: Tensor) -> Tensor:
        """Weights in 0..1, as a product of three shares; tensors of one shape.

        ``1 / (1 + (error / error_px)²) · (track − 1) / (self.track − 1) · angle / self.angle_deg``, the last
        two at most 1: a depth is as uncertain as the pixel's error over the angle, less so the more views
        agree.
        """
        sharp = 1 / (1 + (error_px / self.error_px).square())
        seen = ((track - 1) / max(1, self.track - 1)).clamp(0, 1)
        wide = (angle_deg / self.angle_deg).clamp(0, 1)
        return sharp * seen * wide
