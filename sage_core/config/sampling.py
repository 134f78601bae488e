"""Settings of how training samples are drawn from a clip; used by assemble and by adapt."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from sage_core.config._base import Section, setting


class SamplingConfig(Section):
    """How a trajectory (context and target views) is drawn from a clip.

    Frames are counted at 30 a second, whatever the video's own rate: an interval of 20 is 2/3 s. Photo sets,
    which have no time, are sampled so that each view shares ``covisibility_min`` with another.
    """

    mode: Literal["perturbed", "linear", "covisibility", "candidates"] = setting(
        "perturbed",
        "'perturbed' (the paper's), 'linear' (no jitter), 'covisibility' (grown inside a band of "
        "shared SfM points), or 'candidates' (from the table that assemble scored).",
    )
    interval_frames: float = setting(
        20.0, "Δt, frames (at 30 a second) between neighbouring context views.", gt=0, le=3000
    )
    jitter_frames: float = setting(
        5.0, "ε, largest shift of a context view in frames (at 30 a second).", ge=0, le=1000
    )
    tolerance_frames: float = setting(
        3.0,
        "Largest distance in frames (at 30 a second) between the moment drawn and the nearest frame "
        "that has a pose; draws beyond it are thrown away.",
        gt=0,
    )
    n_context: int = setting(8, "Views that the model sees.", ge=2, le=64)
    n_targets: int = setting(2, "Views that are only rendered.", ge=0, le=64)
    targets: Literal["interpolated", "extrapolated"] = setting(
        "interpolated",
        "Whether targets lie strictly between the first and last context view, or outside them.",
    )
    covisibility_min: float = setting(
        0.2,
        "Lower end of the band: share of SfM points that a new view shares at least.",
        ge=0,
        le=1,
    )
    covisibility_max: float = setting(
        0.6, "Upper end of the band: above it a view is a near duplicate.", ge=0, le=1
    )
    min_parallax: float = setting(
        0.05,
        "Smallest distance of a new view from its most covisible one, as a share of the median depth.",
        ge=0,
    )

    @model_validator(mode="after")
    def _consistent(self) -> SamplingConfig:
        if self.covisibility_min > self.covisibility_max:
            raise ValueError(
                f"covisibility_min {self.covisibility_min:g} is above covisibility_max "
                f"{self.covisibility_max:g}"
            )
        return self


class AugmentConfig(Section):
    """Changes that a video sample is given as a whole, all its views alike; all off, as in the paper.

    They make more of few clips: geometry and pictures stay true to each other.
    """

    mirror: bool = setting(False, "Whether half of the samples are mirrored, left to right.")
    zoom: float = setting(
        1.0,
        "Largest zoom: a sample's pictures are enlarged by 1 to this before their middle is cut out (the "
        "published MV-DUSt3R trained with up to 1.07).",
        ge=1,
        le=4,
    )
    colour: float = setting(
        0.0,
        "Largest change of brightness, contrast and saturation, as a share of each; one for all views of a "
        "sample, since they are rendered into one another.",
        ge=0,
        lt=1,
    )
