"""Stored scores as curves and bands: what curate saw of a stretch, against what it asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.explain._contents import Band, Curve, Floats, Mark, Span
from sage_core.explain._style import ACCEPTED, GREY, KIND_COLOURS, REJECTED, SHOT
from sage_core.mining import Kind, Passage, Timeline, find_transitions
from sage_core.types import Reason

_FIRST: dict[Reason | None, tuple[str, ...]] = {
    Reason.STATIC_CAMERA: ("travel_per_10s", "parallax_share", "survival"),
    Reason.ROTATION_ONLY: ("turning_share", "parallax_share", "travel_per_10s"),
    Reason.NO_PARALLAX: ("zooming_share", "parallax_share", "turning_share"),
    Reason.DYNAMIC_SCENE: ("rigid_share", "moving_share", "parallax_share"),
    Reason.NOT_FOOTAGE: ("frozen_share", "textureless_share", "seam"),
    Reason.BLURRED: ("sharpness", "survival"),
    Reason.EXPOSURE: ("clipped_share", "luma", "sharpness"),
    Reason.SHOT_TOO_SHORT: ("cut_score", "cut_survival", "contrast"),
}
"""Which figures' curves say most, by reason."""
_ELSE = ("parallax_share", "rigid_share", "moving_share", "travel_per_10s", "sharpness", "survival")
_INSTEAD = {
    Kind.STILL: "travel_per_10s",
    Kind.MOVING: "epipolar_share",
    Kind.TURNING: "turning_share",
    Kind.ZOOMING: "zooming_share",
    Kind.LOST: "survival",
}
_CHANGE = "change from frame to frame (0 to 255)"


def curves(
    timeline: Timeline,
    span_s: tuple[float, float],
    reason: Reason | None,
    broken: Sequence[str],
) -> list[Curve]:
    """Curves, those first that show what decided between two times.

    ``broken`` names the figures that fail. Of too little parallax the curve tells that belongs to what the
    camera does instead.
    """
    kind, first = ruling_kind(timeline, *span_s), first_figures(reason)
    decisive = [_INSTEAD.get(kind, one) if one == "parallax_share" else one for one in broken]
    decisive.sort(key=lambda name: name not in first)
    wanted = dict.fromkeys([*decisive, *first, *_ELSE])
    return [
        replace(_CURVES[name](timeline), decides=name in decisive)
        for name in wanted
        if name in _CURVES
    ]


def first_figures(reason: Reason | None) -> tuple[str, ...]:
    """Names of the figures that belong to a reason."""
    return _FIRST.get(reason, ())


def ruling_kind(timeline: Timeline, start_s: float, end_s: float) -> Kind:
    """What the camera does most of the time between two times, apart from what gives parallax."""
    times = _step_times(timeline)
    kind = timeline.kind[(times >= start_s) & (times <= end_s)]
    counts = np.bincount(kind[kind != Kind.PARALLAX], minlength=len(Kind))
    return Kind(int(np.argmax(counts)))


def bands(timeline: Timeline, clips: Sequence[dict[str, Any]]) -> list[Band]:
    """Shots with what parts them, clips with their verdicts, what the camera did; ``clips`` as stored."""
    return [
        Band("shots", _shots(timeline)),
        Band("clips", [_clip_span(clip) for clip in clips]),
        Band("camera", _kinds(timeline)),
    ]


def legend(timeline: Timeline, start_s: float, end_s: float) -> list[tuple[str, str]]:
    """Name and colour of what the camera did between two times."""
    times = _step_times(timeline)
    seen = set(timeline.kind[(times >= start_s) & (times <= end_s)].tolist())
    if len(seen) == 1:  # its name stands in the band
        return []
    return [(name, colour) for kind, (name, colour) in KIND_COLOURS.items() if kind in seen]


def mark_at(clips: Sequence[dict[str, Any]], time_s: float) -> Mark:
    """What the time came to."""
    for one in clips:
        if one["clip"]["start_s"] - 1e-6 <= time_s <= one["clip"]["end_s"]:
            wanted = one["judgement"]["verdict"] == "accepted"
            return Mark.WANTED if wanted else Mark.UNWANTED
    return Mark.LEFT_OUT


def _shots(timeline: Timeline) -> list[Span]:
    times = timeline.measures.frames.time_s
    spans = [
        Span(times[s.start], times[s.end - 1] + timeline.period_s, SHOT, f"shot {number}")
        for number, s in enumerate(timeline.shots, 1)
    ]
    for one in find_transitions(timeline.measures, timeline.config):
        start = times[min(one.start, len(times) - 1)]
        end = times[min(one.end, len(times) - 1)]
        if one.kind is Passage.CUT:
            start, end = start - timeline.period_s / 2, end + timeline.period_s / 2
        spans.append(Span(start, end, GREY, one.kind.value))
    return spans


def _clip_span(one: dict[str, Any]) -> Span:
    said = one["judgement"]
    accepted = said["verdict"] == "accepted"
    label = said["reason"] or said["verdict"]
    return Span(
        one["clip"]["start_s"], one["clip"]["end_s"], ACCEPTED if accepted else REJECTED, label
    )


def _kinds(timeline: Timeline) -> list[Span]:
    """Runs of one kind; step k stands for the time from step k - 1 to k."""
    times, kind = _step_times(timeline), timeline.kind
    borders = [*np.flatnonzero(np.diff(kind[1:])) + 1, len(kind) - 1]
    spans, first = [], 0
    for last in map(int, borders):
        if last > first:
            name, colour = KIND_COLOURS[Kind(int(kind[last]))]
            spans.append(Span(times[first], times[last], colour, name))
        first = last
    if spans:  # to the end of the last step's frame
        spans[-1] = replace(spans[-1], end_s=spans[-1].end_s + timeline.period_s)
    return spans


def _step_times(timeline: Timeline) -> Floats:
    return timeline.measures.frames.time_s[timeline.measures.steps.at]


def _of_frames(
    name: str, score: str, label: str, limit: str | None = None, rule: str = "", log: bool = False
) -> Callable[[Timeline], Curve]:
    def curve(timeline: Timeline) -> Curve:
        frames = timeline.measures.frames
        threshold = getattr(timeline.config, limit) if limit else None
        skip = 1 if score == "content" else 0  # the first frame has none before it to change from
        values = getattr(frames, score)[skip:]
        return Curve(name, label, frames.time_s[skip:], values, threshold, rule or None, log)

    return curve


def _of_steps(
    name: str, score: str, label: str, limit: str | None = None, rule: str = ""
) -> Callable[[Timeline], Curve]:
    def curve(timeline: Timeline) -> Curve:
        values = getattr(timeline.measures.steps, score)
        threshold = getattr(timeline.config, limit) if limit else None
        return Curve(name, label, _step_times(timeline), values, threshold, rule or None)

    return curve


def _moving(timeline: Timeline) -> Curve:
    limit = timeline.config.max_moving_share
    label = "share of tracks on things that move by themselves"
    return Curve("moving_share", label, _step_times(timeline), timeline.moving, limit, "<=")


def _of_chains(
    name: str,
    label: str,
    value: Callable[[Timeline, Any], float],
    threshold: Callable[[Timeline], float],
    log: bool = False,
) -> Callable[[Timeline], Curve]:
    """One value for each stretch of tracks that was judged; none where tracks broke."""

    def curve(timeline: Timeline) -> Curve:
        times = _step_times(timeline)
        values = np.full(len(times), np.nan)
        for chain in timeline.measures.chains:
            if not chain.lost:
                values[chain.start + 1 : chain.end + 1] = value(timeline, chain)
        if len(values) > 1:
            values[0] = values[1]
        return Curve(name, label, times, values, threshold(timeline), ">=", log, stepped=True)

    return curve


def _travel(timeline: Timeline, chain: Any) -> float:
    times = _step_times(timeline)
    return 10 * float(chain.flow) / float(max(times[chain.end] - times[chain.start], 1e-6))


def _more_than_a_turn(timeline: Timeline, chain: Any) -> float:
    """What the best rotation leaves, in units of what it has to leave."""
    config, moved = timeline.config, chain.flow * max(timeline.measures.size)
    return float(chain.rotation_px / max(config.min_rotation_px, config.min_rotation_share * moved))


def _more_than_a_zoom(timeline: Timeline, chain: Any) -> float:
    moved = max(chain.flow * max(timeline.measures.size), 1e-6)
    return float(chain.zoom_px / (timeline.config.min_zoom_share * moved))


_CURVES: dict[str, Callable[[Timeline], Curve]] = {
    "frozen_share": _of_frames("frozen_share", "content", _CHANGE, log=True),
    "cut_score": _of_frames(
        "cut_score", "content", f"{_CHANGE}: cuts stand out above the line", "cut_score"
    ),
    "sharpness": _of_frames(
        "sharpness", "sharpness", "sharpness (variance of the Laplacian)", "min_sharpness", ">=", True
    ),
    "clipped_share": _of_frames(
        "clipped_share", "clipped", "share of pixels clipped to black or white",
        "max_clipped_share", "<=",
    ),
    "luma": _of_frames("luma", "luma", "brightness (0 to 255)"),
    "contrast": _of_frames(
        "contrast", "contrast", "contrast (standard deviation of grey)", "blank_contrast", ">="
    ),
    "textureless_share": _of_steps(
        "textureless_share", "flat", "share of the picture without texture", "max_flat_share", "<="
    ),
    "seam": _of_steps(
        "seam", "seam", "strongest fixed line, against its surroundings", "max_seam", "<="
    ),
    "overlay_share": _of_steps(
        "overlay_share", "overlay", "share under fixed edges", "max_overlay_share", "<="
    ),
    "rigid_share": _of_steps(
        "rigid_share", "rigid", "share of tracks that one rigid scene explains",
        "min_rigid_share", ">=",
    ),
    "survival": _of_steps("survival", "survival", "share of tracks that go on, step to step"),
    "cut_survival": _of_steps(
        "cut_survival", "survival", "share of tracks that go on (a cut ends them)",
        "cut_survival", ">=",
    ),
    "moving_share": _moving,
    "travel_per_10s": _of_chains(
        "travel_per_10s", "travel of the picture in 10 s (long sides)", _travel,
        lambda t: t.config.min_travel, log=True,
    ),
    "parallax_share": _of_chains(
        "parallax_share", "share of tracks that no plane explains", lambda t, c: float(c.off_plane),
        lambda t: t.config.min_off_plane_share,
    ),
    "epipolar_share": _of_chains(
        "epipolar_share", "share of tracks that one rigid scene explains, over a stretch",
        lambda t, c: float(c.epipolar), lambda t: t.config.min_epipolar_share,
    ),
    "turning_share": _of_chains(
        "turning_share", "what a mere turn leaves unexplained (1: enough)", _more_than_a_turn,
        lambda t: 1.0, log=True,
    ),
    "zooming_share": _of_chains(
        "zooming_share", "what a mere zoom leaves unexplained (1: enough)", _more_than_a_zoom,
        lambda t: 1.0, log=True,
    ),
}  # fmt: skip


def nearest(times_s: NDArray[np.floating[Any]], time_s: float) -> int:
    """Position of the time that is nearest."""
    return int(np.argmin(np.abs(times_s - time_s)))
