"""A clip's cameras and points, packed for the page's viewer.

The viewer's frame has z up and the box [-1, 1]³ around what is worth seeing: up is the mean of the
cameras' upward axes, and the far outliers that every sparse reconstruction has do not set the scale.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MAX_POINTS = 14_000
MAX_FRUSTA = 25
_LEVELS = 65_535
_REACH = 1.6
"""Points further from the middle than this many box halves are not drawn."""


@dataclass(frozen=True)
class Scene:
    """What the viewer draws, base64 of little-endian arrays.

    Attributes:
        points: uint16 [P, 3]; 0..65535 stands for -1.6..1.6.
        colours: uint8 [P, 3].
        path: float32 [N, 3], all camera centres in order of time.
        frusta: float32 [F, 12], some cameras: centre, right, down and forward axis.
        half_width, half_height: a frustum's half angles, as tangents.
        size: length of a drawn frustum.
        yaw: where the first look comes from, radians: from behind the mean camera.
        drawn, far: points in here, and points left out for being far away.
        total: points of the reconstruction.
        ordered: whether the path means anything (photo sets have none).
    """

    points: str
    colours: str
    path: str
    frusta: str
    half_width: float
    half_height: float
    size: float
    yaw: float
    drawn: int
    far: int
    total: int
    cameras: int
    ordered: bool = True

    def for_viewer(self) -> dict[str, Any]:
        names = ("points", "colours", "path", "frusta", "half_width", "half_height", "size", "yaw")
        return {name: getattr(self, name) for name in (*names, "ordered")}


def pack_scene(
    xyz: NDArray[Any],
    rgb: NDArray[np.uint8],
    cam_from_world: Floats,
    intrinsics: Floats,
    size_px: tuple[int, int],
    *,
    ordered: bool = True,
) -> Scene:
    """Pack one scene; deterministic.

    Args:
        xyz, rgb: [P, 3] points in the world frame, uint8 colours.
        cam_from_world: [N, 3, 4], OpenCV axes, in order of time, N >= 1.
        intrinsics: [3, 3] of any frame, pixels.
        size_px: width and height of that frame.
        ordered: False for photo sets.
    """
    points, centres, axes = upright(xyz, cam_from_world)
    middle, half = _box(points, centres)
    points, centres = (points - middle) / half, (centres - middle) / half
    near = np.abs(points).max(axis=1, initial=0.0) <= _REACH
    chosen = _thinned(np.flatnonzero(near))
    frusta = np.unique(np.linspace(0, len(centres) - 1, MAX_FRUSTA).round().astype(int))
    forward = axes[:, 2].mean(axis=0)
    return Scene(
        points=_base64(np.round((points[chosen] / _REACH + 1) / 2 * _LEVELS).astype("<u2")),
        colours=_base64(np.asarray(rgb, np.uint8).reshape(-1, 3)[chosen]),
        path=_base64(centres.astype("<f4")),
        frusta=_base64(
            np.concatenate([centres[frusta], axes[frusta].reshape(-1, 9)], 1).astype("<f4")
        ),
        half_width=float(size_px[0] / 2 / intrinsics[0, 0]),
        half_height=float(size_px[1] / 2 / intrinsics[1, 1]),
        size=_frustum_size(centres, len(frusta)),
        yaw=float(np.arctan2(forward[1], forward[0])),
        drawn=len(chosen),
        far=int((~near).sum()),
        total=len(points),
        cameras=len(centres),
        ordered=ordered,
    )


def upright(xyz: NDArray[Any], cam_from_world: Floats) -> tuple[Floats, Floats, Floats]:
    """Points [P, 3], camera centres [N, 3] and axes [N, 3, 3] (rows: right, down, ahead), with z up."""
    R = cam_from_world[:, :, :3]
    centres = -np.einsum("nji,nj->ni", R, cam_from_world[:, :, 3])
    turn = _upwards(R)
    # Rows of R are the camera's right, down and forward axes in the world.
    return np.asarray(xyz, np.float64).reshape(-1, 3) @ turn.T, centres @ turn.T, R @ turn.T


def _upwards(R: Floats) -> Floats:
    """The rotation [3, 3] that takes the cameras' mean upward axis to z."""
    up = -R[:, 1].mean(axis=0)
    if np.linalg.norm(up) < 1e-6:
        up = -R[0, 1]
    up = up / np.linalg.norm(up)
    helper = np.eye(3)[np.argmin(np.abs(up))]
    x = np.cross(helper, up)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(up, x), up])


def _box(points: Floats, centres: Floats) -> tuple[Floats, float]:
    """Middle, and half the side of a cube, of the cameras and the bulk of the points."""
    low, high = centres.min(axis=0), centres.max(axis=0)
    if len(points):
        bulk = np.percentile(points, [3, 97], axis=0)
        low, high = np.minimum(low, bulk[0]), np.maximum(high, bulk[1])
    half = float((high - low).max()) / 2
    return (low + high) / 2, half if half > 0 else 1.0


def _thinned(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    if len(rows) <= MAX_POINTS:
        return rows
    return np.sort(np.random.default_rng(0).permutation(rows)[:MAX_POINTS])


def _frustum_size(centres: Floats, drawn: int) -> float:
    """A little longer than the way between two drawn cameras, within reason."""
    travelled = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())
    return float(np.clip(travelled / max(1, drawn - 1), 0.04, 0.1))


def _base64(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
