"""The numbers that two rasterisers must share to agree."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RasterConstants:
    """Constants of the rasteriser; the defaults are those MV-DUSt3R renders with (gsplat 1.4 to 1.5).

    The GPU backend has ``alpha_cap``, ``alpha_min`` and ``transmittance_min`` built in; gsplat 1.6
    caps at 0.99.
    """

    alpha_cap: float = 0.999
    """No splat hides more than this of what lies behind it."""
    alpha_min: float = 1 / 255
    """Fainter contributions are skipped."""
    transmittance_min: float = 1e-4
    """A pixel ends before the splat that would let less light than this through."""
    eps2d: float = 0.1
    """Added to the diagonal of the covariance on the image, in square pixels."""
    near: float = 0.01
    far: float = 100.0
    """Splats nearer or farther (z in the camera, scene units) are left out."""
    background: float = 1.0
    """Colour of what no splat covers, in every channel; white for colours in 0..1 and in -1..1."""
