"""Numba kernels: Gaussians in space to splats on images, eight at a time.

The formulas are those of :mod:`sage_core.splatting._projection`, which autograd differentiates in the
tests. A Gaussian is a lane: vectors and matrices are tuples of lanes, a camera's are tuples of numbers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from sage_core.splatting._lane_access import column, put, select, some, whole
from sage_core.splatting._lanes import LANES
from sage_core.splatting._numba import kernel, parallel_kernel

BLOCK = 1024
"""Gaussians that are one thread's work, a multiple of the lanes: so that no sum depends on the threads."""

SPLAT = 8
X, Y, XX, XY, YY, OPACITY, DEPTH, REACH = range(SPLAT)
"""Columns of a splat: centre (px), inverse covariance (px^-2), opacity, z, and the exponent at which it
is too faint to be drawn. A splat's gradient has the same, the last unused, then the colours'."""
COLOUR = SPLAT

PINHOLE = 8
FX, FY, CX, CY, LEFT, RIGHT, TOP, BOTTOM = range(PINHOLE)
"""Columns of a pinhole: focal lengths and centre (px), and the bounds of x/z and y/z in the Jacobian."""


@parallel_kernel  # type: ignore[untyped-decorator]
def project(
    means: Any,
    scales: Any,
    quats: Any,
    opacities: Any,
    poses: Any,
    pinholes: Any,
    size: tuple[int, int],
    limits: Any,
) -> tuple[Any, Any]:
    """Splats [C, N, 8] and their boxes int32 [C, N, 4].

    A box holds the pixels whose centres may be reached: first and one past the last column, first and
    one past the last row. It is empty for what is not seen: outside, too faint, or not finite.

    Args:
        opacities: [N, 1].
        poses: [C, 12] ``cam_from_world``, row by row.
        pinholes: [C, 8], see above.
        size: width and height of the images.
        limits: near, far, what is added to the covariance (px^2), smallest alpha that is drawn.
    """
    count = means.shape[0]
    splats = np.empty((poses.shape[0], count, SPLAT), means.dtype)
    boxes = np.zeros((poses.shape[0], count, 4), np.int32)
    for block in prange((count + BLOCK - 1) // BLOCK):
        for start in range(block * BLOCK, min(block * BLOCK + BLOCK, count), LANES):
            opacity = column(opacities, start, count, 0)
            reach = math.log(opacity / limits[3])
            if not some(reach > 0):
                continue
            mean, axes = (
                vector(means, start),
                axes_of(vector(scales, start), unit(quaternion(quats, start))[0]),
            )
            for camera in range(poses.shape[0]):
                splat, box, seen = _splat(
                    mean,
                    axes,
                    reach,
                    numbers12(poses, camera),
                    numbers8(pinholes, camera),
                    size,
                    limits,
                )
                if some(seen):
                    _put_splat(splats[camera], start, splat, opacity, reach)
                    _put_box(boxes[camera], start, box, seen)
    return splats, boxes


@kernel  # type: ignore[untyped-decorator]
def _splat(
    mean: Any,
    axes: Any,
    reach: Any,
    pose: Any,
    pinhole: Any,
    size: tuple[int, int],
    limits: Any,
) -> tuple[Any, Any, Any]:
    """Centre, inverse covariance and z; the box as numbers with a point; and whether there is one."""
    x, y, z = place(pose, mean)
    a, b = image_axes(pose, pinhole, axes, x / z, y / z, z)
    xx, xy, yy = dot(a, a) + limits[2], dot(a, b), dot(b, b) + limits[2]
    determinant = xx * yy - xy * xy
    u, v = pinhole[FX] * x / z + pinhole[CX], pinhole[FY] * y / z + pinhole[CY]
    seen = (reach > 0) & (z > limits[0]) & (z < limits[1])
    seen = seen & (determinant > 0) & (determinant < math.inf)
    seen = seen & (u + v > -math.inf) & (u + v < math.inf)
    left, right = _interval(u, math.sqrt((reach + reach) * xx), size[0])
    top, bottom = _interval(v, math.sqrt((reach + reach) * yy), size[1])
    splat = (u, v, yy / determinant, -xy / determinant, xx / determinant, z)
    return splat, (left, right, top, bottom), seen


@kernel  # type: ignore[untyped-decorator]
def _put_splat(splats: Any, start: int, splat: Any, opacity: Any, reach: Any) -> None:
    count = splats.shape[0]
    put(splats, start, count, X, splat[0])
    put(splats, start, count, Y, splat[1])
    put(splats, start, count, XX, splat[2])
    put(splats, start, count, XY, splat[3])
    put(splats, start, count, YY, splat[4])
    put(splats, start, count, OPACITY, opacity)
    put(splats, start, count, DEPTH, splat[5])
    put(splats, start, count, REACH, reach)


@kernel  # type: ignore[untyped-decorator]
def _put_box(boxes: Any, start: int, box: Any, seen: Any) -> None:
    count = boxes.shape[0]
    put(boxes, start, count, 0, whole(select(seen, box[0], 0)))
    put(boxes, start, count, 1, whole(select(seen, box[1], 0)))
    put(boxes, start, count, 2, whole(select(seen, box[2], 0)))
    put(boxes, start, count, 3, whole(select(seen, box[3], 0)))


@kernel  # type: ignore[untyped-decorator]
def _interval(centre: Any, extent: Any, size: int) -> tuple[Any, Any]:
    """First and one past the last pixel with its centre (+0.5) within ``extent``, cut to the image."""
    low = math.ceil(max(centre - extent - 0.5, 0))
    high = math.floor(min(centre + extent - 0.5, size - 1))
    return min(low, size), max(high + 1, 0)


@kernel  # type: ignore[untyped-decorator]
def vector(table: Any, start: int) -> tuple[Any, Any, Any]:
    """Rows of a table [N, 3]."""
    count = table.shape[0]
    return (
        column(table, start, count, 0),
        column(table, start, count, 1),
        column(table, start, count, 2),
    )


@kernel  # type: ignore[untyped-decorator]
def quaternion(table: Any, start: int) -> tuple[Any, Any, Any, Any]:
    """Rows of a table [N, 4]."""
    count = table.shape[0]
    return (
        column(table, start, count, 0),
        column(table, start, count, 1),
        column(table, start, count, 2),
        column(table, start, count, 3),
    )


@kernel  # type: ignore[untyped-decorator]
def numbers8(table: Any, row: int) -> Any:
    """A row of eight numbers: a pinhole."""
    t = table[row]
    return t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7]


@kernel  # type: ignore[untyped-decorator]
def numbers12(table: Any, row: int) -> Any:
    """A row of twelve numbers: a pose, as three rows of four."""
    t = table[row]
    return (t[0], t[1], t[2], t[3]), (t[4], t[5], t[6], t[7]), (t[8], t[9], t[10], t[11])


@kernel  # type: ignore[untyped-decorator]
def place(pose: Any, mean: Any) -> tuple[Any, Any, Any]:
    """The centre in the camera."""
    return (
        dot(pose[0], mean) + pose[0][3],
        dot(pose[1], mean) + pose[1][3],
        dot(pose[2], mean) + pose[2][3],
    )


@kernel  # type: ignore[untyped-decorator]
def image_axes(
    pose: Any, pinhole: Any, axes: Any, ray_x: Any, ray_y: Any, z: Any
) -> tuple[Any, Any]:
    """Rows of J · R · Q · S [2, 3]: how far a step along each of the Gaussian's axes moves on the image."""
    ray_x = min(max(ray_x, pinhole[LEFT]), pinhole[RIGHT])
    ray_y = min(max(ray_y, pinhole[TOP]), pinhole[BOTTOM])
    far = turned(pose[2], axes)
    along_x, along_y = pinhole[FX] / z, pinhole[FY] / z
    return (
        plus(along_x, turned(pose[0], axes), -along_x * ray_x, far),
        plus(along_y, turned(pose[1], axes), -along_y * ray_y, far),
    )


@kernel  # type: ignore[untyped-decorator]
def turned(row: Any, axes: Any) -> tuple[Any, Any, Any]:
    """A row of a rotation times the axes."""
    return (
        row[0] * axes[0][0] + row[1] * axes[1][0] + row[2] * axes[2][0],
        row[0] * axes[0][1] + row[1] * axes[1][1] + row[2] * axes[2][1],
        row[0] * axes[0][2] + row[1] * axes[1][2] + row[2] * axes[2][2],
    )


@kernel  # type: ignore[untyped-decorator]
def dot(a: Any, b: Any) -> Any:
    """Product of the first three."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel  # type: ignore[untyped-decorator]
def plus(p: Any, a: Any, q: Any, b: Any) -> tuple[Any, Any, Any]:
    """Weighted sum of two vectors."""
    return p * a[0] + q * b[0], p * a[1] + q * b[1], p * a[2] + q * b[2]


@kernel  # type: ignore[untyped-decorator]
def axes_of(scale: Any, turn: Any) -> tuple[Any, Any, Any]:
    """Q · S, row by row, of standard deviations and a unit quaternion: the Gaussian's axes as columns."""
    a, b, c = rotation(turn)
    return (
        (a[0] * scale[0], a[1] * scale[1], a[2] * scale[2]),
        (b[0] * scale[0], b[1] * scale[1], b[2] * scale[2]),
        (c[0] * scale[0], c[1] * scale[1], c[2] * scale[2]),
    )


@kernel  # type: ignore[untyped-decorator]
def unit(quat: Any) -> tuple[Any, Any]:
    """The quaternion at length 1, and its own length."""
    w, x, y, z = quat
    length = max(math.sqrt(w * w + x * x + y * y + z * z), 1e-12)
    return (w / length, x / length, y / length, z / length), length


@kernel  # type: ignore[untyped-decorator]
def rotation(turn: Any) -> tuple[Any, Any, Any]:
    """Rows of the rotation of a unit quaternion."""
    w, x, y, z = turn
    return (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
