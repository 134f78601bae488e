"""Which frames of a clip make a training sample: the paper's jittered walk in time, and ours by covisibility.

Paper (section on trajectories): uniform sampling takes ``I[t0 + i Δt]``, SAGE takes
``I[t0 + i Δt + δ_i], δ_i ~ U(-ε, ε)``; target views lie strictly between the first and last context
view. Moments are turned into frames by their time stamps, so variable frame rates do no harm.

A photo set has no time, and few near duplicates. Where a mode asks for time its samples are grown by
covisibility with no upper end (mode ``connected``), and a target counts as interpolated when two context
views or more see what it sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.config.sampling import SamplingConfig
from sage_core.errors import ShardError
from sage_core.geometry.poses import camera_centres
from sage_core.shards.records import ClipInfo, Trajectory
from sage_core.types import Reason

FRAMES_PER_SECOND = 30.0
"""The rate at which settings count frames."""

_ATTEMPTS = 100

Rows = NDArray[np.int64]


def draw_trajectory(clip: ClipInfo, config: SamplingConfig, rng: np.random.Generator) -> Trajectory:
    """One sample of the clip; the same generator state gives the same sample.

    Raises:
        ShardError: no sample can be drawn (``no_trajectory``): the clip is too short or too sparse for
            ``interval_frames`` and ``n_context``, or its frames share too few points.
    """
    trajectory = _try_draw(clip, config, rng)
    if trajectory is None:
        raise ShardError(_no_trajectory(clip, config), reason=Reason.NO_TRAJECTORY)
    return trajectory


def can_draw(clip: ClipInfo, config: SamplingConfig) -> bool:
    """Whether :func:`draw_trajectory` finds a sample in this clip (tried with a fixed seed)."""
    return _try_draw(clip, config, np.random.default_rng(0)) is not None


def candidates(
    clip: ClipInfo, config: SamplingConfig, count: int, rng: np.random.Generator
) -> list[Trajectory]:
    """Up to ``count`` different samples, half of them in time and half by covisibility, best score first."""
    covisibility = clip.covisibility.matrix(clip.n_frames)
    modes = ["perturbed", "covisibility"]
    found: dict[tuple[int, ...], Trajectory] = {}
    for mode in modes:
        section = config.model_copy(update={"mode": mode})
        draw = _sampler(clip, section, rng)
        wanted = len(found) + count // len(modes)
        for _ in range(4 * count):
            trajectory = draw()
            if trajectory is not None and len(found) < wanted:
                found.setdefault(tuple(trajectory.context), trajectory)
    measured = [measure(clip, t, config, covisibility) for t in found.values()]
    return sorted(measured, key=lambda t: (-t.score, t.context, t.targets))


def measure(
    clip: ClipInfo,
    trajectory: Trajectory,
    config: SamplingConfig,
    covisibility: NDArray[np.float32],
) -> Trajectory:
    """The trajectory with its figures; ``covisibility`` is the clip's dense matrix [n, n]."""
    context = np.array(trajectory.context)
    left, right = context[:-1], context[1:]
    distance = _parallax(clip, left)[np.arange(len(left)), right]
    usual = float(np.median(clip.sharpness)) or 1.0
    parallax = float(np.median(distance))
    sharpness = float(clip.sharpness[trajectory.rows].mean()) / usual
    return replace(
        trajectory,
        overlap=float(covisibility[left, right].mean()),
        parallax=parallax,
        sharpness=sharpness,
        span_s=float(np.ptp(clip.times_s[context])),
        score=score(covisibility[np.ix_(context, context)], parallax, sharpness, config),
    )


def score(
    covisibility: NDArray[np.float32], parallax: float, sharpness: float, config: SamplingConfig
) -> float:
    """How informative a sample is, 0..1, as a product of three shares.

    The share of context views whose best covisibility with an earlier one lies in the band (neither cut
    off from the rest nor a duplicate), the neighbours' parallax up to twice ``min_parallax``, and the
    sharpness up to the clip's median.
    """
    n = len(covisibility)
    best = np.array([covisibility[k, :k].max() for k in range(1, n)])
    in_band = (best >= config.covisibility_min) & (best <= config.covisibility_max)
    moved = min(1.0, parallax / (2 * config.min_parallax)) if config.min_parallax else 1.0
    return float(in_band.mean() * moved * min(1.0, sharpness))


def _try_draw(
    clip: ClipInfo, config: SamplingConfig, rng: np.random.Generator
) -> Trajectory | None:
    if clip.n_frames < config.n_context + config.n_targets and config.mode != "candidates":
        return None
    draw = _sampler(clip, config, rng)
    for _ in range(_ATTEMPTS):
        trajectory = draw()
        if trajectory is not None:
            return trajectory
    return None


def _sampler(
    clip: ClipInfo, config: SamplingConfig, rng: np.random.Generator
) -> Callable[[], Trajectory | None]:
    """What draws once; it gives None where the draw hit a gap or a dead end."""
    if config.mode == "candidates":
        return lambda: _from_table(clip, config, rng)
    if config.mode == "covisibility":
        grow = _Growth(clip, config, rng)
        return lambda: _with_targets(clip, config, rng, "covisibility", grow(), grow.covisibility)
    if not clip.ordered:
        unbounded = {"covisibility_max": 1.0, "min_parallax": 0.0}
        join = _Growth(clip, config.model_copy(update=unbounded), rng)
        return lambda: _with_targets(clip, config, rng, "connected", join(), join.covisibility)
    jitter = config.jitter_frames if config.mode == "perturbed" else 0.0
    return lambda: _with_targets(clip, config, rng, config.mode, _walk(clip, config, jitter, rng))


def _walk(
    clip: ClipInfo, config: SamplingConfig, jitter: float, rng: np.random.Generator
) -> Rows | None:
    """Rows nearest to the moments ``t0 + i Δt + δ_i``, or None if one of them has no frame nearby."""
    steps = np.arange(config.n_context) * config.interval_frames
    shifts = rng.uniform(-jitter, jitter, config.n_context)
    last_start = clip.times_s[-1] - steps[-1] / FRAMES_PER_SECOND
    slack = (jitter + config.tolerance_frames) / FRAMES_PER_SECOND
    starts = np.searchsorted(clip.times_s, last_start + slack, side="right")
    if starts == 0:
        return None
    moments = clip.times_s[rng.integers(starts)] + (steps + shifts) / FRAMES_PER_SECOND
    rows = _nearest(clip.times_s, moments)
    off = np.abs(clip.times_s[rows] - moments).max() * FRAMES_PER_SECOND
    if off > config.tolerance_frames or (np.diff(rows) <= 0).any():
        return None
    return rows


def _nearest(times: NDArray[np.float64], moments: NDArray[np.float64]) -> Rows:
    right = np.searchsorted(times, moments).clip(1, max(1, len(times) - 1))
    left = right - 1
    right = right.clip(0, len(times) - 1)
    return np.where(moments - times[left] <= times[right] - moments, left, right)


class _Growth:
    """Grows a set from a random frame: a new view shares enough, but not too much, and stands elsewhere."""

    def __init__(self, clip: ClipInfo, config: SamplingConfig, rng: np.random.Generator) -> None:
        self.covisibility = clip.covisibility.matrix(clip.n_frames)
        self._parallax = _parallax(clip, np.arange(clip.n_frames))
        self._clip, self._config, self._rng = clip, config, rng

    def __call__(self) -> Rows | None:
        chosen = [int(self._rng.integers(self._clip.n_frames))]
        while len(chosen) < self._config.n_context:
            fitting = self._fitting(chosen)
            if len(fitting) == 0:
                return None
            chosen.append(int(self._rng.choice(fitting)))
        return np.array(sorted(chosen) if self._clip.ordered else chosen)

    def _fitting(self, chosen: list[int]) -> Rows:
        shared = self.covisibility[chosen]
        best, parent = shared.max(0), shared.argmax(0)
        distance = self._parallax[np.array(chosen)[parent], np.arange(len(best))]
        fits = (best >= self._config.covisibility_min) & (best <= self._config.covisibility_max)
        fits &= distance >= self._config.min_parallax
        fits[chosen] = False
        return np.flatnonzero(fits)


def _parallax(clip: ClipInfo, rows: Rows) -> NDArray[np.float64]:
    """Distance of every frame from those at ``rows`` / their median depth, [len(rows), n]."""
    centres = camera_centres(clip.cam_from_world)
    distance = np.linalg.norm(centres[rows][:, None] - centres[None], axis=-1)
    return np.asarray(distance / np.maximum(clip.depth_median[rows], 1e-12)[:, None])


def _with_targets(
    clip: ClipInfo,
    config: SamplingConfig,
    rng: np.random.Generator,
    mode: str,
    context: Rows | None,
    covisibility: NDArray[np.float32] | None = None,
) -> Trajectory | None:
    if context is None:
        return None
    possible = _target_rows(clip, config, context, covisibility)
    if len(possible) < config.n_targets:
        return None
    targets = np.sort(rng.choice(possible, config.n_targets, replace=False))
    return Trajectory(context.tolist(), targets.tolist(), mode)


def _target_rows(
    clip: ClipInfo,
    config: SamplingConfig,
    context: Rows,
    covisibility: NDArray[np.float32] | None,
) -> Rows:
    fits = np.ones(clip.n_frames, bool)
    fits[context] = False
    if clip.ordered:
        fits &= _in_time(clip, config, int(context[0]), int(context[-1]))
    if covisibility is not None:
        shared = np.sort(covisibility[context], axis=0)
        seen_by = 2 if config.targets == "interpolated" else 1
        fits &= shared[-seen_by] >= config.covisibility_min
    return np.flatnonzero(fits)


def _in_time(clip: ClipInfo, config: SamplingConfig, first: int, last: int) -> NDArray[np.bool_]:
    """Rows between the ends, or, to extrapolate, at most two intervals outside them."""
    rows = np.arange(clip.n_frames)
    inside = (rows > first) & (rows < last)
    if config.targets == "interpolated":
        return inside
    reach = 2 * config.interval_frames / FRAMES_PER_SECOND
    near = clip.times_s >= clip.times_s[first] - reach
    near &= clip.times_s <= clip.times_s[last] + reach
    return np.asarray(near & ~inside)


def _from_table(
    clip: ClipInfo, config: SamplingConfig, rng: np.random.Generator
) -> Trajectory | None:
    """A stored candidate with as many views, more often the higher its score."""
    wanted = (config.n_context, config.n_targets)
    fitting = [t for t in clip.trajectories if (len(t.context), len(t.targets)) == wanted]
    if not fitting:
        return None
    scores = np.array([t.score for t in fitting], np.float64) + 1e-6
    return fitting[int(rng.choice(len(fitting), p=scores / scores.sum()))]


def _no_trajectory(clip: ClipInfo, config: SamplingConfig) -> str:
    span = float(np.ptp(clip.times_s)) if clip.n_frames else 0.0
    what: dict[str, Any] = {
        "perturbed": f"intervals of {config.interval_frames:g} frames (at 30 a second)",
        "linear": f"intervals of {config.interval_frames:g} frames (at 30 a second)",
        "covisibility": f"covisibility {config.covisibility_min:g} to {config.covisibility_max:g}",
        "candidates": "the same counts in its table of candidates",
    }
    return (
        f"clip {clip.clip} ({clip.n_frames} frames over {span:.1f} s) gives no sample of "
        f"{config.n_context} context and {config.n_targets} target views with {what[config.mode]}: "
        "lower sampling.interval_frames or n_context, or widen the band"
    )
