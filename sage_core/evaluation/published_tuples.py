"""How MV-DUSt3R's authors cut scenes into tuples of views: overlap of point clouds, growth, order at test.

SAGE's own tuples (:mod:`sage_core.evaluation.tuples`) are drawn otherwise; these rules are for who rebuilds
the published lists.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sage_core.errors import ConfigError

SQUARED_RADIUS = 0.015
"""m² for each pixel of stride in the depth map; met by a *squared* distance, as in the published code."""
SCANNET_STRIDE, SCANNETPP_STRIDE = 3, 9
_FEW_INPUTS = 12


def cover(a: npt.ArrayLike, b: npt.ArrayLike, stride: int = SCANNET_STRIDE) -> float:
    """Share of the points b [M, 3] that have one of a [N, 3] nearby, in metres.

    Nearby means ``0 < min ‖a − b‖² < 0.015 · stride``: at ScanNet's stride within 21 cm, and not the very
    same point.
    """
    from scipy.spatial import cKDTree

    distance, _ = cKDTree(np.asarray(a, np.float64)).query(np.asarray(b, np.float64))
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
