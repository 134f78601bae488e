"""Measured figures as people read them, and whether they hold against their thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from sage_core.types import Figure

_RULES: dict[str, Callable[[float, float], bool]] = {
    ">=": lambda value, threshold: value >= threshold,
    "<=": lambda value, threshold: value <= threshold,
    ">": lambda value, threshold: value > threshold,
    "<": lambda value, threshold: value < threshold,
}
_SIGNS = {">=": "≥", "<=": "≤", "==": "=", "!=": "≠"}
_MOST = 3


def holds(figure: Figure) -> bool | None:
    """Whether the value keeps its rule; None where there is no rule, or one that is no inequality.

    Equality of numbers is the stage's to judge: it allows for rounding, and how much is not in the figure.
    """
    if figure.rule == "==" and isinstance(figure.value, bool):
        return figure.value == figure.threshold
    value, threshold = number(figure.value), number(figure.threshold)
    rule = _RULES.get(figure.rule or "")
    if rule is None or value is None or threshold is None:
        return None
    return rule(value, threshold)


def decisive(figures: Mapping[str, Figure]) -> list[tuple[str, Figure]]:
    """Figures that decided: those that broke their rule; or where none did, the first few that kept it."""
    judged = [(name, figure) for name, figure in figures.items() if holds(figure) is not None]
    broken = [(name, figure) for name, figure in judged if not holds(figure)]
    return broken or judged[:_MOST]


def number(value: Any) -> float | None:
    """A figure's value as a float; JSON's words for NaN and infinity are numbers too."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and value not in ("nan", "inf", "-inf"):
        return None
    return float(value)


def shown(value: Any) -> str:
    """A value in few characters: four significant digits, thousands apart, yes and no."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if math.isinf(value) or math.isnan(value):
        return {"inf": "∞", "-inf": "−∞"}.get(str(value), "not a number")
    if value and not 1e-4 <= abs(value) < 1e6:
        return f"{value:.2e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def sign(rule: str | None) -> str:
    """A rule as its mathematical sign."""
    return _SIGNS.get(rule or "", rule or "")


def duration(seconds: float) -> str:
    """Seconds in the two largest units that matter."""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
