"""The numbers that two rasterisers must share to agree."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sage_core.errors import ConfigError


@dataclass(frozen=True)
class RasterConstants:
    """Constants of the rasteriser; the defaults are those MV-DUSt3R renders with (gsplat 1.4 to 1.5).

    The CPU backend takes any. gsplat has ``alpha_cap``, ``alpha_min`` and ``transmittance_min`` compiled
    in, and with other values than its own the GPU backend refuses to render.

    Raises:
        ConfigError: a value out of its bounds.
    """

    alpha_cap: float = 0.999
    """No splat hides more than this of what lies behind it; gsplat 1.6 has 0.99."""
    alpha_min: float = 1 / 255
    """Fainter contributions are skipped."""
    transmittance_min: float = 1e-4
    """A pixel ends before the splat that would let no more light than this through."""
    eps2d: float = 0.1
    """Added to the diagonal of the covariance on the image, in square pixels."""
    near: float = 0.01
    far: float = 100.0
    """Splats nearer or farther (z in the camera, scene units) are left out."""
    background: float = 1.0
    """Colour of what no splat covers, in every channel; white for colours in 0..1 and in -1..1."""

    def __post_init__(self) -> None:
        rules = {
            "alpha_min": (0 < self.alpha_min < self.alpha_cap, "must lie between 0 and alpha_cap"),
            "alpha_cap": (self.alpha_cap < 1, "must be below 1, or nothing is left to divide by"),
            "transmittance_min": (0 <= self.transmittance_min < 1, "must lie in 0..1"),
            "eps2d": (0 <= self.eps2d < math.inf, "must not be negative"),
            "near": (0 < self.near < self.far, "must lie between 0 and far"),
        }
        for name, (fits, rule) in rules.items():
            if not fits:
                raise ConfigError(f"rasteriser: {name} is {getattr(self, name):g}, it {rule}")
