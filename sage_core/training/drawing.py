"""Drawing video samples from shards: which clip has its turn, and which of its frames."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sage_core.config.losses import CurriculumConfig
from sage_core.config.sampling import AugmentConfig, SamplingConfig
from sage_core.errors import ShardError, TrainingError
from sage_core.geometry import SizeRule
from sage_core.losses import AnchorQuality
from sage_core.shards import ClipInfo, ShardReader, Trajectory, can_draw, draw_trajectory
from sage_core.training.augmentation import augmented, drawn_change
from sage_core.training.curriculum import sampling_at
from sage_core.training.mixture import Mixture
from sage_core.training.order import SampleId
from sage_core.training.samples import VideoSample, video_sample
from sage_core.training.settings import DataSet
from sage_core.types import Reason

_PER_DATA_SET = 15_000


@dataclass(frozen=True)
class SampleRules:
    """What a run asks of its video samples besides :class:`SamplingConfig`; by default the paper's.

    Attributes:
        per_epoch: video samples of an epoch; 0 for 15,000 of each data set.
        samples: video samples of the whole run, for the curriculum.
        curriculum: how the sampling widens as the run goes on.
        quality: weighs anchors; None for equal weights.
        masks: whether the shards' masks are heeded.
        per_visit: samples of a clip before the next ones have their turn.
        augment: how samples are changed as a whole.
    """

    per_epoch: int = 0
    samples: int = 1
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    quality: AnchorQuality | None = None
    masks: bool = False
    per_visit: int = 1
    augment: AugmentConfig = field(default_factory=AugmentConfig)


class VideoSamples:
    """Draws video samples from data sets of shards; a pure function of seed and sample id.

    Which data set and clip has its turn is :class:`Mixture`'s to say.

    Raises:
        TrainingError: a data set in which no clip yields a trajectory.
    """

    def __init__(
        self,
        datasets: Sequence[DataSet],
        sampling: SamplingConfig,
        *,
        size: int | SizeRule,
        seed: int,
        shuffle_views: bool,
        most_views: int | None = None,
        rules: SampleRules = SampleRules(),
    ) -> None:
        """Open the shards and find the clips that yield samples of ``most_views`` context views."""
        if not datasets:
            raise TrainingError(
                "no shards were given, so there is nothing to train on: name some under datasets, or run "
                "`sage assemble` first"
            )
        self._readers: list[ShardReader] = []
        most = _with_context(sampling, most_views or sampling.n_context)
        self._clips = [self._opened(data, most) for data in datasets]
        self._mixture = Mixture(
            tuple(data.weight for data in datasets),
            tuple(len(names) for names in self._clips),
            rules.per_epoch or _PER_DATA_SET * len(datasets),
            seed,
            rules.per_visit,
        )
        self._sampling, self._size, self._rules = sampling, size, rules
        self._seed, self._shuffle = seed, shuffle_views
        self._local = threading.local()

    @property
    def clips(self) -> int:
        """Clips that samples are drawn from."""
        return sum(len(names) for names in self._clips)

    def __call__(self, sample: SampleId) -> VideoSample:
        """The sample with this id.

        Raises:
            ShardError: the frames it needs are damaged.
        """
        data, place = self._mixture.at(sample.epoch, sample.index)
        shard, name = self._clips[data][place]
        reader = self._reader(shard)
        clip = reader.clip(name)
        rng = sample.rng(self._seed)
        drawn = self._drawn(clip, sample, rng)
        trajectory = _shuffled(drawn, rng) if self._shuffle else drawn
        weighed = self._rules.quality is not None
        frames = reader.frames(clip, trajectory.rows, measures=weighed)
        order = rng.permutation(len(trajectory.context)).tolist()
        change = drawn_change(self._rules.augment, rng)
        made = video_sample(
            frames,
            len(trajectory.context),
            self._size,
            order,
            quality=self._rules.quality,
            masks=self._rules.masks,
            zoom=change.zoom,
        )
        return augmented(made, change)

    def _drawn(self, clip: ClipInfo, sample: SampleId, rng: np.random.Generator) -> Trajectory:
        """A trajectory as the curriculum has it now, or as in the end where the clip has none such."""
        number = sample.epoch * self._mixture.per_epoch + sample.index
        progress = number / max(1, self._rules.samples)
        sampling = _with_context(self._sampling, sample.views or self._sampling.n_context)
        now = sampling_at(sampling, self._rules.curriculum, progress)
        if now is not sampling and can_draw(clip, now):
            return draw_trajectory(clip, now, rng)
        return draw_trajectory(clip, sampling, rng)

    def _opened(self, data: DataSet, sampling: SamplingConfig) -> list[tuple[int, str]]:
        """The clips of a data set that yield trajectories, each with its reader's number."""
        found = []
        if not data.parts:
            raise TrainingError(
                f"the data set {data.name} names no shards: give it parts, or take it out of datasets"
            )
        for part in data.parts:
            reader = ShardReader([part.path])
            wanted = reader.names if part.clips is None else sorted(part.clips)
            found += [(len(self._readers), name) for name in wanted]
            self._readers.append(reader)
        drawable = [c for c in found if can_draw(self._readers[c[0]].clip(c[1]), sampling)]
        if not drawable:
            raise TrainingError(
                f"none of the {len(found)} clips in the data set {data.name} yields a trajectory: mine "
                f"longer clips, or change adapt.sampling; {self._why(found, sampling)}",
                reason=Reason.NO_TRAJECTORY if found else Reason.NO_DATA,
            )
        return drawable

    def _why(self, found: list[tuple[int, str]], sampling: SamplingConfig) -> str:
        """What keeps the first of the clips from yielding a trajectory."""
        for shard, name in found:
            try:
                draw_trajectory(self._readers[shard].clip(name), sampling, np.random.default_rng(0))
            except ShardError as error:
                return str(error)
        return "no clip was named"

    def _reader(self, shard: int) -> ShardReader:
        # Open Parquet files do not like to be shared: each loader thread has its own.
        readers: dict[int, ShardReader] = self._local.__dict__.setdefault("readers", {})
        if shard not in readers:
            readers[shard] = copy.copy(self._readers[shard])
        return readers[shard]


def _with_context(sampling: SamplingConfig, views: int) -> SamplingConfig:
    return sampling.model_copy(update={"n_context": views})


def _shuffled(drawn: Trajectory, rng: np.random.Generator) -> Trajectory:
    order = rng.permutation(len(drawn.context))
    return Trajectory([drawn.context[i] for i in order], drawn.targets, drawn.mode)
