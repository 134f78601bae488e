"""One window of a shot: its figures and its clip. Pure: scores and thresholds in, figures out."""

from __future__ import annotations

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
from sage_core.types import Clip, Figure
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


def window_figures(timeline: Timeline, window: Window) -> dict[str, Figure]:
    """All scores of a window, those that decide with their thresholds."""
    config, measures = timeline.config, timeline.measures
    frames, steps = measures.frames, timeline.steps(window)
    inside = slice(window.start, window.end)
    seconds = timeline.seconds(window)
    crop = window_crop(timeline, window)
    short_side = min(crop[2:]) if crop else min(measures.width, measures.height)
    travelled = _span(timeline.travel[steps]) / seconds * _TRAVEL_PERIOD_S
    per_step = measures.steps
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
        **_camera_figures(timeline, steps),
        "seam": _median(per_step.seam[steps], config.max_seam, "<="),
        "overlay_share": _median(per_step.overlay[steps], config.max_overlay_share, "<="),
        "survival": _median(per_step.survival[steps]),
    }


def _camera_figures(timeline: Timeline, steps: slice) -> dict[str, Figure]:
    """What the camera does, in shares of the time."""
    config, kind = timeline.config, timeline.kind[steps]
    ahead, turn = (values[steps] for values in timeline.ways)
    shares = {one: _share(kind == one) for one in Kind}
    deep = kind == Kind.PARALLAX
    return {
        "lost_share": Figure(shares[Kind.LOST], config.max_lost_share, "<="),
        "parallax_share": Figure(shares[Kind.PARALLAX], config.min_parallax_share, ">="),
        "still_share": Figure(shares[Kind.STILL]),
        "turning_share": Figure(shares[Kind.TURNING]),
        "zooming_share": Figure(shares[Kind.ZOOMING]),
        "planar_share": Figure(shares[Kind.FLAT]),
        "incoherent_share": Figure(shares[Kind.MOVING]),
        "camera": Figure(camera_of(kind, ahead, turn).value),
        "ahead_share": _median(ahead[deep]),
        "turn_per_depth": _median(turn[deep]),
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
