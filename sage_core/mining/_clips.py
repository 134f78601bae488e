"""One window of a shot: its figures, its verdict, its clip. Pure: scores and thresholds in, verdict out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sage_core.config.curate import CurateConfig
from sage_core.mining._camera import camera_of, ways
from sage_core.mining._footage import Picture, drawn_kind
from sage_core.mining._kinds import Kind, flat_motion, kinds, moving_share, travel
from sage_core.mining._measures import Measures
from sage_core.mining._shots import content_ratio, find_shots, survival_around
from sage_core.mining._windows import choose_key_frames, choose_pose_frames
from sage_core.types import Clip, Figure, Judgement, Reason
from sage_core.video.frames import Crop

_FROZEN_CONTENT = 0.05
_FROZEN_RUN_S = 0.4
_JUMP_SCORE = 5.0
_WEAKEST_BAR = 0.02
_UNEVEN_BARS = 0.03
_TRAVEL_PERIOD_S = 10.0
_FEWEST_SLIDES, _SLIDES_SHARE = 3, 0.85


@dataclass(frozen=True)
class Window:
    """Positions ``start`` to ``end`` (exclusive) in the measured frames, one candidate clip."""

    start: int
    end: int


class Timeline:
    """Measures with what follows from them at every frame and step, computed once for all windows.

    ``kind``, ``moving``, ``travel``, ``ways``, ``flat_motion`` [K] per step; ``frozen``, ``jump`` and
    ``lasting`` [N] per frame; ``shots`` in order.
    """

    def __init__(self, measures: Measures, config: CurateConfig) -> None:
        self.measures = measures
        self.config = config
        self.kind = kinds(measures, config)
        self.moving = moving_share(measures)
        self.travel = travel(measures)
        self.ways = ways(measures)
        self.lasting = survival_around(measures)
        content = measures.frames.content
        self.frozen = _frozen(content, measures.frames.time_s)
        self.shots = find_shots(measures, config)
        self.flat_motion = flat_motion(measures, self.kind)
        ratio = content_ratio(content, measures.frames.time_s)
        self.jump = (content >= _JUMP_SCORE) & (ratio >= config.cut_ratio)

    @property
    def period_s(self) -> float:
        """Seconds that one measured frame stands for."""
        times = self.measures.frames.time_s
        return float(np.median(np.diff(times))) if len(times) > 1 else 0.0

    def seconds(self, window: Window) -> float:
        """From the first frame's start to the last frame's end."""
        times = self.measures.frames.time_s
        return float(times[window.end - 1] - times[window.start]) + self.period_s

    def steps(self, window: Window) -> slice:
        """The steps that lie wholly in the window; none of their intervals reaches before it."""
        at = self.measures.steps.at
        first = int(np.searchsorted(at, window.start, side="left"))
        return slice(min(first + 1, len(at)), int(np.searchsorted(at, window.end, side="left")))

    def picture(self, window: Window) -> Picture:
        """What kind of picture the window shows."""
        steps, seen = self.steps(window), self.measures.steps
        if self._is_slideshow(window):
            return Picture.SLIDESHOW
        if len(seen.flat[steps]) == 0:
            return Picture.FOOTAGE
        if np.median(seen.flat[steps]) > self.config.max_flat_share:
            return drawn_kind(
                float(np.median(seen.palette[steps])), float(np.median(seen.ruled[steps]))
            )
        split = np.median(seen.seam[steps]) > self.config.max_seam
        return Picture.SPLIT_SCREEN if split else Picture.FOOTAGE

    def _is_slideshow(self, window: Window) -> bool:
        """Still pictures with jumps or dissolves between them, or several shots of them in flat motion."""
        inside = slice(window.start, window.end)
        frozen = float(self.frozen[inside].mean())
        shots = [s for s in self.shots if window.start <= s.start and s.end <= window.end]
        changes = max(int(self.jump[inside].sum()), len(shots) - 1)
        if frozen > self.config.max_frozen_share and changes >= _FEWEST_SLIDES - 1:
            return True
        if len(shots) < _FEWEST_SLIDES:
            return False
        steps = np.concatenate(
            [np.arange(*self.steps(Window(s.start, s.end)).indices(10**9)) for s in shots]
        )
        return len(steps) > 0 and float(self.flat_motion[steps].mean()) >= _SLIDES_SHARE


def judge_window(timeline: Timeline, window: Window) -> Judgement:
    """The verdict on one window, with every figure; the first rule that fails names the reason."""
    figures = window_figures(timeline, window)
    for name, reason, sentence in _RULES:
        figure = figures[name]
        if not _keeps(figure):
            return Judgement.reject(reason(timeline, window), _sentence(sentence, figure), figures)
    return Judgement.accept(figures)


def window_figures(timeline: Timeline, window: Window) -> dict[str, Figure]:
    """All scores of a window, those that decide with their thresholds."""
    config, measures = timeline.config, timeline.measures
    frames, steps = measures.frames, timeline.steps(window)
    inside = slice(window.start, window.end)
    shares = {kind: _share(timeline.kind[steps] == kind) for kind in Kind}
    seconds = timeline.seconds(window)
    crop = window_crop(timeline, window)
    short_side = min(crop[2:]) if crop else min(measures.width, measures.height)
    travelled = _span(timeline.travel[steps]) / seconds * _TRAVEL_PERIOD_S
    per_step = measures.steps
    deep = timeline.kind[steps] == Kind.PARALLAX
    ahead, turn = (values[steps] for values in timeline.ways)
    return {
        "kind": Figure(timeline.picture(window).value, Picture.FOOTAGE.value, "=="),
        "duration_s": Figure(round(seconds, 3), config.min_clip_s, ">="),
        "short_side_px": Figure(short_side, config.min_short_side_px, ">="),
        "frozen_share": Figure(
            _rounded(timeline.frozen[inside].mean()), config.max_frozen_share, "<="
        ),
        "textureless_share": _median(per_step.flat[steps], config.max_flat_share, "<="),
        "clipped_share": _median(frames.clipped[inside], config.max_clipped_share, "<="),
        "luma": _median(frames.luma[inside]),
        "sharpness": _median(frames.sharpness[inside], config.min_sharpness, ">="),
        "travel_per_10s": Figure(_rounded(travelled), config.min_travel, ">="),
        "rigid_share": _median(per_step.rigid[steps], config.min_rigid_share, ">="),
        "moving_share": Figure(_mean(timeline.moving[steps]), config.max_moving_share, "<="),
        "lost_share": Figure(shares[Kind.LOST], config.max_lost_share, "<="),
        "parallax_share": Figure(shares[Kind.PARALLAX], config.min_parallax_share, ">="),
        "still_share": Figure(shares[Kind.STILL]),
        "turning_share": Figure(shares[Kind.TURNING]),
        "zooming_share": Figure(shares[Kind.ZOOMING]),
        "planar_share": Figure(shares[Kind.FLAT]),
        "incoherent_share": Figure(shares[Kind.MOVING]),
        "camera": Figure(camera_of(measures, timeline.kind, steps).value),
        "ahead_share": _median(ahead[deep]),
        "turn_per_depth": _median(turn[deep]),
        "seam": _median(per_step.seam[steps], config.max_seam, "<="),
        "overlay_share": _median(per_step.overlay[steps], config.max_overlay_share, "<="),
        "survival": _median(per_step.survival[steps]),
    }


def window_crop(timeline: Timeline, window: Window) -> Crop | None:
    """The picture inside symmetric dark bars that last all through the window, in source pixels."""
    measures = timeline.measures
    bars = measures.steps.bars[timeline.steps(window)]
    bars = bars[(bars < 0.5).all(axis=1)]
    if len(bars) == 0:
        return None
    left, top, right, bottom = bars.min(axis=0)
    x = _bar(left, right, measures.size[0])
    y = _bar(top, bottom, measures.size[1])
    if not x and not y:
        return None
    columns, rows = int(np.ceil(x * measures.width)), int(np.ceil(y * measures.height))
    return columns, rows, measures.width - 2 * columns, measures.height - 2 * rows


def make_clip(timeline: Timeline, window: Window, video: str) -> Clip:
    """The clip of a window: its id, key frames, pose frames and their times."""
    measures, config = timeline.measures, timeline.config
    frames = measures.frames
    inside = slice(window.start, window.end)
    times = frames.time_s[inside]
    motion = np.interp(np.arange(window.start, window.end), measures.steps.at, timeline.travel)
    keys = choose_key_frames(times, motion, frames.sharpness[inside], config)
    poses = choose_pose_frames(times, keys, config)
    source = frames.index[inside]
    start, last = int(source[0]), int(source[-1])
    following = frames.index[window.end : window.end + 1]
    end = int(following[0]) if len(following) else measures.n_frames
    return Clip(
        item=f"{video}_{start:06d}_{end:06d}",
        video=video,
        start_frame=start,
        end_frame=max(end, last + 1),
        start_s=round(float(times[0]), 6),
        end_s=round(float(times[-1]) + timeline.period_s, 6),
        fps=measures.fps,
        width=measures.width,
        height=measures.height,
        key_frames=source[keys].tolist(),
        pose_frames=source[poses].tolist(),
        times_s=np.round(times[poses], 6).tolist(),
        crop=window_crop(timeline, window),
        entry=next((e for e in reversed(measures.entries) if e.frame <= start), None),
    )


def _what_rules(timeline: Timeline, window: Window) -> Reason:
    """The reason behind too little parallax: what the camera does instead, most of the time."""
    kind = timeline.kind[timeline.steps(window)]
    counts = np.bincount(kind[kind != Kind.PARALLAX], minlength=len(Kind))
    return {
        Kind.STILL: Reason.STATIC_CAMERA,
        Kind.MOVING: Reason.DYNAMIC_SCENE,
        Kind.TURNING: Reason.ROTATION_ONLY,
    }.get(Kind(int(np.argmax(counts))), Reason.NO_PARALLAX)


def _stillness(timeline: Timeline, window: Window) -> Reason:
    if timeline.picture(window) is Picture.FOOTAGE:
        return Reason.STATIC_CAMERA
    return Reason.NOT_FOOTAGE


def _always(reason: Reason) -> Callable[[Timeline, Window], Reason]:
    return lambda timeline, window: reason


# In this order: what the picture is, before what the camera does, before what the scene does.
_RULES: tuple[tuple[str, Callable[[Timeline, Window], Reason], str], ...] = (
    ("duration_s", _always(Reason.SHOT_TOO_SHORT), "lasts {0} s, {1} s are needed"),
    ("short_side_px", _always(Reason.RESOLUTION), "{0} px inside the bars, {1} px are needed"),
    ("frozen_share", _stillness, "the picture is frozen for {0:.0%} of the time, at most {1:.0%}"),
    (
        "textureless_share",
        _always(Reason.NOT_FOOTAGE),
        "{0:.0%} of the picture is without texture, as in slides and drawings, at most {1:.0%}",
    ),
    (
        "seam",
        _always(Reason.NOT_FOOTAGE),
        "a fixed line stands out by a factor of {0:.1f}, as in split screens, at most {1:.1f}",
    ),
    (
        "clipped_share",
        _always(Reason.EXPOSURE),
        "{0:.0%} of the pixels are clipped, at most {1:.0%}",
    ),
    (
        "travel_per_10s",
        _always(Reason.STATIC_CAMERA),
        "the picture travels {0:.2%} of its long side in 10 s, at least {1:.2%} are needed",
    ),
    ("sharpness", _always(Reason.BLURRED), "sharpness {0:.0f}, at least {1:.0f}"),
    (
        "rigid_share",
        _always(Reason.DYNAMIC_SCENE),
        "one rigid scene explains {0:.0%} of the tracks, at least {1:.0%} are needed",
    ),
    (
        "moving_share",
        _always(Reason.DYNAMIC_SCENE),
        "{0:.0%} of the tracks are on things that move by themselves, at most {1:.0%}",
    ),
    (
        "parallax_share",
        _what_rules,
        "sound parallax in {0:.0%} of the time, at least {1:.0%} are needed",
    ),
    (
        "lost_share",
        _always(Reason.NO_PARALLAX),
        "tracks break down in {0:.0%} of the time, at most {1:.0%}",
    ),
    (
        "overlay_share",
        _always(Reason.NOT_FOOTAGE),
        "a fixed overlay covers {0:.0%} of the picture, at most {1:.0%}",
    ),
)


def _keeps(figure: Figure) -> bool:
    value, threshold = figure.value, figure.threshold
    if not isinstance(value, int | float) or not isinstance(threshold, int | float):
        return True
    return value >= threshold if figure.rule == ">=" else value <= threshold


def _sentence(text: str, figure: Figure) -> str:
    return text.format(figure.value, figure.threshold)


def _frozen(content: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Frames in a run of unchanged pictures that lasts; doubled frames of a slow source do not."""
    still = content < _FROZEN_CONTENT
    edges = np.flatnonzero(np.diff(np.concatenate([[0], still.astype(np.int8), [0]])))
    frozen = np.zeros(len(content), dtype=bool)
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        if times[end - 1] - times[start] >= _FROZEN_RUN_S:
            frozen[start:end] = True
    return frozen


def _bar(one: float, other: float, pixels: int) -> float:
    """Share that a pair of opposite bars takes on each side; 0 where there is no such pair."""
    if min(one, other) < _WEAKEST_BAR or abs(one - other) > _UNEVEN_BARS:
        return 0.0
    return float(max(one, other) + 1 / pixels)


def _median(
    values: NDArray[np.float64], threshold: float | None = None, rule: str | None = None
) -> Figure:
    return Figure(_rounded(np.median(values)) if len(values) else None, threshold, rule)


def _mean(values: NDArray[np.float64]) -> float:
    return _rounded(values.mean()) if len(values) else 0.0


def _share(mask: NDArray[np.bool_]) -> float:
    return _rounded(mask.mean()) if len(mask) else 0.0


def _span(values: NDArray[np.float64]) -> float:
    return float(values[-1] - values[0]) if len(values) else 0.0


def _rounded(value: float | np.floating[np.generic]) -> float:  # type: ignore[type-var]
    return float(f"{float(value):.4g}")
