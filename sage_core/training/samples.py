"""Training samples: a trajectory of a mined clip, or labelled views, as tensors at the model's size."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sage_core.config.losses import CurriculumConfig
from sage_core.config.sampling import SamplingConfig
from sage_core.errors import TrainingError
from sage_core.evaluation.samples import LabelledViews
from sage_core.geometry import PixelMap, SizeRule, batched, relative
from sage_core.losses import AnchorQuality, SparseAnchors
from sage_core.shards import (
    ClipInfo,
    FrameRecord,
    ShardReader,
    Trajectory,
    can_draw,
    draw_trajectory,
)
from sage_core.training.anchors import nearest_in_pixel, on_scene, scene_pixels, sparse_anchors
from sage_core.training.curriculum import sampling_at
from sage_core.training.mixture import Mixture
from sage_core.training.order import SampleId
from sage_core.training.settings import DataSet
from sage_core.types import Reason

_PER_DATA_SET = 15_000


@dataclass(frozen=True)
class Pseudo:
    """Pointmaps that a teacher predicted, as a batch of one."""

    points: Tensor
    """float32 [1, V, H, W, 3] in view 0's camera frame, the teacher's own unit."""
    conf: Tensor
    """float32 [1, V, H, W]; only its order within a view means anything."""


@dataclass(frozen=True)
class VideoSample:
    """Views of one clip, context first, then targets; view 0 is the reference.

    Attributes:
        name: clip and source frames, for messages.
        images: float32 [V + T, 3, H, W], RGB 0..1.
        context: V, how many of the views the model sees.
        intrinsics: float32 [V + T, 3, 3], pixels of these images, +0.5 rule.
        cam_from_reference: float32 [V + T, 3, 4], SfM units; the identity for view 0.
        anchors: SfM points on the context views, SfM units, as a batch of one. At most one a pixel: the
            one nearest to the camera, which hides the others.
        render_order: the context views in a random order, for who renders only some of them.
        target_anchors: SfM points on the target views, like ``anchors``.
        valid: bool [V + T, H, W], pixels that show the static scene; None for all.
    """

    name: str
    images: Tensor
    context: int
    intrinsics: Tensor
    cam_from_reference: Tensor
    anchors: SparseAnchors
    render_order: tuple[int, ...]
    target_anchors: SparseAnchors | None = None
    valid: Tensor | None = None
    taught: Pseudo | None = None
    """What a teacher that saw all views says of the context views."""

    def to(self, device: torch.device) -> VideoSample:
        """The sample on a device."""
        targets = self.target_anchors
        return replace(
            self,
            images=self.images.to(device),
            intrinsics=self.intrinsics.to(device),
            cam_from_reference=self.cam_from_reference.to(device),
            anchors=self.anchors.to(device),
            target_anchors=targets.to(device) if targets is not None else None,
            valid=self.valid.to(device) if self.valid is not None else None,
        )

    def seen_from(self, view: int) -> VideoSample:
        """The same sample with another context view as reference, in slot 0, and view 0 in its slot."""
        if view == 0:
            return self
        order = list(range(len(self.images)))
        order[0], order[view] = view, 0
        rebase = self.cam_from_reference[view]
        context = self.anchors.select(order[: self.context]).moved(rebase)
        targets = self.target_anchors
        return replace(
            self,
            images=self.images[order],
            intrinsics=self.intrinsics[order],
            cam_from_reference=batched.relative(self.cam_from_reference[order], rebase),
            anchors=context,
            target_anchors=targets.moved(rebase) if targets is not None else None,
            valid=self.valid[order] if self.valid is not None else None,
            render_order=tuple(order[v] for v in self.render_order),
            taught=None,  # it stands in the frame of the old reference
        )


@dataclass(frozen=True)
class LabelledSample:
    """Views with true pointmaps.

    Attributes:
        name: where the sample comes from.
        images: float32 [V, 3, H, W], RGB 0..1.
        points: float32 [V, H, W, 3], in view 0's camera frame, metres.
        valid: bool [V, H, W], pixels that have a true point.
        depth: float32 [V, H, W], z in each view's camera, metres; 0 where not valid.
        intrinsics: float32 [V, 3, 3], pixels of these images, +0.5 rule.
        cam_from_reference: float32 [V, 3, 4], metres; the identity for view 0.
    """

    name: str
    images: Tensor
    points: Tensor
    valid: Tensor
    depth: Tensor
    intrinsics: Tensor
    cam_from_reference: Tensor

    @property
    def context(self) -> int:
        """How many of the views the model sees: all."""
        return len(self.images)

    def to(self, device: torch.device) -> LabelledSample:
        """The sample on a device."""
        tensors: dict[str, Any] = {
            k: v.to(device) for k, v in vars(self).items() if isinstance(v, Tensor)
        }
        return replace(self, **tensors)


@dataclass(frozen=True)
class SampleRules:
    """What a run asks of its video samples besides :class:`SamplingConfig`; by default the paper's.

    Attributes:
        per_epoch: video samples of an epoch; 0 for 15,000 of each data set.
        samples: video samples of the whole run, for the curriculum.
        curriculum: how the sampling widens as the run goes on.
        quality: weighs anchors; None for equal weights.
        masks: whether the shards' masks are heeded.
    """

    per_epoch: int = 0
    samples: int = 1
    curriculum: CurriculumConfig = field(default_factory=CurriculumConfig)
    quality: AnchorQuality | None = None
    masks: bool = False


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
        frames = reader.frames(clip, trajectory.rows)
        order = rng.permutation(len(trajectory.context)).tolist()
        return video_sample(
            frames,
            len(trajectory.context),
            self._size,
            order,
            quality=self._rules.quality,
            masks=self._rules.masks,
        )

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
                f"none of the {len(found)} clips in the data set {data.name} yields "
                f"{sampling.n_context} + {sampling.n_targets} views {sampling.interval_frames:g} frames "
                "apart: lower adapt.sampling.interval_frames or adapt.sampling.n_context, or mine longer "
                "clips",
                reason=Reason.NO_TRAJECTORY if found else Reason.NO_DATA,
            )
        return drawable

    def _reader(self, shard: int) -> ShardReader:
        # Open Parquet files do not like to be shared: each loader thread has its own.
        readers: dict[int, ShardReader] = self._local.__dict__.setdefault("readers", {})
        if shard not in readers:
            readers[shard] = copy.copy(self._readers[shard])
        return readers[shard]


def video_sample(
    frames: Sequence[FrameRecord],
    context: int,
    size: int | SizeRule,
    render_order: Sequence[int] | None = None,
    *,
    quality: AnchorQuality | None = None,
    masks: bool = False,
) -> VideoSample:
    """Frames, the first ``context`` of which the model sees, as a sample of images of one size.

    That is the size for the first frame's shape, or ``size`` x ``size``. Each picture is resized to cover it
    and cropped in the middle, so that no shape is squashed; intrinsics, anchors and masks move along.

    Args:
        quality: weighs the anchors; None for equal weights.
        masks: whether the frames' masks keep pixels out of ``valid``, and anchors on them out altogether.
    """
    new = _rule(size).size(frames[0].width, frames[0].height)
    maps = [PixelMap.cover((f.width, f.height), new) for f in frames]
    images = np.stack([m.image(f.pixels()) for m, f in zip(maps, frames, strict=True)])
    intrinsics = [m.intrinsics(f.intrinsics) for m, f in zip(maps, frames, strict=True)]
    from_reference = [relative(f.cam_from_world, frames[0].cam_from_world) for f in frames]
    valid = [scene_pixels(m, f) for m, f in zip(maps, frames, strict=True)] if masks else None
    seen = [f.anchors.mapped(m) for m, f in zip(maps, frames, strict=True)]
    if valid is not None:
        seen = [on_scene(anchors, mask) for anchors, mask in zip(seen, valid, strict=True)]
    seen = [nearest_in_pixel(anchors, new[0]) for anchors in seen]
    sparse = sparse_anchors(seen, intrinsics, from_reference, quality)
    numbers = ",".join(str(frame.frame) for frame in frames)
    return VideoSample(
        name=f"{frames[0].clip}[{numbers}]",
        images=_as_images(images),
        context=context,
        intrinsics=torch.from_numpy(np.stack(intrinsics).astype(np.float32)),
        cam_from_reference=torch.from_numpy(np.stack(from_reference).astype(np.float32)),
        anchors=sparse.select(list(range(context))),
        render_order=tuple(render_order or range(context)),
        target_anchors=sparse.select(list(range(context, len(frames)))),
        valid=torch.from_numpy(np.stack(valid)) if valid is not None else None,
    )


def labelled_sample(views: LabelledViews, size: int | SizeRule) -> LabelledSample:
    """Labelled views as a sample, as in :func:`video_sample`; depth is taken from the nearest pixel."""
    height, width = views.depth.shape[1:]
    to_model = _rule(size).map(width, height)
    images = np.stack([to_model.image(image) for image in views.images])
    rows, columns = _nearest_pixels(to_model, width, height)
    grid = np.ix_(np.arange(len(images)), rows, columns)
    points, depth, valid = views.reference_points()[grid], views.depth[grid], views.valid[grid]
    return LabelledSample(
        views.name,
        _as_images(images),
        _as_floats(np.where(valid[..., None], points, 0.0)),
        torch.from_numpy(valid),
        _as_floats(np.where(valid, depth, 0.0)),
        _as_floats(to_model.intrinsics(views.intrinsics)),
        _as_floats(relative(views.cam_from_world, views.cam_from_world[0])),
    )


def _rule(size: int | SizeRule) -> SizeRule:
    return size if isinstance(size, SizeRule) else SizeRule("square", size)


def _with_context(sampling: SamplingConfig, views: int) -> SamplingConfig:
    return sampling.model_copy(update={"n_context": views})


def _shuffled(drawn: Trajectory, rng: np.random.Generator) -> Trajectory:
    order = rng.permutation(len(drawn.context))
    return Trajectory([drawn.context[i] for i in order], drawn.targets, drawn.mode)


def _nearest_pixels(
    to_model: PixelMap, width: int, height: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which old row and column each new pixel's centre falls on."""
    x = (np.arange(to_model.width) + 0.5 - to_model.offset_x) / to_model.scale_x
    y = (np.arange(to_model.height) + 0.5 - to_model.offset_y) / to_model.scale_y
    columns = np.floor(x).astype(np.int64).clip(0, width - 1)
    return np.floor(y).astype(np.int64).clip(0, height - 1), columns


def _as_floats(values: NDArray[np.floating[Any]]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))


def _as_images(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 255
