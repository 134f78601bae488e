"""Frames damaged in known ways, and which sound picture each damaged one shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]
_MIRROR = np.diag([-1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Shown:
    """What a damaged picture shows: a sound frame, perhaps turned on the spot [3, 3], or mirrored."""

    frame: int
    turn: Array | None = None
    mirrored: bool = False

    def pose(self, sound: Array) -> Array:
        """``cam_from_world`` [3, 4] of the damaged picture, by that of the sound one.

        A mirrored picture is a true one of the mirrored world: M R M, M t with M = diag(-1, 1, 1).
        """
        if self.mirrored:
            return np.concatenate([_MIRROR @ sound[:, :3] @ _MIRROR, _MIRROR @ sound[:, 3:]], 1)
        return sound if self.turn is None else self.turn @ sound


Damaged = tuple[list[Image], list[Shown]]
Damage = Callable[[Sequence[Image], float, int], Damaged]
"""From pictures, their focal length in pixels, and a seed."""


def _of(images: Sequence[Image], frames: Sequence[int]) -> Damaged:
    return [images[i] for i in frames], [Shown(i) for i in frames]


def _each(images: Sequence[Image], changed: Sequence[npt.NDArray[np.generic]]) -> Damaged:
    return [np.ascontiguousarray(i, np.uint8) for i in changed], [
        Shown(i) for i in range(len(images))
    ]


def as_is(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """Nothing."""
    return _of(images, range(len(images)))


def fast(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """Three times as fast."""
    return _of(images, range(0, len(images), 3))


def brisk(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """Half as fast again: every third frame is missing."""
    return _of(images, [i for i in range(len(images)) if i % 3 != 2])


def backwards(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """From the end to the beginning."""
    return _of(images, range(len(images))[::-1])


def cropped(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """The left three fifths: the principal point is far from the middle."""
    width = images[0].shape[1] * 3 // 5
    return _each(images, [image[:, :width] for image in images])


def cropped_evenly(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """The middle three quarters both ways."""
    height, width = images[0].shape[:2]
    y, x = height // 8, width // 8
    return _each(images, [image[y : height - y, x : width - x] for image in images])


def noisy(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """A sensor at night: standard deviation 30 of 255."""
    rng = np.random.default_rng(seed)
    grain = [image + rng.normal(0, 30, image.shape) for image in images]
    return _each(images, [np.clip(image, 0, 255) for image in grain])


def _grown(images: Sequence[Image], most: float) -> Damaged:
    height, width = images[0].shape[:2]
    zoom = np.linspace(1, most, len(images))
    maps = [cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), 0, float(z)) for z in zoom]
    grown = [cv2.warpAffine(i, m, (width, height)) for i, m in zip(images, maps, strict=True)]
    return _each(images, grown)


def zoomed(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """The focal length grows to twice its value over the clip."""
    return _grown(images, 2.0)


def zoomed_a_little(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """The focal length grows by a fifth."""
    return _grown(images, 1.2)


def frozen(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """The middle third stands still, then the clip jumps on."""
    count = len(images)
    still = range(count // 3, 2 * count // 3)
    return _of(images, [count // 3 if i in still else i for i in range(count)])


def spliced(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """The second half is mirrored: it shows another world, as after an unnoticed cut."""
    half = len(images) // 2
    mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images[half:]]
    shown = [Shown(i, mirrored=i >= half) for i in range(len(images))]
    return [*images[:half], *mirrored], shown


def crossed(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """Two spotted balls cross the picture, a tenth of it."""
    rng = np.random.default_rng(seed)
    height, width = images[0].shape[:2]
    radius = height // 5
    skin = cv2.resize(rng.integers(0, 255, (12, 12, 3), np.uint8), (2 * radius, 2 * radius))
    disc = np.hypot(*(np.mgrid[: 2 * radius, : 2 * radius] + 0.5 - radius)) < radius
    spoilt = []
    for part, image in zip(np.linspace(0, 1, len(images)), images, strict=True):
        picture = image.copy()
        for across, down in ((part, 0.35), (1 - part, 0.65)):
            left, top = round(across * (width - 2 * radius)), round(down * height) - radius
            place = picture[top : top + 2 * radius, left : left + 2 * radius]
            place[disc] = skin[disc]
        spoilt.append(picture)
    return _each(images, spoilt)


def turned_at_the_end(images: Sequence[Image], focal: float, seed: int) -> Damaged:
    """The camera stops and turns by 12 degrees in eight frames; all pictures lose their margins for it."""
    height, width = images[0].shape[:2]
    x, y = width // 5, height // 10
    turns = [_about_y(angle) for angle in np.radians(np.linspace(1.5, 12, 8))]
    K = np.array([[focal, 0, width / 2 - 0.5], [0, focal, height / 2 - 0.5], [0, 0, 1]])
    last = images[-1]
    on = [cv2.warpPerspective(last, K @ R @ np.linalg.inv(K), (width, height)) for R in turns]
    pictures = [
        np.ascontiguousarray(image[y : height - y, x : width - x], np.uint8)
        for image in [*images, *on]
    ]
    still = [Shown(i) for i in range(len(images))]
    return pictures, [*still, *(Shown(len(images) - 1, R) for R in turns)]


def _about_y(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


DAMAGES: dict[str, Damage] = {
    "none": as_is,
    "brisk": brisk,
    "fast": fast,
    "backwards": backwards,
    "cropped": cropped,
    "cropped evenly": cropped_evenly,
    "noisy": noisy,
    "zoomed": zoomed,
    "zoomed a little": zoomed_a_little,
    "frozen": frozen,
    "spliced": spliced,
    "crossed": crossed,
    "turned at the end": turned_at_the_end,
}
