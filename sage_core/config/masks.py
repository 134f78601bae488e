"""Settings of masks: what is no static scene."""

from __future__ import annotations

from typing import Any

from pydantic import field_validator

from sage_core.config._base import Section, setting


class MaskConfig(Section):
    """Keeping what moves by itself, and overlays, out of features, anchors and losses; off by default.

    Pixels are those of pictures with a long side of 320.
    """

    movers: str = setting(
        "off",
        "Who finds what moves: 'off', 'geometric' (no weights: motion that no point at rest explains), "
        "the name of an installed plug-in (entry point group sage.masks), or 'module:function'.",
    )
    overlays: bool = setting(
        False, "Whether logos, subtitles and bars are found, by what stays while the camera moves."
    )
    max_residual_px: float = setting(
        0.8, "Largest residual in pixels at which a followed pixel still counts as at rest.", gt=0
    )
    max_flow_miss_px: float = setting(
        1.0, "Largest distance in pixels after following a pixel there and back.", gt=0
    )
    reach: float = setting(
        0.1, "Pixels are followed until the picture has moved by this share of its long side.", gt=0
    )
    max_steps: int = setting(
        6, "Frames that a pixel is followed to each side at most.", ge=2, le=30
    )
    min_region: float = setting(
        0.001, "Smallest region that counts, as a share of the picture.", ge=0, lt=1
    )
    margin_px: int = setting(2, "Masks are widened by this many pixels.", ge=0, le=40)
    max_masked_share: float = setting(
        0.4,
        "A clip is rejected (dynamic_scene) if masks cover more of its pictures than this, in the median.",
        ge=0,
        le=1,
    )
    remap_share: float = setting(
        0.02,
        "A clip is mapped anew, without the features under its masks, if they hold more than this share "
        "of the observations.",
        ge=0,
        le=1,
    )

    @field_validator("movers", mode="before")
    @classmethod
    def _off_is_a_word(cls, value: Any) -> Any:
        """YAML reads a bare ``off`` as false."""
        return "off" if value is False else value
