"""Real frames damaged in known ways, to see which figures of the gate tell."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Frames = tuple[list[Image], list[int]]
"""Pictures, and which of the sound clip's frames each shows."""


def _as_is(images: Sequence[Image], seed: int) -> Frames:
    return list(images), list(range(len(images)))


def _fast(images: Sequence[Image], seed: int) -> Frames:
    """Three times as fast."""
    kept = list(range(0, len(images), 3))
    return [images[i] for i in kept], kept


def _backwards(images: Sequence[Image], seed: int) -> Frames:
    kept = list(range(len(images)))[::-1]
    return [images[i] for i in kept], kept


def _cropped(images: Sequence[Image], seed: int) -> Frames:
    """The left three fifths: the principal point is far from the middle."""
    width = images[0].shape[1] * 3 // 5
    return [np.ascontiguousarray(image[:, :width]) for image in images], list(range(len(images)))


def _noisy(images: Sequence[Image], seed: int) -> Frames:
    """A sensor at night: standard deviation 30 of 255."""
    rng = np.random.default_rng(seed)
    noisy = [image + rng.normal(0, 30, image.shape) for image in images]
    return [np.clip(image, 0, 255).astype(np.uint8) for image in noisy], list(range(len(images)))


def _zoomed(images: Sequence[Image], seed: int) -> Frames:
    """The focal length grows to twice its value over the clip."""
    height, width = images[0].shape[:2]
    zoom = np.linspace(1, 2, len(images))
    maps = [cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, float(z)) for z in zoom]
    grown = [cv2.warpAffine(i, m, (width, height)) for i, m in zip(images, maps, strict=True)]
    return [np.asarray(image, np.uint8) for image in grown], list(range(len(images)))


def _frozen(images: Sequence[Image], seed: int) -> Frames:
    """The middle third stands still, then the clip jumps on."""
    count = len(images)
    kept = [count // 3 if count // 3 <= i < 2 * count // 3 else i for i in range(count)]
    return [images[i] for i in kept], kept


def _spliced(images: Sequence[Image], seed: int) -> Frames:
    """The second half is mirrored: it shows another world, as after an unnoticed cut."""
    half = len(images) // 2
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images[half:]]
    return [*images[:half], *mirrored], list(range(len(images)))


DAMAGES: dict[str, Callable[[Sequence[Image], int], Frames]] = {
    "none": _as_is,
    "fast": _fast,
    "backwards": _backwards,
    "cropped": _cropped,
    "noisy": _noisy,
    "zoomed": _zoomed,
    "frozen": _frozen,
    "spliced": _spliced,
}
