"""How MV-DUSt3R's authors cut scenes into tuples of views: overlap of point clouds, growth, order at test.

SAGE's own tuples (:mod:`sage_core.evaluation.tuples`) are drawn otherwise; these rules are for who rebuilds
the published lists.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sage_core.errors import ConfigError
from sage_core.evaluation.datasets import Scene
from sage_core.evaluation.metrics import tree
from sage_core.geometry import invert, pixel_centres, transform, unproject

SQUARED_RADIUS = 0.015
"""m² for each pixel of stride in the depth map; met by a *squared* distance, as in the published code."""
SCANNET_STRIDE, SCANNETPP_STRIDE = 3, 9
_FEW_INPUTS = 12
TARGET_COVER = 0.95
"""Share of a rendered view's points that the inputs so far must have nearby."""
_TRIES_A_SLOT, _TRIES_A_TUPLE = 1000, 100_000
_ASKED = 3
Array = npt.NDArray[np.float64]


def cover(a: npt.ArrayLike, b: npt.ArrayLike, stride: int = SCANNET_STRIDE) -> float:
    """Share of the points b [M, 3] that have one of a [N, 3] nearby, in metres.

    Nearby means ``0 < min ‖a − b‖² < 0.015 · stride``: at ScanNet's stride within 21 cm, and not the very
    same point.
    """
    distance, _ = tree(np.asarray(a, np.float64)).query(np.asarray(b, np.float64))
    squared = np.square(distance)
    return float(((squared > 0) & (squared < SQUARED_RADIUS * stride)).mean())


def cover_score(a: npt.ArrayLike, b: npt.ArrayLike, stride: int = SCANNET_STRIDE) -> float:
    """Overlap of two clouds: the mean of :func:`cover` both ways."""
    return (cover(a, b, stride) + cover(b, a, stride)) / 2


def joins(scores: Sequence[float], low: float, high: float) -> bool:
    """Whether a frame with these overlaps with the inputs so far becomes the next input.

    It does when it overlaps exactly one: the largest lies within the band, the second largest is not
    above its lower end.
    """
    ordered = sorted(scores, reverse=True)
    return low <= ordered[0] <= high and (len(ordered) == 1 or ordered[1] <= low)


def order_at_test(total: int, rendered: int) -> list[int]:
    """Which record stands at which place of a test tuple's inputs; the first is the reference view.

    Args:
        total: views of the tuple, inputs and rendered ones.
        rendered: those of them that are only rendered; they come after the inputs, in their own order.

    Raises:
        ConfigError: counts for which the published rule would put a rendered view among the inputs.
    """
    inputs = total - rendered
    order = list(range(inputs))
    for a, b in _swaps(inputs, total):
        if b >= inputs:
            raise ConfigError(
                f"the published order at test is not defined for {inputs} inputs of {total} views: it "
                f"would exchange the views {a} and {b}"
            )
        order[a], order[b] = order[b], order[a]
    return order


def _swaps(inputs: int, total: int) -> list[tuple[int, int]]:
    if inputs >= _FEW_INPUTS:
        return [(0, 1), *((k, k * inputs // 4 + 1) for k in (1, 2, 3))]
    return [(0, 1), *([(1, 3)] if total > 3 else []), *([(2, 6)] if total > 6 else [])]


@dataclass
class Clouds:
    """The clouds of a scene's frames in the world frame, made when they are asked for, and their overlaps.

    Depth is thinned by ``stride``. Of the points whose neighbours are looked for, every third row and
    column is asked, which the published code does not: shares are estimated from a ninth of them.
    """

    scene: Scene
    stride: int = SCANNET_STRIDE
    _points: dict[int, Array] = field(default_factory=dict)
    _trees: dict[int, Any] = field(default_factory=dict)
    _near: dict[tuple[int, int], npt.NDArray[np.uint8]] = field(default_factory=dict)

    def score(self, a: int, b: int) -> float:
        """:func:`cover_score` of two frames."""
        return (self.cover([a], b) + self.cover([b], a)) / 2

    def cover(self, inputs: Sequence[int], frame: int) -> float:
        """Share of a frame's points that one of the inputs has nearby."""
        near = np.bitwise_or.reduce([self._nearby(i, frame) for i in inputs])
        return float(np.bitwise_count(near).sum()) / len(self._asked(frame))

    def _nearby(self, a: int, frame: int) -> npt.NDArray[np.uint8]:
        """For each asked point of a frame whether cloud a has one nearby, packed into bits."""
        if (a, frame) not in self._near:
            limit = SQUARED_RADIUS * self.stride
            distance, _ = self._tree(a).query(
                self._asked(frame), distance_upper_bound=2 * np.sqrt(limit)
            )
            squared = np.square(distance)
            self._near[a, frame] = np.packbits((squared > 0) & (squared < limit))
        return self._near[a, frame]

    @cached_property
    def usable(self) -> list[int]:
        """Places of frames that have depth."""
        return [place for place in range(len(self.scene)) if len(self._cloud(place))]

    def _tree(self, place: int) -> Any:
        if place not in self._trees:
            self._trees[place] = tree(self._cloud(place))
        return self._trees[place]

    def _asked(self, place: int) -> Array:
        return self._cloud(place)[:: _ASKED * _ASKED]

    def _cloud(self, place: int) -> Array:
        if place not in self._points:
            frame = self.scene.frames[place]
            depth = self.scene.depth(place)
            grid = pixel_centres(depth.shape[1], depth.shape[0])[:: self.stride, :: self.stride]
            thin = depth[:: self.stride, :: self.stride]
            camera = unproject(frame.intrinsics, grid[thin > 0], thin[thin > 0])
            self._points[place] = transform(invert(frame.cam_from_world), camera)
        return self._points[place]


def grow(
    clouds: Clouds, views: int, targets: int, band: tuple[float, float], rng: np.random.Generator
) -> tuple[list[int], list[int]] | None:
    """One tuple by the published rule: places of inputs and of rendered views, or None if none is found.

    A random unused frame becomes the next input if it overlaps exactly one earlier input (:func:`joins`);
    rendered view i if the first 4(i+1) inputs hold 95 % of its points nearby.
    """
    tests = 0
    while tests < _TRIES_A_TUPLE:
        inputs = [int(rng.choice(clouds.usable))] if clouds.usable else []
        rendered: list[int] = []
        for slot in range(1, views + targets):
            found, used = _fill(clouds, inputs, rendered, slot - views, band, rng)
            tests += used
            if found is None:
                break
            (inputs if slot < views else rendered).append(found)
        if len(inputs) == views and len(rendered) == targets:
            return inputs, rendered
        if len(clouds.usable) < views + targets:
            return None
    return None


def _fill(
    clouds: Clouds,
    inputs: list[int],
    rendered: list[int],
    target: int,
    band: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int | None, int]:
    """A frame for the next slot (an input where ``target`` is below 0), and how many were tried.

    Each unused frame is tried once: to draw one again would give the same answer.
    """
    unused = np.array(sorted(set(clouds.usable) - set(inputs) - set(rendered)))
    order = rng.permutation(unused)[:_TRIES_A_SLOT]
    for tried, place in enumerate(order.tolist(), start=1):
        if target < 0:
            good = joins([clouds.score(i, place) for i in inputs], *band)
        else:
            good = clouds.cover(inputs[: 4 * (target + 1)], place) > TARGET_COVER
        if good:
            return place, tried
    return None, max(len(order), 1)
