"""The other panels of the page: head, strip of frames, evidence, table of figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sage_core.explain._canvas import MARGIN, WIDTH, Canvas, clean, fitted, points
from sage_core.explain._contents import Evidence, Explanation, Mark, Still
from sage_core.explain._style import (
    ACCEPTED,
    DEEP,
    FAILED,
    GREY,
    GROUND,
    INK,
    LINE,
    MASKED,
    ODD,
    PLAIN,
    REJECTED,
    SOFT,
    VERDICT_COLOURS,
    WELL,
)
from sage_core.mining import Tracks
from sage_core.report.figures import holds, number, shown, sign
from sage_core.types import REASON_TEXT, Figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEAD, STRIP_GAP, STRIP_LABEL = 96, 8, 20
_STRIP_TALLEST = 150
_ROW = 19
_MARKS = {Mark.WANTED: ACCEPTED, Mark.UNWANTED: REJECTED, Mark.LEFT_OUT: GREY}
_MOST_TRACKS, _LEAST_NAMED = 220, 0.005


def draw_head(canvas: Canvas, told: Explanation) -> None:
    """Verdict and reason, what item it is, and the sentence that says why."""
    judgement = told.judgement
    verdict = judgement.verdict.value
    reason = f": {judgement.reason.value}" if judgement.reason else ""
    colour = VERDICT_COLOURS[verdict]
    axes = canvas.blank(MARGIN, 16, WIDTH - 2 * MARGIN, HEAD - 16)
    axes.text(
        8, 14, f"{verdict}{reason}", fontsize=points(17), weight="bold", color=GROUND, va="center",
        bbox={"facecolor": colour, "edgecolor": "none", "boxstyle": "round,pad=0.35"},
    )  # fmt: skip
    at = 36 + 10.2 * len(verdict + reason)
    facts = "   ·   ".join([f"judged by {told.stage}", *told.facts])
    axes.text(at, 7, _short(told.title, 80), fontsize=points(14), weight="bold", va="center")
    axes.text(at, 24, _short(facts, 120), fontsize=points(10.5), color=SOFT, va="center")
    meaning = REASON_TEXT[judgement.reason] if judgement.reason else ""
    said = (judgement.message or meaning or "every rule is kept").partition("\n")[0]
    axes.text(2, 52, _short(said, 150), fontsize=points(13), va="center", color=INK)
    if meaning and judgement.message:
        axes.text(2, 70, _short(meaning, 170), fontsize=points(10.5), va="center", color=SOFT)


def strip_height(stills: Sequence[Still]) -> int:
    """Pixels that :func:`draw_strip` needs."""
    return round(_tile(stills)[1]) + STRIP_LABEL + 6 if stills else 0


def _tile(stills: Sequence[Still]) -> tuple[float, float]:
    width = (WIDTH - 2 * MARGIN + STRIP_GAP) / len(stills) - STRIP_GAP
    tall = max(fitted(still.image, width, _STRIP_TALLEST)[1] for still in stills)
    return width, tall


def draw_strip(canvas: Canvas, top: float, stills: Sequence[Still]) -> None:
    """Frames side by side, each with a bar in the colour of what its time came to."""
    if not stills:
        return
    width, tall = _tile(stills)
    for number_, still in enumerate(stills):
        left = MARGIN + number_ * (width + STRIP_GAP)
        wide, high = fitted(still.image, width, tall)
        canvas.image(left + (width - wide) / 2, top + 5, wide, high, still.image)
        bar = canvas.blank(left, top, width, 4)
        bar.axhspan(0, 4, color=_MARKS[still.mark], linewidth=0)
        canvas.text(left + width / 2, top + tall + 9, still.label, 10, color=SOFT, ha="center")


def evidence_height(evidence: Evidence, width: float) -> int:
    """Pixels that :func:`draw_evidence` needs."""
    return round(fitted(evidence.image, width, 0.8 * width)[1]) + 22 + 15 * len(_lines(evidence))


def draw_evidence(
    canvas: Canvas, left: float, top: float, width: float, evidence: Evidence
) -> None:
    """The frame with tracks or shading on it, and below it what that is."""
    wide, tall = fitted(evidence.image, width, 0.8 * width)
    axes = canvas.image(left + (width - wide) / 2, top, wide, tall, evidence.image)
    if evidence.shaded is not None:
        shade(axes, evidence.shaded)
    entries: list[tuple[str, str]] = []
    if evidence.tracks is not None:
        entries = _draw_tracks(axes, evidence.tracks, evidence.plain)
    elif evidence.shaded is not None:
        entries = [(MASKED, f"{evidence.shaded_as}: {evidence.shaded.mean():.0%} of the picture")]
    below = canvas.blank(left, top + tall + 4, width, 16)
    draw_entries(below, entries)
    for row, line in enumerate(_lines(evidence)):
        canvas.text(left, top + tall + 22 + 15 * row, line, 10.5, color=SOFT)


def _lines(evidence: Evidence) -> list[str]:
    return textwrap.wrap(evidence.caption, 72)


def draw_entries(axes: Axes, entries: Sequence[tuple[str, str]]) -> None:
    """A legend in one row: colours and names."""
    at = 0.0
    for colour, name in entries:
        axes.plot([at + 5], [8], "o", color=colour, markersize=points(8), clip_on=False)
        axes.text(at + 13, 8, name, va="center", fontsize=points(10), color=INK)
        at += 26 + 5.7 * len(name)


def shade(axes: Axes, mask: np.ndarray) -> None:
    """Lay a colour over the masked pixels, and draw their outline."""
    from matplotlib.colors import to_rgb

    layer = np.zeros((*mask.shape, 4), np.float32)
    layer[..., :3] = to_rgb(MASKED)
    layer[..., 3] = 0.45 * mask
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    axes.imshow(
        layer, extent=(left, right, bottom, top), aspect="auto", interpolation="nearest", zorder=1
    )


def _draw_tracks(axes: Axes, tracks: Tracks, plain: str) -> list[tuple[str, str]]:
    """Each track as a line that ends in a dot; gives the legend."""
    from matplotlib.collections import LineCollection

    chosen = np.unique(
        np.linspace(0, len(tracks.paths) - 1, min(_MOST_TRACKS, len(tracks.paths)))
        .round()
        .astype(int)
    )
    entries = []
    for which, colour, name in (
        (~tracks.odd & ~tracks.deep, PLAIN, plain),
        (tracks.deep, DEEP, "off that plane: depth"),
        (tracks.odd, ODD, "goes its own way"),
    ):
        if not len(tracks.paths):
            break
        rows = chosen[which[chosen]]
        paths = tracks.paths[rows]
        axes.add_collection(LineCollection(paths, colors="#000000", linewidths=2.2, alpha=0.45))
        axes.add_collection(LineCollection(paths, colors=colour, linewidths=1.2))
        axes.plot(*paths[:, -1].T, "o", color=colour, markersize=2.6, mec="#000000", mew=0.4)
        if which.mean() >= _LEAST_NAMED:
            entries.append((colour, f"{name} {which.mean():.0%}"))
    return entries


def table_height(figures: dict[str, Figure]) -> int:
    """Pixels that :func:`draw_table` needs."""
    return 26 + _ROW * len(figures)


def draw_table(
    canvas: Canvas, left: float, top: float, width: float, title: str, figures: dict[str, Figure]
) -> None:
    """Figures against their thresholds, with how far each is from it."""
    axes = canvas.blank(left, top, width, table_height(figures))
    axes.text(0, 8, title, fontsize=points(11), weight="bold", va="center")
    axes.text(width - 43, 9, "worse | better", fontsize=points(9), color=SOFT, ha="center",
              va="center")  # fmt: skip
    for row, (name, figure) in enumerate(figures.items()):
        middle = 26 + _ROW * (row + 0.5)
        if row % 2 == 0:
            axes.axhspan(middle - _ROW / 2, middle + _ROW / 2, color=WELL, linewidth=0)
        _draw_row(axes, middle, width, name, figure)


def fails(figure: Figure) -> bool:
    """Whether a figure breaks its rule; words have to be equal."""
    if figure.rule == "==" and isinstance(figure.value, str):
        return figure.value != figure.threshold
    return holds(figure) is False


def _draw_row(axes: Axes, middle: float, width: float, name: str, figure: Figure) -> None:
    held = None if figure.rule is None or figure.value is None else not fails(figure)
    colour, weight = (FAILED, "bold") if fails(figure) else (INK, "normal")
    style: Any = {"va": "center", "fontsize": points(10.5), "color": colour, "weight": weight}
    axes.text(4, middle, name, **style)
    axes.text(width - 186, middle, shown(figure.value), ha="right", **style)
    if figure.rule:
        limit = f"{sign(figure.rule)} {shown(figure.threshold)}"
        axes.text(width - 176, middle, limit, va="center", fontsize=points(10.5), color=SOFT)
    if held is not None:
        tick, tint = ("✓", ACCEPTED) if held else ("✗", FAILED)
        axes.text(width - 98, middle, tick, fontsize=points(11), color=tint, va="center",
                  ha="center")  # fmt: skip
    _draw_margin(axes, middle, width - 82, 78, figure)


def _draw_margin(axes: Axes, middle: float, left: float, width: float, figure: Figure) -> None:
    """A dot right of the middle where the figure holds, by its ratio to the threshold: an edge is 8 times."""
    value, limit = number(figure.value), number(figure.threshold)
    held = holds(figure)
    if value is None or not limit or held is None or limit * value < 0 or not np.isfinite(value):
        return
    ratio = np.log2(max(value / limit, 1e-6))
    better = ratio if figure.rule == ">=" else -ratio
    if limit < 0:
        better = -better
    at = left + width / 2 * (1 + float(np.clip(better / 3, -1, 1)) * 0.94)
    axes.plot([left, left + width], [middle, middle], color=LINE, linewidth=1)
    axes.plot([left + width / 2] * 2, [middle - 5, middle + 5], color=SOFT, linewidth=0.9)
    axes.plot([at], [middle], "o", color=ACCEPTED if held else FAILED, markersize=points(7))


def _short(text: str, most: int) -> str:
    kept = clean(text)
    return kept if len(kept) <= most else kept[: most - 1] + "…"
