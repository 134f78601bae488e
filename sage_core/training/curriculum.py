"""Curriculum by covisibility: views that overlap much first, the whole range of the settings in the end."""

from __future__ import annotations

from sage_core.config.losses import CurriculumConfig
from sage_core.config.sampling import SamplingConfig

_STAGES = 20
"""The range widens in so many steps, so that a handful of settings serve the whole run."""


def sampling_at(
    sampling: SamplingConfig, curriculum: CurriculumConfig, progress: float
) -> SamplingConfig:
    """How samples are drawn when a share ``progress`` (0..1) of the run's samples is done.

    Until ``curriculum.share`` of them the interval, its jitter and the least parallax grow, and the lower end
    of the band of covisibility sinks, in proportion, from their starts to the settings' own. A start that is
    harder than the settings is not taken.
    """
    if progress >= curriculum.share:
        return sampling
    done = int(_STAGES * progress / curriculum.share) / _STAGES
    interval = _between(curriculum.interval_start, 1.0, done)
    start = max(
        sampling.covisibility_min, min(curriculum.covisibility_start, sampling.covisibility_max)
    )
    return sampling.model_copy(
        update={
            "interval_frames": interval * sampling.interval_frames,
            "jitter_frames": interval * sampling.jitter_frames,
            "covisibility_min": _between(start, sampling.covisibility_min, done),
            "min_parallax": _between(curriculum.parallax_start, 1.0, done) * sampling.min_parallax,
        }
    )


def _between(start: float, end: float, share: float) -> float:
    return start + (end - start) * share
