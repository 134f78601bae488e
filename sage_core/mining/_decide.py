"""From scores to verdicts: the header's, each clip's, and the video's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sage_core.config.curate import CurateConfig
from sage_core.mining._clips import Timeline, Window, make_clip
from sage_core.mining._footage import Picture
from sage_core.mining._kinds import Kind
from sage_core.mining._measures import Measures
from sage_core.mining._rules import judge_window
from sage_core.mining._shots import Shot
from sage_core.mining._windows import covisible_pieces, covisible_windows, sound_stretches
from sage_core.types import Clip, Figure, Judgement, Reason, Verdict


@dataclass(frozen=True)
class ClipVerdict:
    """One candidate clip and what was said of it."""

    clip: Clip
    judgement: Judgement


@dataclass(frozen=True)
class Curation:
    """What curate says of one source: its verdict, its clips with theirs, its shots in seconds."""

    judgement: Judgement
    clips: list[ClipVerdict]
    shots: list[dict[str, Any]]


def decide_header(
    width: int, height: int, duration_s: float, config: CurateConfig
) -> Judgement | None:
    """The verdict that size and duration alone give: a rejection, or None to look further."""
    figures = {
        "duration_s": Figure(round(duration_s, 3), config.min_duration_s, ">="),
        "short_side_px": Figure(min(width, height), config.min_short_side_px, ">="),
    }
    if duration_s < config.min_duration_s:
        message = f"lasts {duration_s:.2f} s, at least {config.min_duration_s:g} s are needed"
        return Judgement.reject(Reason.DURATION, message, figures)
    if min(width, height) < config.min_short_side_px:
        message = f"{width}x{height}: the short side needs {config.min_short_side_px} px"
        return Judgement.reject(Reason.RESOLUTION, message, figures)
    return None


def decide(measures: Measures, config: CurateConfig, item: str) -> Curation:
    """Judge a measured video; pure, so that thresholds can be changed without decoding again.

    Args:
        measures: from :func:`sage_core.mining.measure`, or read back from ``curation.json``.
        config: thresholds.
        item: the video's id, which its clips' ids begin with.
    """
    header = decide_header(measures.width, measures.height, measures.duration_s, config)
    if header is not None:
        return Curation(header, [], [])
    timeline = Timeline(measures, config)
    shots = timeline.shots
    clips = []
    for shot in shots:
        for window in shot_windows(timeline, shot):
            verdict = judge_window(timeline, window)
            clips.append(ClipVerdict(make_clip(timeline, window, item), verdict))
    kept = _spread(clips, config.max_clips)
    judgement = _video_verdict(timeline, shots, kept)
    if len(kept) < len(clips):
        left_out = {"clips_left_out": Figure(len(clips) - len(kept))}
        judgement = replace(judgement, figures={**judgement.figures, **left_out})
    return Curation(judgement, kept, [_described(timeline, shot) for shot in shots])


def shot_windows(timeline: Timeline, shot: Shot) -> list[Window]:
    """Candidate clips of a shot: all of it, or its sound stretches where the whole is not wanted.

    It is cut where hardly any track goes on, what is longer than a clip where the fewest do; a piece that is
    not wanted gives way to its sound stretches, if it has any. Empty for a shot shorter than a clip.
    """
    whole = Window(shot.start, shot.end)
    if timeline.seconds(whole) < timeline.config.min_clip_s:
        return []
    return [
        window
        for stretch in _wanted_or_sound(timeline, whole)
        for part in _parts(timeline, stretch)
        for window in _wanted_or_sound(timeline, part)
    ]


def _wanted_or_sound(timeline: Timeline, window: Window) -> list[Window]:
    """The window if it is wanted, else the stretches of it that are; itself if there are none."""
    if judge_window(timeline, window).verdict is Verdict.ACCEPTED:
        return [window]
    sound = [part for stretch in _sound(timeline, window) for part in _parts(timeline, stretch)]
    wanted = [s for s in sound if judge_window(timeline, s).verdict is Verdict.ACCEPTED]
    return wanted or [window]


def _parts(timeline: Timeline, window: Window) -> list[Window]:
    """Cut where next to nothing is seen on both sides, then down to the length of a clip."""
    config, times = timeline.config, timeline.measures.frames.time_s
    period_s, inside = timeline.period_s, slice(window.start, window.end)
    pieces = covisible_pieces(
        times[inside],
        period_s,
        timeline.lasting[inside],
        config.min_lasting_share,
        config.min_clip_s,
    )
    longest_s = max(config.max_clip_s, config.min_clip_s)
    found = []
    for piece in pieces:
        first = window.start + piece.start
        within = slice(first, window.start + piece.stop)
        parts = covisible_windows(
            times[within], period_s, timeline.lasting[within], config.min_clip_s, longest_s
        )
        found += [Window(first + part.start, first + part.stop) for part in parts]
    return found


def _sound(timeline: Timeline, window: Window) -> list[Window]:
    """The stretches with parallax and without much that moves by itself, if long enough for a clip."""
    config, steps = timeline.config, timeline.steps(window)
    at, times = timeline.measures.steps.at, timeline.measures.frames.time_s
    if steps.stop - steps.start < 2:
        return []
    seconds = times[at[steps]] - times[at[steps.start - 1 : steps.stop - 1]]
    good = timeline.kind[steps] == Kind.PARALLAX
    good &= timeline.moving[steps] <= config.max_moving_share
    share = max(0.5, config.min_parallax_share)
    found = sound_stretches(good, seconds, share, config.min_clip_s - timeline.period_s)
    first = steps.start
    windows = [
        Window(int(at[first + start - 1]), int(at[first + end - 1]) + 1) for start, end in found
    ]
    return [w for w in windows if timeline.seconds(w) >= config.min_clip_s]


def _spread(clips: list[ClipVerdict], most: int) -> list[ClipVerdict]:
    """Without the wanted clips beyond ``most``, which are spread evenly over the video; 0 for all."""
    wanted = [i for i, c in enumerate(clips) if c.judgement.verdict is Verdict.ACCEPTED]
    if not most or len(wanted) <= most:
        return clips
    kept = {wanted[i] for i in np.linspace(0, len(wanted) - 1, most).round().astype(int)}
    return [c for i, c in enumerate(clips) if i in kept or i not in wanted]


def _video_verdict(timeline: Timeline, shots: list[Shot], clips: list[ClipVerdict]) -> Judgement:
    figures = _video_figures(timeline, shots, clips)
    accepted = [c for c in clips if c.judgement.verdict is Verdict.ACCEPTED]
    if accepted:
        return Judgement.accept(figures, f"{len(accepted)} of {len(clips)} clips are wanted")
    reason, message = _why_not(timeline, shots, clips)
    return Judgement.reject(reason, message, figures)


def _why_not(timeline: Timeline, shots: list[Shot], clips: list[ClipVerdict]) -> tuple[Reason, str]:
    """The reason that takes most of the video's time; none of its clips is wanted."""
    everything = Window(0, len(timeline.measures.frames))
    picture = timeline.picture(everything)
    if picture is not Picture.FOOTAGE:
        return Reason.NOT_FOOTAGE, f"most of it is no footage: {picture.value.replace('_', ' ')}"
    need = timeline.config.min_clip_s
    lost: Counter[Reason] = Counter()
    for shot in shots:
        seconds = timeline.seconds(Window(shot.start, shot.end))
        if seconds < need:
            lost[Reason.SHOT_TOO_SHORT] += seconds  # type: ignore[assignment]
    words: dict[Reason, str] = {}
    for clip in clips:
        reason = clip.judgement.reason or Reason.NO_CLIP_LEFT
        lost[reason] += clip.clip.end_s - clip.clip.start_s  # type: ignore[assignment]
        words.setdefault(reason, clip.judgement.message)
    if not lost:
        return Reason.NOT_FOOTAGE, "nothing but blank pictures"
    reason, seconds = lost.most_common(1)[0]
    if seconds <= sum(lost.values()) / 2:
        reasons = ", ".join(sorted(r.value for r in lost))
        return Reason.NO_CLIP_LEFT, f"its stretches fell for different reasons: {reasons}"
    if reason is Reason.SHOT_TOO_SHORT:
        longest = max(timeline.seconds(Window(s.start, s.end)) for s in shots)
        return reason, f"{len(shots)} shots, the longest lasts {longest:.2f} s of {need:g} s needed"
    return reason, words[reason]


def _video_figures(
    timeline: Timeline, shots: list[Shot], clips: list[ClipVerdict]
) -> dict[str, Figure]:
    measures, config = timeline.measures, timeline.config
    lengths = [timeline.seconds(Window(s.start, s.end)) for s in shots]
    accepted = [c for c in clips if c.judgement.verdict is Verdict.ACCEPTED]
    kept = sum(c.clip.end_s - c.clip.start_s for c in accepted)
    frozen = float(np.mean(timeline.frozen)) if len(timeline.frozen) else 0.0
    side = min(measures.width, measures.height)
    whole = timeline.picture(Window(0, len(measures.frames)))
    return {
        "kind": Figure(whole.value),
        "duration_s": Figure(round(measures.duration_s, 3), config.min_duration_s, ">="),
        "short_side_px": Figure(side, config.min_short_side_px, ">="),
        "shots": Figure(len(shots)),
        "longest_shot_s": Figure(round(max(lengths, default=0.0), 3), config.min_clip_s, ">="),
        "frozen_share": Figure(round(frozen, 4), config.max_frozen_share, "<="),
        "clips": Figure(len(clips)),
        "clips_wanted": Figure(len(accepted), 1, ">="),
        "seconds_wanted": Figure(round(kept, 3)),
    }


def _described(timeline: Timeline, shot: Shot) -> dict[str, Any]:
    frames = timeline.measures.frames
    seconds = timeline.seconds(Window(shot.start, shot.end))
    return {
        "start_frame": int(frames.index[shot.start]),
        "end_frame": int(frames.index[shot.end - 1]) + 1,
        "start_s": round(float(frames.time_s[shot.start]), 3),
        "seconds": round(seconds, 3),
        "long_enough": seconds >= timeline.config.min_clip_s,
    }
