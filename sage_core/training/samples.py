"""Training samples: a trajectory of a mined clip, or labelled views, as tensors at the model's size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sage_core.evaluation.samples import LabelledViews
from sage_core.geometry import PixelMap, SizeRule, batched, relative
from sage_core.losses import AnchorQuality, SparseAnchors
from sage_core.shards import (
    FrameRecord,
)
from sage_core.training.anchors import nearest_in_pixel, on_scene, scene_pixels, sparse_anchors


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


def video_sample(
    frames: Sequence[FrameRecord],
    context: int,
    size: int | SizeRule,
    render_order: Sequence[int] | None = None,
    *,
    quality: AnchorQuality | None = None,
    masks: bool = False,
    zoom: float = 1.0,
) -> VideoSample:
    """Frames, the first ``context`` of which the model sees, as a sample of images of one size.

    That is the size for the first frame's shape, or ``size`` x ``size``. Each picture is resized to cover it
    and cropped in the middle, so that no shape is squashed; intrinsics, anchors and masks move along.

    Args:
        quality: weighs the anchors; None for equal weights.
        masks: whether the frames' masks keep pixels out of ``valid``, and anchors on them out altogether.
        zoom: by which pictures are enlarged before their middle is cut out, at least 1.
    """
    new = _rule(size).size(frames[0].width, frames[0].height)
    maps = [_zoomed((f.width, f.height), new, zoom) for f in frames]
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


def _zoomed(old: tuple[int, int], new: tuple[int, int], zoom: float) -> PixelMap:
    """The middle of the picture ``old``, enlarged by ``zoom`` more than covers ``new``."""
    width, height = (round(side * zoom) for side in new)
    left, top = (width - new[0]) // 2, (height - new[1]) // 2
    return PixelMap.cover(old, (width, height)).then(PixelMap.crop(left, top, *new))


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
