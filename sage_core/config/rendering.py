"""Settings of the rasteriser, in training and evaluation."""

from __future__ import annotations

from pydantic import model_validator

from sage_core.config._base import Section, setting


class RenderingConfig(Section):
    """Constants of the rasteriser, the same on the CPU and the GPU (docs/rendering.md)."""

    alpha_cap: float = setting(
        0.999,
        "No splat hides more than this of what lies behind it. gsplat has it compiled in: 0.999 in 1.5, "
        "0.99 in 1.6.",
        gt=0,
        lt=1,
    )
    alpha_min: float = setting(
        1 / 255, "Fainter contributions are skipped; compiled into gsplat.", gt=0, lt=1
    )
    transmittance_min: float = setting(
        1e-4,
        "A pixel ends before the splat that would let no more light than this through; compiled into "
        "gsplat.",
        ge=0,
        lt=1,
    )
    eps2d: float = setting(
        0.1, "Added to the diagonal of a splat's covariance on the image (px^2).", ge=0, le=100
    )
    near: float = setting(
        0.01, "Splats nearer than this (z, units of the scene's mean distance) are left out.", gt=0
    )
    far: float = setting(100.0, "Splats farther than this (z, the same units) are left out.", gt=0)
    background: float = setting(
        1.0, "Colour of what no splat covers, in every channel; 1 is white.", ge=0, le=1
    )

    @model_validator(mode="after")
    def _consistent(self) -> RenderingConfig:
        if self.near >= self.far:
            raise ValueError(f"near {self.near:g} must be below far {self.far:g}")
        if self.alpha_min >= self.alpha_cap:
            raise ValueError(
                f"alpha_min {self.alpha_min:g} must be below alpha_cap {self.alpha_cap:g}"
            )
        return self
