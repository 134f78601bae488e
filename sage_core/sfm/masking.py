"""Masks in a reconstruction: found before and after mapping, kept out of features and of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.masks import covered, moving_masks, overlay_masks, plugin_masks, resized
from sage_core.sfm.attempt import Task
from sage_core.sfm.model import PosedFrame, SparseModel, frame_name
from sage_core.types import Figure, Judgement, Reason
from sage_core.video.frames import scaled_size

LONG_SIDE = 320
_DRAWN_PX = 12
Mask = NDArray[np.bool_]
Masks = dict[int, Mask]


def masks_before(task: Task) -> Masks:
    """What pictures alone tell, by source frame: overlays, and a plug-in's masks.

    Raises:
        SageError: the plug-in cannot be loaded, failed, or broke its contract.
    """
    settings, frames = task.config.masks, _frames(task)
    found: Masks = {}
    if settings.movers not in ("off", "geometric"):
        pictures = (_rgb(task.images, frame) for frame in frames)
        found = dict(zip(frames, plugin_masks(settings.movers, pictures), strict=True))
        found = {frame: _small(mask) for frame, mask in found.items()}
    if settings.overlays and task.clip.ordered:
        overlays = overlay_masks(list(_greys(task.images, frames)), settings.margin_px)
        found = merged(found, dict(zip(frames, overlays, strict=True)))
    return found


def masks_after(task: Task, model: SparseModel) -> Masks:
    """What moves by itself in the posed frames of a video, where the settings ask for geometry."""
    settings, frames = task.config.masks, [posed.frame for posed in model.frames]
    if settings.movers != "geometric" or not task.clip.ordered or len(frames) < 3:
        return {}
    greys = list(_greys(task.images, frames))
    poses = np.stack([posed.cam_from_world for posed in model.frames])
    none = np.zeros(greys[0].shape, bool)
    blocked = np.stack([_widened(task.masks.get(frame, none)) for frame in frames])
    moving = moving_masks(greys, poses, model.frames[0].camera, settings, blocked)
    return dict(zip(frames, moving, strict=True))


def merged(one: Mapping[int, Mask], other: Mapping[int, Mask]) -> Masks:
    """The union of masks of one size, frame by frame."""
    both = {**one, **other}
    return {frame: mask | one.get(frame, mask) for frame, mask in sorted(both.items())}


def masked_observations(model: SparseModel, masks: Mapping[int, Mask]) -> float:
    """Share of the mapped frames' observations that lie under masks."""
    under = [_under(masks, posed) for posed in model.frames if posed.mapped]
    return float(np.concatenate(under).mean()) if under else 0.0


def unmasked(model: SparseModel, masks: Mapping[int, Mask]) -> SparseModel:
    """The model without observations under masks; points stay, though nobody may see them any more."""
    frames = []
    for posed in model.frames:
        free = ~_under(masks, posed)
        frames.append(replace(posed, xy=posed.xy[free], point=posed.point[free]))
    return replace(model, frames=frames)


def judged(judgement: Judgement, model: SparseModel, task: Task) -> Judgement:
    """The verdict with the masked share among its figures; rejected where masks rule the picture."""
    limit = task.config.masks.max_masked_share
    shares = [_share(task.masks.get(posed.frame)) for posed in model.frames]
    share = float(np.median(shares))
    figures = {**judgement.figures, "masked_share": Figure(round(share, 4), limit, "<=")}
    if share > limit:
        message = f"masks cover {share:.0%} of the picture in the median, at most {limit:.0%}"
        return Judgement.reject(Reason.DYNAMIC_SCENE, message, figures)
    return replace(judgement, figures=figures)


def _frames(task: Task) -> list[int]:
    return sorted({*task.clip.key_frames, *task.clip.pose_frames})


def _rgb(images: Path, frame: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.imread(str(images / frame_name(frame)), cv2.IMREAD_COLOR_RGB), np.uint8)


def _greys(images: Path, frames: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
    for frame in frames:
        grey = np.asarray(cv2.imread(str(images / frame_name(frame)), cv2.IMREAD_GRAYSCALE))
        size = scaled_size(grey.shape[1], grey.shape[0], LONG_SIDE)
        yield np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _small(mask: Mask) -> Mask:
    return resized(mask, scaled_size(mask.shape[1], mask.shape[0], LONG_SIDE))


def _widened(mask: Mask) -> Mask:
    """Flow is drawn along by what stands still beside it, over a good dozen pixels."""
    side = 2 * _DRAWN_PX + 1
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0)


def _under(masks: Mapping[int, Mask], posed: PosedFrame) -> Mask:
    mask = masks.get(posed.frame)
    if mask is None:
        return np.zeros(len(posed.xy), bool)
    return covered(mask, posed.xy, (posed.camera.width, posed.camera.height))


def _share(mask: Mask | None) -> float:
    return 0.0 if mask is None else float(mask.mean())
