"""Settings of the gate between a measured checkpoint and ``latest``."""

from __future__ import annotations

from typing import Literal

from sage_core.config._base import Section, setting


class PromoteConfig(Section):
    """When an adapted model that `evaluate` has measured becomes `latest`.

    No setting of this section is part of a stage's config hash: they judge figures that are stored, so that
    another threshold decides anew and measures nothing.
    """

    enabled: bool = setting(
        True,
        "Whether measured models are judged at all; off, `latest` stays what it is.",
        affects_result=False,
    )
    in_domain_metric: Literal["cd", "nd"] = setting(
        "cd",
        "What must be no worse than the base's on every labelled test set (evaluate.rgbd, evaluate.rooms).",
        affects_result=False,
    )
    in_domain_slack: float = setting(
        0.0,
        "How much worse it may be, as a share of the base's value; 0.02 forgives 2 %.",
        ge=0,
        le=1,
        affects_result=False,
    )
    held_out_slack: float = setting(
        0.0,
        "The same for the anchor error on held-out clips (adapt.held_out, adapt.held_out_share).",
        ge=0,
        le=1,
        affects_result=False,
    )
