"""Settings of how copies of footage are found."""

from __future__ import annotations

from sage_core.config._base import Section, setting


class DuplicatesConfig(Section):
    """Clips that show what another shows already.

    None of it is in the config hash: which clips are copies is decided anew from all fingerprints each time.
    """

    enabled: bool = setting(
        True,
        "Whether of clips that show the same footage one is kept; false takes earlier rejections back.",
        affects_result=False,
    )
    max_share: float = setting(
        0.5,
        "Share of a clip's time that other, kept clips may show too; above it the clip is a duplicate.",
        ge=0,
        le=1,
        affects_result=False,
    )
    max_distance: int = setting(
        14,
        "Bits of 64 by which the hashes of one picture in two versions may differ; unlike ones differ by 32.",
        ge=0,
        le=20,
        affects_result=False,
    )
    min_overlap_s: float = setting(
        4.0, "Shortest common stretch, in seconds.", ge=1, affects_result=False
    )
    min_agreement: float = setting(
        0.6,
        "Share of the pictures in the common stretch that must be near each other.",
        ge=0,
        le=1,
        affects_result=False,
    )
    min_evidence: float = setting(
        20.0,
        "Decimal digits of the odds against chance that a link needs. A picture that agrees to 4 of 64 bits "
        "gives 10, to 8 bits 8, to 12 bits 6; one much like an earlier one gives less.",
        ge=5,
        affects_result=False,
    )
