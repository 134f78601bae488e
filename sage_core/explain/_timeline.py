"""Bands and curves, one below the other, over the same time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sage_core.explain._canvas import Canvas, points
from sage_core.explain._contents import Band, Curve, Timeline
from sage_core.explain._style import ACCENT, FAILED, FORBIDDEN, GROUND, INK, LINE, SOFT, WELL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LABELS = 58
"""Pixels left of the axes, for names and numbers."""
_BAND, _BAND_GAP, _CURVE, _CURVE_GAP, _CLOCK, _LEGEND = 20, 5, 56, 25, 56, 20
_TALLEST = 110
_HOW = "Curves show each moment; the figures are medians, means or shares of time over the clip."
_SIGNS = {">=": "at least", "<=": "at most"}


def timeline_height(timeline: Timeline) -> int:
    """Pixels that :func:`draw_timeline` needs."""
    bands = len(timeline.bands) * (_BAND + _BAND_GAP)
    legend = _LEGEND if timeline.legend else 0
    return bands + legend + len(timeline.curves) * (_CURVE + _CURVE_GAP) + _CLOCK


def _curve_height(timeline: Timeline, height: float) -> float:
    """Curves share what space is left, within reason."""
    spare = max(0.0, height - timeline_height(timeline))
    return min(_TALLEST, _CURVE + spare / max(1, len(timeline.curves)))


def draw_timeline(
    canvas: Canvas,
    left: float,
    top: float,
    size: tuple[float, float],
    timeline: Timeline,
) -> None:
    """Draw it into ``size`` (width, height); the names of curves that decided are red."""
    inner, tall = (left + _LABELS, size[0] - _LABELS), _curve_height(timeline, size[1])
    for band in timeline.bands:
        _draw_band(canvas, left, inner, top, band, timeline)
        top += _BAND + _BAND_GAP
    if timeline.legend:
        _draw_legend(canvas, inner[0], top, timeline)
        top += _LEGEND
    for number, curve in enumerate(timeline.curves, 1):
        top += _CURVE_GAP
        axes = canvas.axes(inner[0], top, inner[1], tall)
        _draw_curve(axes, curve, timeline)
        colour, weight = (FAILED, "bold") if curve.decides else (INK, "normal")
        canvas.text(inner[0], top - 15, curve.label, 10.5, color=colour, weight=weight)
        top += tall
        if number < len(timeline.curves):
            axes.set_xticklabels([])
        else:
            axes.set_xlabel("seconds", fontsize=points(10), labelpad=1)
    canvas.text(inner[0], top + 38, _HOW, 9.5, color=SOFT)


def _draw_band(
    canvas: Canvas,
    left: float,
    inner: tuple[float, float],
    top: float,
    band: Band,
    timeline: Timeline,
) -> None:
    canvas.text(left, top + 3, band.name, 10.5, color=SOFT)
    axes = canvas.axes(inner[0], top, inner[1], _BAND, facecolor=WELL)
    axes.set(xlim=(timeline.start_s, timeline.end_s), ylim=(0, 1), xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_visible(False)
    pixels = inner[1] / (timeline.end_s - timeline.start_s)
    for span in band.spans:
        start, end = max(span.start_s, timeline.start_s), min(span.end_s, timeline.end_s)
        if end <= start:
            continue
        width = max(end - start, 2.5 / pixels)
        axes.axvspan(start, start + width, facecolor=span.colour, edgecolor=GROUND, linewidth=0.6)
        if len(span.label) * 6.6 < (end - start) * pixels:
            axes.text(
                (start + end) / 2, 0.47, span.label, ha="center", va="center",
                fontsize=points(10), color=_ink_on(span.colour), clip_on=True,
            )  # fmt: skip


def _ink_on(colour: str) -> str:
    """Dark on light, light on dark."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else GROUND


def _draw_legend(canvas: Canvas, left: float, top: float, timeline: Timeline) -> None:
    axes = canvas.blank(left, top, 640, _LEGEND)
    at = 0.0
    for name, colour in timeline.legend:
        axes.plot([at + 4], [8], "s", color=colour, markersize=points(8))
        axes.text(at + 13, 8, name, va="center", fontsize=points(9.5), color=SOFT)
        at += 30 + 6.0 * len(name)


def _draw_curve(axes: Axes, curve: Curve, timeline: Timeline) -> None:
    inside = (curve.times_s >= timeline.start_s - 0.3) & (curve.times_s <= timeline.end_s + 0.3)
    times, values = curve.times_s[inside], curve.values[inside]
    low, high = _range(curve, values)
    axes.set(xlim=(timeline.start_s, timeline.end_s))
    if curve.logarithmic:
        axes.set_yscale("log")
        values = np.maximum(values, low)
    axes.set_ylim(low, high)
    _draw_threshold(axes, curve, low, high)
    style = "steps-pre" if curve.stepped else "default"
    colour = FAILED if curve.decides else ACCENT
    axes.plot(times, values, color=colour, linewidth=1.3, drawstyle=style, solid_joinstyle="round")
    _tidy(axes, curve, low, high)


def _draw_threshold(axes: Axes, curve: Curve, low: float, high: float) -> None:
    if curve.threshold is None:
        return
    axes.axhline(curve.threshold, color=FAILED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    if curve.rule not in _SIGNS:  # a landmark, which forbids nothing
        return
    unwanted = (low, curve.threshold) if curve.rule == ">=" else (curve.threshold, high)
    axes.axhspan(*unwanted, color=FORBIDDEN, linewidth=0, zorder=0)
    said = f"{_SIGNS[curve.rule]} {curve.threshold:.3g}"
    axes.text(
        1.0, 1.06, said, transform=axes.transAxes, ha="right", va="bottom",
        fontsize=points(9.5), color=FAILED,
    )  # fmt: skip


def _range(curve: Curve, values: np.ndarray) -> tuple[float, float]:
    """The axis: all of the values, the threshold, and some air."""
    known = values[np.isfinite(values)]
    limits = [] if curve.threshold is None else [curve.threshold]
    if curve.logarithmic:
        floor = max(1e-3, (limits[0] if limits else 1.0) * 1e-2)
        known = np.maximum(known, floor)
        low, high = min([*known, *limits], default=floor), max([*known, *limits], default=1.0)
        return low / 1.6, high * 1.9
    if "share" in curve.label:
        top = max([*known, *limits], default=1.0)
        return (-0.03 * top, min(1.04, top * 1.25)) if top < 0.6 else (-0.03, 1.04)
    high = max([*known, *limits], default=1.0)
    return -0.04 * high, 1.15 * high


def _tidy(axes: Axes, curve: Curve, low: float, high: float) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    for name, side in axes.spines.items():
        side.set_visible(name in ("left", "bottom"))
    axes.tick_params(length=2.5, width=0.8, color=LINE, labelsize=points(9.5))
    if curve.logarithmic:
        first, last = np.ceil(np.log10(low)), np.floor(np.log10(high))
        decades = [10.0**power for power in np.arange(first, last + 1)]
        every = -(-len(decades) // 3) or 1
        shown = decades[::every] or [float(f"{np.sqrt(low * high):.1g}")]
        axes.set_yticks(shown, [f"{value:g}" for value in shown])
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10], prune=None))
    axes.grid(axis="y", color=LINE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
