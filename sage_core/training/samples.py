"""Training samples: a trajectory of a mined clip, or labelled views, as tensors at the model's size."""

from __future__ import annotations

import copy
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sage_core.config.sampling import SamplingConfig
from sage_core.errors import TrainingError
from sage_core.evaluation.samples import LabelledViews
from sage_core.geometry import PixelMap, SizeRule, invert, relative, transform, unproject
from sage_core.losses import SparseAnchors
from sage_core.shards import (
    Anchors,
    FrameRecord,
    ShardReader,
    Trajectory,
    can_draw,
    draw_trajectory,
)
from sage_core.training.order import SampleId
from sage_core.training.settings import DataSet
from sage_core.types import Reason

_CLIP_ORDER = 1_000


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
    """

    name: str
    images: Tensor
    context: int
    intrinsics: Tensor
    cam_from_reference: Tensor
    anchors: SparseAnchors
    render_order: tuple[int, ...]
    taught: Pseudo | None = None
    """What a teacher that saw all views says of the context views."""

    def to(self, device: torch.device) -> VideoSample:
        """The sample on a device."""
        return replace(
            self,
            images=self.images.to(device),
            intrinsics=self.intrinsics.to(device),
            cam_from_reference=self.cam_from_reference.to(device),
            anchors=SparseAnchors(*(t.to(device) for t in vars(self.anchors).values())),
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


class VideoSamples:
    """Draws video samples from data sets of shards; a pure function of seed and sample id.

    An epoch takes as many samples from each data set as from any other, and within a data set as many from
    each clip: before a clip is drawn again all others have had their turn, in an order of the seed's own.

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
    ) -> None:
        """Open the shards and find the clips that yield samples of ``most_views`` context views."""
        if not datasets:
            raise TrainingError("no shards were given, so there is nothing to train on")
        self._readers: list[ShardReader] = []
        most = _with_context(sampling, most_views or sampling.n_context)
        self._clips = [self._opened(data, most) for data in datasets]
        self._sampling, self._size = sampling, size
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
        data, turn = sample.index % len(self._clips), sample.index // len(self._clips)
        clips = self._clips[data]
        lap, place = divmod(turn, len(clips))
        turns = _permutation(self._seed, sample.epoch, data, lap, len(clips))
        shard, name = clips[turns[place]]
        reader = self._reader(shard)
        clip = reader.clip(name)
        rng = sample.rng(self._seed)
        sampling = _with_context(self._sampling, sample.views or self._sampling.n_context)
        drawn = draw_trajectory(clip, sampling, rng)
        trajectory = _shuffled(drawn, rng) if self._shuffle else drawn
        frames = reader.frames(clip, trajectory.rows)
        order = rng.permutation(len(trajectory.context)).tolist()
        return video_sample(frames, len(trajectory.context), self._size, order)

    def _opened(self, data: DataSet, sampling: SamplingConfig) -> list[tuple[int, str]]:
        """The clips of a data set that yield trajectories, each with its reader's number."""
        found = []
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
) -> VideoSample:
    """Frames, the first ``context`` of which the model sees, as a sample of images of one size.

    That is the size for the first frame's shape, or ``size`` x ``size``. Each picture is resized to cover it
    and cropped in the middle, so that no shape is squashed; intrinsics and anchors move along.
    """
    new = _rule(size).size(frames[0].width, frames[0].height)
    maps = [PixelMap.cover((f.width, f.height), new) for f in frames]
    images = np.stack([m.image(f.pixels()) for m, f in zip(maps, frames, strict=True)])
    intrinsics = [m.intrinsics(f.intrinsics) for m, f in zip(maps, frames, strict=True)]
    from_reference = [relative(f.cam_from_world, frames[0].cam_from_world) for f in frames]
    seen = [f.anchors.mapped(m) for m, f in zip(maps, frames, strict=True)][:context]
    numbers = ",".join(str(frame.frame) for frame in frames)
    return VideoSample(
        name=f"{frames[0].clip}[{numbers}]",
        images=_as_images(images),
        context=context,
        intrinsics=torch.from_numpy(np.stack(intrinsics).astype(np.float32)),
        cam_from_reference=torch.from_numpy(np.stack(from_reference).astype(np.float32)),
        anchors=_sparse_anchors(seen, intrinsics, from_reference, new[0]),
        render_order=tuple(render_order or range(context)),
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


@lru_cache(maxsize=64)
def _permutation(seed: int, epoch: int, data: int, lap: int, n: int) -> NDArray[np.int64]:
    rng = np.random.default_rng([seed, _CLIP_ORDER, epoch, data, lap])
    return rng.permutation(n)


def _shuffled(drawn: Trajectory, rng: np.random.Generator) -> Trajectory:
    order = rng.permutation(len(drawn.context))
    return Trajectory([drawn.context[i] for i in order], drawn.targets, drawn.mode)


def _sparse_anchors(
    seen: Sequence[Anchors],
    intrinsics: Sequence[NDArray[np.float64]],
    cam_from_reference: Sequence[NDArray[np.float64]],
    width: int,
) -> SparseAnchors:
    kept = [anchors.select(_nearest_in_pixel(anchors, width)) for anchors in seen]
    longest = max(1, *(len(anchors) for anchors in kept))
    xy = np.zeros((1, len(kept), longest, 2), np.float32)
    points = np.zeros((1, len(kept), longest, 3), np.float32)
    weight = np.zeros((1, len(kept), longest), np.float32)
    for view, anchors in enumerate(kept):
        camera = unproject(intrinsics[view], anchors.xy, anchors.depth)
        n = len(anchors)
        xy[0, view, :n] = anchors.xy
        points[0, view, :n] = transform(invert(cam_from_reference[view]), camera)
        weight[0, view, :n] = 1.0
    return SparseAnchors(*(torch.from_numpy(array) for array in (xy, points, weight)))


def _nearest_in_pixel(anchors: Anchors, width: int) -> NDArray[np.int64]:
    column, row = np.floor(anchors.xy).astype(np.int64).T
    by_depth = np.argsort(anchors.depth, kind="stable")
    _, first = np.unique((row * width + column)[by_depth], return_index=True)
    return np.sort(by_depth[first])


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
