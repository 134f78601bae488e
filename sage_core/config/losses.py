"""Settings of the losses that go beyond the paper or follow its base model's published training; all off."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sage_core.config._base import Section, setting

Share = Annotated[float, Field(ge=0, le=1e6)]


class LossOptions(Section):
    """What the paper does not have, or the published training has otherwise; the defaults are the paper's."""

    camera_scale: Literal["context", "all_views"] = setting(
        "context",
        "Views whose anchors give the scale that divides the rendered cameras' translations: those that the "
        "model sees, as for the points, or the targets too (as in the published training).",
    )
    labelled_rendering: bool = setting(
        False,
        "Whether labelled samples are rendered too, as in the published training, at rendering_weight.",
    )
    references: int = setting(
        1,
        "Context views that serve as reference, each in a path of its own; the published MV-DUSt3R+ trains "
        "with 4. Only that model's paths exchange, so others take 1.",
        ge=1,
        le=16,
    )
    anchor_weights: Literal["equal", "quality"] = setting(
        "equal",
        "Whether anchors count alike, or by reprojection error, track length and triangulation angle.",
    )
    quality_error_px: float = setting(
        0.5, "Reprojection error that halves an anchor's weight, pixels of the SfM image.", gt=0
    )
    quality_track: int = setting(
        8, "Track length in frames from which on an anchor has its whole weight.", ge=2, le=1000
    )
    quality_angle_deg: float = setting(
        15.0, "Triangulation angle in degrees from which on an anchor has its whole weight.", gt=0
    )
    robust: Literal["none", "huber", "cauchy", "geman_mcclure"] = setting(
        "none", "Kernel on the anchors' distances, so that wrong anchors pull less."
    )
    robust_scale: float = setting(
        0.1, "The kernel's scale, in mean distances of the scene.", gt=0, le=100
    )
    reprojection_weight: float = setting(
        0.0, "Weight of the reprojection loss; 0 leaves it out.", ge=0, le=1000
    )
    reprojection_into: Literal["own", "all"] = setting(
        "all",
        "SfM cameras that predicted points are projected into: that of their own view, or those of all "
        "context views.",
    )
    reprojection_clip: float = setting(
        0.1, "Distance, in focal lengths, at which a reprojection error is cut.", gt=0, le=100
    )
    exposure: Literal["none", "gain", "gain_bias"] = setting(
        "none",
        "Exposure that is fitted for each rendered view and channel before the comparison: none, a factor, "
        "or a factor and an offset.",
    )
    exposure_limit: float = setting(
        1.5, "Largest factor, and its inverse the smallest, that exposure may take.", ge=1, le=10
    )
    exposure_trained: bool = setting(
        False,
        "Whether gradients flow through the fitted exposure, or it is a constant of the step.",
    )
    masks: bool = setting(
        False,
        "Whether the shards' masks (of what moves, or is no scene) keep pixels out of the rendering loss and "
        "anchors out of the anchor loss.",
    )


class MixingConfig(Section):
    """In which proportion samples come from the sources of video, and from easy and hard clips.

    Without weights all clips are one data set, in which every clip has its turn.
    """

    sources: dict[str, Share] = setting(
        {},
        "Weight of the clips whose id, video or source contains this text (first match counts; '*' is every "
        "other clip); clips that nothing matches are left out.",
    )
    difficulty: str | None = setting(
        None,
        "What clips are told apart by: 'loss', the base model's own on samples of them, as `sage shards "
        "difficulty` measured it (the paper's); 'covisibility', how little their views share; or a JSON file "
        "with a number for each clip, larger for harder ones. Empty: they are not.",
    )
    difficulty_samples: int = setting(
        4, "Samples of a clip that its difficulty is the mean of.", ge=1, le=1000
    )
    difficulty_weights: tuple[Share, ...] = setting(
        (1.0, 1.0),
        "Weights of equally many clips of each source by rising difficulty (the paper mixes medium and hard "
        "clips 1:1).",
    )
    per_visit: int = setting(
        1,
        "Samples drawn from a clip before the next ones have their turn (eight clips at a time): more make "
        "reading cheaper (docs/shards.md) and neighbouring steps more alike.",
        ge=1,
        le=10_000,
    )

    @model_validator(mode="after")
    def _something_is_left(self) -> MixingConfig:
        if not any(self.difficulty_weights):
            raise ValueError("difficulty_weights give no class of difficulty any weight")
        return self


class CurriculumConfig(Section):
    """From views that overlap much to the whole range, as training goes on."""

    share: float = setting(
        0.0,
        "Share of the run's samples over which the range widens to that of adapt.sampling; 0 for none.",
        ge=0,
        le=1,
    )
    interval_start: float = setting(
        0.5,
        "Share of sampling.interval_frames (and of the jitter) that it begins with.",
        gt=0,
        le=1,
    )
    covisibility_start: float = setting(
        0.5, "Lower end of the band of covisibility that it begins with.", ge=0, le=1
    )
    parallax_start: float = setting(
        0.5, "Share of sampling.min_parallax that it begins with.", ge=0, le=1
    )
