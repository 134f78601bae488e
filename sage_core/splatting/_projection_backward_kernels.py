"""Numba kernels: from splats' gradients to those of Gaussians and cameras, eight Gaussians at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from sage_core.splatting._lane_access import column, load, put, select, some, spread, store, total
from sage_core.splatting._lanes import LANES
from sage_core.splatting._numba import inlined, kernel, parallel_kernel
from sage_core.splatting._projection_kernels import (
    BLOCK,
    BOTTOM,
    COLOUR,
    DEPTH,
    FX,
    FY,
    LEFT,
    OPACITY,
    REACH,
    RIGHT,
    TOP,
    XX,
    XY,
    YY,
    X,
    Y,
    axes_of,
    dot,
    image_axes,
    numbers8,
    numbers12,
    place,
    plus,
    quaternion,
    rotation,
    turned,
    unit,
    vector,
)

SPARE = REACH
"""A column of splats' gradients that is no gradient's."""
_Z = 5  # z among the six gradients that lead to the Gaussian

CAMERA = 16
"""A camera's gradient: [R | t] row by row (12), fx, fy, cx, cy."""


@parallel_kernel  # type: ignore[untyped-decorator]
def project_backward(
    means: Any,
    scales: Any,
    quats: Any,
    poses: Any,
    pinholes: Any,
    splats: Any,
    first: Any,
    parts: Any,
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Gradients of means, scales, quats, opacities, colours, and of cameras [C, 16].

    Args:
        splats: [C, N, 8] from the projection.
        first: [C · N + 1] where each splat's rows of ``parts`` begin, one for each tile that it touches.
        parts: [rows, 8 + D] what each tile adds to the gradient of the splat and of its colour.
    """
    count, cameras = means.shape[0], poses.shape[0]
    blocks = (count + BLOCK - 1) // BLOCK
    g_means, g_scales, g_quats = np.zeros_like(means), np.zeros_like(scales), np.zeros_like(quats)
    g_opacities = np.zeros(count, means.dtype)
    g_colours = np.zeros((count, parts.shape[1] - COLOUR), means.dtype)
    g_cameras = np.zeros((blocks, cameras, CAMERA), means.dtype)
    for block in prange(blocks):
        grads = np.empty((LANES, parts.shape[1]), means.dtype)
        lanes = np.zeros((cameras, CAMERA, LANES), means.dtype)
        for start in range(block * BLOCK, min(block * BLOCK + BLOCK, count), LANES):
            _gaussians_backward(
                start, means, scales, quats, poses, pinholes, splats, first, parts,
                grads, lanes, g_means, g_scales, g_quats, g_opacities, g_colours,
            )  # fmt: skip
        for camera in range(cameras):
            for number in range(CAMERA):
                g_cameras[block, camera, number] = total(load(lanes[camera, number], 0))
    total_cameras = np.zeros((cameras, CAMERA), means.dtype)
    for block in range(blocks):
        total_cameras += g_cameras[block]
    return g_means, g_scales, g_quats, g_opacities, g_colours, total_cameras


@kernel  # type: ignore[untyped-decorator]
def _gaussians_backward(
    start: int,
    means: Any,
    scales: Any,
    quats: Any,
    poses: Any,
    pinholes: Any,
    splats: Any,
    first: Any,
    parts: Any,
    grads: Any,
    g_cameras: Any,
    g_means: Any,
    g_scales: Any,
    g_quats: Any,
    g_opacities: Any,
    g_colours: Any,
) -> None:
    """Eight Gaussians. Lanes that a camera does not see may hold anything: it is not added."""
    count = means.shape[0]
    mean, scale = vector(means, start), vector(scales, start)
    turn, length = unit(quaternion(quats, start))
    axes = axes_of(scale, turn)
    zero = spread(means.dtype.type(0))
    nothing = (zero, zero, zero)
    g_mean, g_axes, ever = nothing, (nothing, nothing, nothing), zero > 0
    for camera in range(poses.shape[0]):
        base = camera * count
        places = first[base + start : base + min(start + LANES, count) + 1]
        _sum_parts(parts, places, grads, g_opacities[start:], g_colours[start:])
        seen = column(grads, 0, LANES, SPARE) > 0
        if not some(seen):
            continue
        ever = ever | seen
        pose, pinhole, own = numbers12(poses, camera), numbers8(pinholes, camera), splats[camera]
        conic = (
            column(own, start, count, XX),
            column(own, start, count, XY),
            column(own, start, count, YY),
        )
        grad = (
            column(grads, 0, LANES, X),
            column(grads, 0, LANES, Y),
            column(grads, 0, LANES, XX),
            column(grads, 0, LANES, XY),
            column(grads, 0, LANES, YY),
            column(grads, 0, LANES, DEPTH),
        )
        g_place, g_rows, g_pinhole = _splat_backward(mean, axes, pose, pinhole, conic, grad)
        g_mean = _added(seen, g_mean, _back(pose, g_place))
        g_axes = _axes_added(seen, g_axes, pose, g_rows)
        _camera_backward(seen, mean, axes, g_place, g_rows, g_pinhole, g_cameras[camera])
    if some(ever):
        g_quat, g_scale = _axes_backward(turn, length, scale, g_axes)
        _put(g_means, start, ever, g_mean[0], g_mean[1], g_mean[2])
        _put(g_scales, start, ever, g_scale[0], g_scale[1], g_scale[2])
        _put(g_quats, start, ever, g_quat[0], g_quat[1], g_quat[2])
        put(g_quats, start, count, 3, select(ever, g_quat[3], 0))


@inlined  # type: ignore[untyped-decorator]
def _sum_parts(parts: Any, first: Any, grads: Any, g_opacities: Any, g_colours: Any) -> None:
    """Add up the rows of eight splats; the spare column says whether there were any."""
    for lane in range(LANES):
        start, end = first[min(lane, first.shape[0] - 1)], first[min(lane + 1, first.shape[0] - 1)]
        summed = spread(parts.dtype.type(0))
        for row in range(start, end):
            summed += load(parts[row], 0)
        store(grads[lane], 0, summed)
        grads[lane, SPARE] = end - start
        if start == end:
            continue
        g_opacities[lane] += grads[lane, OPACITY]
        for row in range(start, end):
            for channel in range(g_colours.shape[1]):
                g_colours[lane, channel] += parts[row, COLOUR + channel]


@kernel  # type: ignore[untyped-decorator]
def _back(pose: Any, vector: Any) -> tuple[Any, Any, Any]:
    """The rotation's transpose times a vector in the camera."""
    a, b, c = pose
    return (
        a[0] * vector[0] + b[0] * vector[1] + c[0] * vector[2],
        a[1] * vector[0] + b[1] * vector[1] + c[1] * vector[2],
        a[2] * vector[0] + b[2] * vector[1] + c[2] * vector[2],
    )


@kernel  # type: ignore[untyped-decorator]
def _added(seen: Any, vector: Any, more: Any) -> tuple[Any, Any, Any]:
    return (
        vector[0] + select(seen, more[0], 0),
        vector[1] + select(seen, more[1], 0),
        vector[2] + select(seen, more[2], 0),
    )


@kernel  # type: ignore[untyped-decorator]
def _axes_added(seen: Any, g_axes: Any, pose: Any, rows: Any) -> tuple[Any, Any, Any]:
    """The rotation's transpose times three rows, added."""
    x = _back(pose, (rows[0][0], rows[1][0], rows[2][0]))
    y = _back(pose, (rows[0][1], rows[1][1], rows[2][1]))
    z = _back(pose, (rows[0][2], rows[1][2], rows[2][2]))
    return (
        _added(seen, g_axes[0], (x[0], y[0], z[0])),
        _added(seen, g_axes[1], (x[1], y[1], z[1])),
        _added(seen, g_axes[2], (x[2], y[2], z[2])),
    )


@kernel  # type: ignore[untyped-decorator]
def _splat_backward(
    mean: Any, axes: Any, pose: Any, pinhole: Any, conic: Any, grad: Any
) -> tuple[Any, Any, Any]:
    """Gradients of the centre in the camera, of the rotation times the axes, and of the pinhole."""
    x, y, z = place(pose, mean)
    a, b = image_axes(pose, pinhole, axes, x / z, y / z, z)
    g_a, g_b = _covariance_backward(conic, grad, a, b)
    far = turned(pose[2], axes)
    across, bent_x, z_x, focal_x, centre_x = _ray_backward(
        grad[X], g_a, a, far, x / z, z, pinhole[FX], pinhole[LEFT], pinhole[RIGHT]
    )
    down, bent_y, z_y, focal_y, centre_y = _ray_backward(
        grad[Y], g_b, b, far, y / z, z, pinhole[FY], pinhole[TOP], pinhole[BOTTOM]
    )
    along_x, along_y = pinhole[FX] / z, pinhole[FY] / z
    g_rows = (
        (along_x * g_a[0], along_x * g_a[1], along_x * g_a[2]),
        (along_y * g_b[0], along_y * g_b[1], along_y * g_b[2]),
        plus(-along_x * bent_x, g_a, -along_y * bent_y, g_b),
    )
    g_pinhole = (focal_x, focal_y, centre_x, centre_y)
    return (across, down, grad[_Z] + z_x + z_y), g_rows, g_pinhole


@kernel  # type: ignore[untyped-decorator]
def _covariance_backward(conic: Any, grad: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """From the inverse covariance P to the image axes a and b: H = -P G P, then 2 H · (a, b)."""
    xx, xy, yy = conic
    g_xx, g_xy, g_yy = grad[XX] + grad[XX], grad[XY], grad[YY] + grad[YY]  # 2 G
    p, q = xx * g_xx + xy * g_xy, xx * g_xy + xy * g_yy
    r, s = xy * g_xx + yy * g_xy, xy * g_xy + yy * g_yy
    h_xx, h_xy, h_yy = -(p * xx + q * xy), -(p * xy + q * yy), -(r * xy + s * yy)
    return plus(h_xx, a, h_xy, b), plus(h_xy, a, h_yy, b)


@kernel  # type: ignore[untyped-decorator]
def _ray_backward(
    g_pixel: Any,
    g_row: Any,
    row: Any,
    far: Any,
    ray: Any,
    z: Any,
    focal: Any,
    low: Any,
    high: Any,
) -> tuple[Any, Any, Any, Any, Any]:
    """One image axis: gradient of the coordinate, the bent ray, gradients of z, focal length, centre."""
    along, pull = focal / z, dot(g_row, row)
    bent = min(max(ray, low), high)
    g_ray = -along * dot(g_row, far)
    free = (ray >= low) & (ray <= high)
    inside, outside = (
        select(free, g_ray, 0),
        select(free, 0, g_ray),
    )  # the bounds move with the pinhole
    g_across = g_pixel * along + inside / z
    g_z = -pull / z - g_across * ray
    g_focal = pull / focal + g_pixel * ray - outside * bent / focal
    return g_across, bent, g_z, g_focal, g_pixel - outside / focal


@kernel  # type: ignore[untyped-decorator]
def _camera_backward(
    seen: Any, mean: Any, axes: Any, g_place: Any, g_rows: Any, g_pinhole: Any, lanes: Any
) -> None:
    """Add to a camera's gradient [16, 8], lane by lane."""
    for row in range(3):
        _add(lanes[4 * row], seen, dot(g_rows[row], axes[0]) + g_place[row] * mean[0])
        _add(lanes[4 * row + 1], seen, dot(g_rows[row], axes[1]) + g_place[row] * mean[1])
        _add(lanes[4 * row + 2], seen, dot(g_rows[row], axes[2]) + g_place[row] * mean[2])
        _add(lanes[4 * row + 3], seen, g_place[row])
    for number in range(4):
        _add(lanes[12 + number], seen, g_pinhole[number])


@inlined  # type: ignore[untyped-decorator]
def _add(lanes: Any, seen: Any, value: Any) -> None:
    store(lanes, 0, load(lanes, 0) + select(seen, value, 0))


@kernel  # type: ignore[untyped-decorator]
def _axes_backward(turn: Any, length: Any, scale: Any, g: Any) -> tuple[Any, Any]:
    """From Q · S to the quaternion, not of length 1, and the standard deviations."""
    a, b, c = rotation(turn)
    g_scale = (
        g[0][0] * a[0] + g[1][0] * b[0] + g[2][0] * c[0],
        g[0][1] * a[1] + g[1][1] * b[1] + g[2][1] * c[1],
        g[0][2] * a[2] + g[1][2] * b[2] + g[2][2] * c[2],
    )
    x_x, y_x, z_x = g[0][0] * scale[0], g[1][0] * scale[0], g[2][0] * scale[0]
    x_y, y_y, z_y = g[0][1] * scale[1], g[1][1] * scale[1], g[2][1] * scale[1]
    x_z, y_z, z_z = g[0][2] * scale[2], g[1][2] * scale[2], g[2][2] * scale[2]
    w, x, y, z = turn
    sum_xy, sum_xz, sum_yz = x_y + y_x, x_z + z_x, y_z + z_y
    turn_x, turn_y, turn_z = z_y - y_z, x_z - z_x, y_x - x_y
    g_w = 2 * (x * turn_x + y * turn_y + z * turn_z)
    g_x = 2 * (w * turn_x + y * sum_xy + z * sum_xz - 2 * x * (y_y + z_z))
    g_y = 2 * (w * turn_y + x * sum_xy + z * sum_yz - 2 * y * (x_x + z_z))
    g_z = 2 * (w * turn_z + x * sum_xz + y * sum_yz - 2 * z * (x_x + y_y))
    along = w * g_w + x * g_x + y * g_y + z * g_z
    g_quat = (
        (g_w - w * along) / length,
        (g_x - x * along) / length,
        (g_y - y * along) / length,
        (g_z - z * along) / length,
    )
    return g_quat, g_scale


@inlined  # type: ignore[untyped-decorator]
def _put(table: Any, start: int, seen: Any, a: Any, b: Any, c: Any) -> None:
    count = table.shape[0]
    put(table, start, count, 0, select(seen, a, 0))
    put(table, start, count, 1, select(seen, b, 0))
    put(table, start, count, 2, select(seen, c, 0))
