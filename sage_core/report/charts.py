"""Curves over training steps as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 10, 10, 26
_MOST = 400


@dataclass(frozen=True)
class Curve:
    """One series: ``values[i]`` at ``steps[i]``, steps rising; values that are not finite are gaps."""

    name: str
    steps: Sequence[int]
    values: Sequence[float]

    def finite(self) -> list[tuple[int, float]]:
        pairs = zip(self.steps, self.values, strict=True)
        return [(step, value) for step, value in pairs if math.isfinite(value)]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, in the picture's units, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Plot:
    """A curve as the template draws it: SVG point lists of the raw and the smoothed values, and ticks."""

    name: str
    raw: str
    smooth: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    first: float
    last: float
    count: int

    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM


def plot(curve: Curve, *, smoothing: bool = True) -> Plot | None:
    """Lay a curve out; None if it has no finite value. ``first`` and ``last`` are of the shown line."""
    pairs = curve.finite()
    if not pairs:
        return None
    steps = [step for step, _ in pairs]
    values = [value for _, value in pairs]
    smooth = _smoothed(values) if smoothing else values
    x_low, x_high = steps[0], max(steps[-1], steps[0] + 1)
    y_marks = _nice(min(values), max(values))
    y_low, y_high = min(*values, y_marks[0]), max(*values, y_marks[-1])

    def x(step: float) -> float:
        return _LEFT + (step - x_low) / (x_high - x_low) * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - y_low) / (y_high - y_low) * (HEIGHT - _TOP - _BOTTOM)

    def line(ys: Sequence[float]) -> str:
        shown = _thinned(list(zip(steps, ys, strict=True)))
        return " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in shown)

    return Plot(
        name=curve.name,
        raw=line(values) if smoothing else "",
        smooth=line(smooth),
        x_ticks=[Tick(x(m), f"{m:,.0f}") for m in _nice(x_low, x_high, 4, whole=True)],
        y_ticks=[Tick(y(m), _label(m)) for m in y_marks],
        first=smooth[0],
        last=smooth[-1],
        count=len(values),
    )


def _smoothed(values: Sequence[float]) -> list[float]:
    """Means over a centred window of a tenth of the curve, at least five steps."""
    reach = max(2, len(values) // 20)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    means = []
    for at in range(len(values)):
        first, end = max(0, at - reach), min(len(values), at + reach + 1)
        means.append((sums[end] - sums[first]) / (end - first))
    return means


def _thinned(pairs: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """At most some hundreds of points, extremes kept: of each stretch its lowest and its highest."""
    if len(pairs) <= _MOST:
        return pairs
    width = math.ceil(len(pairs) / (_MOST // 2))
    kept = {pairs[0], pairs[-1]}
    for start in range(0, len(pairs), width):
        stretch = pairs[start : start + width]
        kept |= {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
    return sorted(kept)


def _nice(low: float, high: float, count: int = 4, *, whole: bool = False) -> list[float]:
    """Round numbers around [low, high] (``whole``: within it, integers)."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    if whole:
        step = max(1.0, math.ceil(step))
        first, last = math.ceil(low / step), math.floor(high / step)
    else:
        first, last = math.floor(low / step), math.ceil(high / step)
    return [index * step for index in range(first, last + 1)]


def _label(value: float) -> str:
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e5:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:.4g}"
