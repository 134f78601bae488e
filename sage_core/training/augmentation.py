"""Changes of a video sample as a whole: mirrored, zoomed, in other colours, its geometry moved along."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sage_core.config.sampling import AugmentConfig
from sage_core.losses import SparseAnchors
from sage_core.training.samples import VideoSample

_LUMA = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Change:
    """What becomes of one sample; by default nothing.

    Attributes:
        zoom: of the pictures, at least 1; for :func:`sage_core.training.samples.video_sample`.
        mirrored: whether left and right change places.
        brightness, contrast, saturation: factors.
    """

    zoom: float = 1.0
    mirrored: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0


def drawn_change(config: AugmentConfig, rng: np.random.Generator) -> Change:
    """One change at random; nothing is drawn for what is off."""
    zoom = float(rng.uniform(1, config.zoom)) if config.zoom > 1 else 1.0
    mirrored = config.mirror and bool(rng.random() < 0.5)
    if not config.colour:
        return Change(zoom, mirrored)
    factors = rng.uniform(1 - config.colour, 1 + config.colour, 3).tolist()
    return Change(zoom, mirrored, *factors)


def augmented(sample: VideoSample, change: Change) -> VideoSample:
    """The sample, mirrored and recoloured; ``zoom`` is left to who makes the sample."""
    recoloured = replace(sample, images=_recoloured(sample.images, change))
    return mirrored(recoloured) if change.mirrored else recoloured


def mirrored(sample: VideoSample) -> VideoSample:
    """The sample as a mirror shows it: x becomes W - x in the pictures, X becomes -X in the scene.

    The world is mirrored with the cameras, so poses stay rotations: M [R t] M with M = diag(-1, 1, 1).
    """
    width = sample.images.shape[-1]
    K = sample.intrinsics.clone()
    K[:, 0, 2] = width - K[:, 0, 2]
    K[:, 0, 1] = -K[:, 0, 1]
    flip = K.new_tensor((-1.0, 1.0, 1.0))
    pose = sample.cam_from_reference * flip[:, None]
    pose = torch.cat((pose[..., :3] * flip, pose[..., 3:]), -1)
    targets = sample.target_anchors
    return replace(
        sample,
        images=sample.images.flip(-1),
        intrinsics=K,
        cam_from_reference=pose,
        anchors=_mirrored_anchors(sample.anchors, width),
        target_anchors=None if targets is None else _mirrored_anchors(targets, width),
        valid=None if sample.valid is None else sample.valid.flip(-1),
    )


def _mirrored_anchors(anchors: SparseAnchors, width: int) -> SparseAnchors:
    """On a pixel's left edge an anchor stays in that pixel's mirror image: it is moved inside by a hair."""
    x, y = anchors.xy.unbind(-1)
    inside = torch.nextafter(width - x, x.new_zeros(()))
    return SparseAnchors(
        torch.stack((inside, y), -1),
        anchors.points * anchors.points.new_tensor((-1.0, 1.0, 1.0)),
        anchors.weight,
    )


def _recoloured(images: Tensor, change: Change) -> Tensor:
    """Brightness, then contrast about the sample's mean grey, then saturation; clipped to 0..1."""
    if (change.brightness, change.contrast, change.saturation) == (1.0, 1.0, 1.0):
        return images
    luma = images.new_tensor(_LUMA).view(3, 1, 1)
    bright = images * change.brightness
    mean = (bright * luma).sum(1).mean()
    contrasted = mean + (bright - mean) * change.contrast
    grey = (contrasted * luma).sum(1, keepdim=True)
    return (grey + (contrasted - grey) * change.saturation).clamp(0, 1)
