"""Whether an adapted model may take the base's place: judged from means that an evaluation has stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sage_core.config.promote import PromoteConfig
from sage_core.types import Figure, Judgement, Reason

BASE, ADAPTED, HELD_OUT = "base", "adapted", "held-out"
_HELD_OUT_METRIC = "anchor_error"
Part = Mapping[str, Any]
"""One test set of an evaluation: ``name``, and ``mean``: model -> metric -> value."""


def lacking(parts: Sequence[Part]) -> str | None:
    """What was not measured that the gate must know, in words; None if it knows enough."""
    kinds = {part["name"] == HELD_OUT for part in parts}
    if False not in kinds:
        return "it was measured on no labelled test set: set evaluate.rgbd or evaluate.rooms"
    if True not in kinds:
        return "it was measured on no held-out clips: set adapt.held_out_share or adapt.held_out"
    return None


def judge_promotion(parts: Sequence[Part], config: PromoteConfig) -> Judgement:
    """Accept a model that is no worse than the base on every set; both metrics are errors: less is better.

    Figures are named ``gate <set> <metric>``, with base * (1 + slack) as the threshold. A value that is not
    a finite number is worse than anything.
    """
    figures = {}
    for part in parts:
        held_out = part["name"] == HELD_OUT
        metric = _HELD_OUT_METRIC if held_out else config.in_domain_metric
        slack = config.held_out_slack if held_out else config.in_domain_slack
        base, adapted = (float(part["mean"][model][metric]) for model in (BASE, ADAPTED))
        name = f"gate {part['name']} {metric}"
        figures[name] = Figure(_plain(adapted), _plain(base * (1 + slack)), "<=")
    worse = {name: f for name, f in figures.items() if not _fits(f)}
    if not worse:
        return Judgement.accept(figures)
    told = "; ".join(_told(name, f) for name, f in worse.items())
    return Judgement.reject(Reason.WORSE_THAN_BASE, f"worse than the base: {told}", figures)


def _fits(figure: Figure) -> bool:
    value, limit = _numbers(figure)
    return value <= limit  # also False of what is no number


def _told(name: str, figure: Figure) -> str:
    value, limit = _numbers(figure)
    return f"{name.removeprefix('gate ')} {value:.4g}, and at most {limit:.4g} is wanted"


def _numbers(figure: Figure) -> tuple[float, float]:
    assert figure.value is not None
    assert figure.threshold is not None
    return float(figure.value), float(figure.threshold)


def _plain(value: float) -> float | str:
    """As the catalog gives it back: JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else str(value)
