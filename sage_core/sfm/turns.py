"""Whether a camera that stays where it is would see the same: one lens, for each pair a turn and a zoom.

A turn on the spot moves the picture by K R K^-1, a plane seen by a travelling camera by
K (R + t n^T / d) K^-1 (Hartley and Zisserman 2004, 13.1): both are homographies, so that one homography for
each pair does not tell them apart. Here all pairs share one focal length, and each has a rotation and a
ratio of focal lengths: four numbers for the eight of a homography. They explain neither depth nor a plane
passed at a slant, whose picture is sheared. What they explain is a turn, a zoom, or a plane faced squarely
(a shift is a turn seen by an endless focal length, an approach is a zoom), from none of which depth or the
lens could be told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FOCAL_RATIOS = (0.25, 10.0)
"""Lenses that are tried: focal length over long side."""
_LENSES_FIRST = 9
_TOLERANCE = 0.01
"""Of the logarithm of the focal length."""
_MATCHES = 40
"""Of a pair at most: its median needs no more."""
_STEPS = 5
_QUANTILE = 0.75
"""Over pairs: a few are verified wrongly, and a camera may turn for a while in a clip with depth."""


@dataclass(frozen=True)
class Matched:
    """Verified matches of one pair: float [M, 2] each, pixels from the middle of its picture.

    Attributes:
        long_sides: of both pictures, in pixels.
    """

    first: Floats
    second: Floats
    long_sides: tuple[int, int]


def rotation_residual_px(pairs: Sequence[Matched]) -> float | None:
    """Distance in pixels between matches that turns and zooms leave, for the lens that leaves least.

    Of each pair the median counts, of the pairs the third quartile. None without pairs.
    """
    from scipy.optimize import minimize_scalar

    if not pairs:
        return None
    points = _Points.of(pairs)
    lowest, highest = np.log(FOCAL_RATIOS)
    lenses = np.linspace(lowest, highest, _LENSES_FIRST)
    left = [points.residual(lens) for lens in lenses]
    best = int(np.argmin(left))
    around = lenses[max(best - 1, 0)], lenses[min(best + 1, _LENSES_FIRST - 1)]
    finer = minimize_scalar(
        points.residual, bounds=around, method="bounded", options={"xatol": _TOLERANCE}
    )
    return float(min(left[best], finer.fun))


@dataclass(frozen=True)
class _Points:
    """Matches of P pairs, M of each: ``a``, ``b`` [P, M, 2] over the long sides; ``long_side`` [P] of b's."""

    a: Floats
    b: Floats
    long_side: Floats

    @classmethod
    def of(cls, pairs: Sequence[Matched]) -> _Points:
        """Evenly over each pair's matches; those of a pair with fewer come more than once."""
        chosen = [np.linspace(0, len(p.first) - 1, _MATCHES).round().astype(int) for p in pairs]
        a = [p.first[c] / p.long_sides[0] for p, c in zip(pairs, chosen, strict=True)]
        b = [p.second[c] / p.long_sides[1] for p, c in zip(pairs, chosen, strict=True)]
        return cls(np.stack(a), np.stack(b), np.array([float(p.long_sides[1]) for p in pairs]))

    def residual(self, log_focal: float) -> float:
        """In pixels, for that logarithm of the focal length over the long side."""
        left = np.median(self._left(float(np.exp(log_focal))), axis=1) * self.long_side
        return float(np.quantile(left, _QUANTILE))

    def _left(self, focal: float) -> Floats:
        """Distances [P, M] after each pair's best rotation and zoom (Gauss-Newton, Cauchy's weights)."""
        from scipy.spatial.transform import Rotation

        rays = _rays(self.a, focal)
        turn, zoom = _closest_rotations(rays, _rays(self.b, focal)), np.ones(len(rays))
        for _ in range(_STEPS):
            seen, moved = _seen(rays, turn, zoom * focal)
            left = self.b - seen
            step = _step(left, seen, moved, zoom * focal)
            turn = Rotation.from_rotvec(step[:, :3]).as_matrix() @ turn
            zoom = np.clip(zoom * np.exp(np.clip(step[:, 3], -1, 1)), 0.25, 4.0)
        seen, _ = _seen(rays, turn, zoom * focal)
        return np.asarray(np.linalg.norm(self.b - seen, axis=-1))


def _rays(points: Floats, focal: float) -> Floats:
    return np.concatenate([points / focal, np.ones_like(points[..., :1])], axis=-1)


def _closest_rotations(rays: Floats, onto: Floats) -> Floats:
    """[P, 3, 3] that turn unit rays nearest to others (Kabsch 1976)."""
    unit, target = (r / np.linalg.norm(r, axis=-1, keepdims=True) for r in (rays, onto))
    u, _, vt = np.linalg.svd(np.swapaxes(target, 1, 2) @ unit)
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vt))[:, None]
    return np.asarray(u @ vt)


def _seen(rays: Floats, turn: Floats, focal: Floats) -> tuple[Floats, Floats]:
    """Where turned rays are seen [P, M, 2], and these rays themselves [P, M, 3] at depth 1."""
    moved = rays @ np.swapaxes(turn, 1, 2)
    moved = moved / np.maximum(
        moved[..., 2:], 1e-3
    )  # what is turned behind the camera lies far outside
    return focal[:, None, None] * moved[..., :2], moved


def _step(left: Floats, seen: Floats, moved: Floats, focal: Floats) -> Floats:
    """[P, 4]: a small rotation, and a change of the logarithm of the focal length."""
    x, y = moved[..., 0], moved[..., 1]
    one = np.ones_like(x)
    along_x = np.stack([-x * y, one + x * x, -y], -1) * focal[:, None, None]
    along_y = np.stack([-one - y * y, x * y, x], -1) * focal[:, None, None]
    slope = np.concatenate([np.stack([along_x, along_y], -2), seen[..., None]], -1)
    off = np.linalg.norm(left, axis=-1)
    scale = 2 * np.median(off, axis=1, keepdims=True) + 1e-6
    weight = 1 / (1 + (off / scale) ** 2)
    weighted = slope * weight[..., None, None]
    normal = np.einsum("pmki,pmkj->pij", weighted, slope) + 1e-9 * np.eye(4)
    pull = np.einsum("pmki,pmk->pi", weighted, left)
    return np.asarray(np.linalg.solve(normal, pull[..., None])[..., 0])
