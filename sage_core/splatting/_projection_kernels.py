"""Numba kernels: Gaussians in space to splats on images, and the gradients' way back.

The formulas are those of :mod:`sage_core.splatting._projection`, which autograd differentiates in the
tests. Gaussians are worked on in blocks of fixed size, so that no sum depends on the threads.

Arithmetic stays in the tensors' own precision: ``x + x`` and not ``2 * x``, since numba takes a whole
number times a float32 to float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from sage_core.splatting._numba import kernel, parallel_kernel

BLOCK = 1024

SPLAT = 8
X, Y, XX, XY, YY, OPACITY, DEPTH, REACH = range(SPLAT)
"""Columns of a splat: centre (px), inverse covariance (px^-2), opacity, z, and the exponent at which it
is too faint to be drawn. A splat's gradient has the same, the last unused, then the colours'."""
COLOUR = SPLAT

PINHOLE = 8
FX, FY, CX, CY, LEFT, RIGHT, TOP, BOTTOM = range(PINHOLE)
"""Columns of a pinhole: focal lengths and centre (px), and the bounds of x/z and y/z in the Jacobian."""

CAMERA = 16
"""A camera's gradient: [R | t] row by row (12), fx, fy, cx, cy."""


@parallel_kernel  # type: ignore[untyped-decorator]
def project(
    means: Any,
    scales: Any,
    quats: Any,
    opacities: Any,
    cameras: Any,
    pinholes: Any,
    size: tuple[int, int],
    limits: Any,
) -> tuple[Any, Any]:
    """Splats [C, N, 8] and their boxes int32 [C, N, 4].

    A box holds the pixels whose centres may be reached: first and one past the last column, first and
    one past the last row. It is empty for what is not seen: outside, too faint, or not finite.

    Args:
        cameras: [C, 3, 4] ``cam_from_world``.
        pinholes: [C, 8], see above.
        size: width and height of the images.
        limits: near, far, what is added to the covariance (px^2), smallest alpha that is drawn.
    """
    count = means.shape[0]
    splats = np.empty((cameras.shape[0], count, SPLAT), means.dtype)
    boxes = np.zeros((cameras.shape[0], count, 4), np.int32)
    for block in prange((count + BLOCK - 1) // BLOCK):
        axes = np.empty((3, 3), means.dtype)
        for i in range(block * BLOCK, min(block * BLOCK + BLOCK, count)):
            reach = math.log(opacities[i] / limits[3])
            if not reach > 0:
                continue
            _axes(quats[i], scales[i], axes)
            for camera in range(cameras.shape[0]):
                splat = splats[camera, i]
                splat[OPACITY], splat[REACH] = opacities[i], reach
                _splat(
                    means[i],
                    axes,
                    cameras[camera],
                    pinholes[camera],
                    size,
                    limits,
                    splat,
                    boxes[camera, i],
                )
    return splats, boxes


@kernel  # type: ignore[untyped-decorator]
def _splat(
    mean: Any,
    axes: Any,
    camera: Any,
    pinhole: Any,
    size: tuple[int, int],
    limits: Any,
    splat: Any,
    box: Any,
) -> None:
    """Fill in one splat and its box, which stays empty if it is not seen."""
    x, y, z = _place(camera, mean)
    if not (z > limits[0] and z < limits[1]):
        return
    a, b = _image_axes(camera, pinhole, axes, x / z, y / z, z)
    xx, xy, yy = _dot(a, a) + limits[2], _dot(a, b), _dot(b, b) + limits[2]
    determinant = xx * yy - xy * xy
    u = pinhole[FX] * x / z + pinhole[CX]
    v = pinhole[FY] * y / z + pinhole[CY]
    if not (determinant > 0 and math.isfinite(determinant) and math.isfinite(u + v)):
        return
    splat[X], splat[Y], splat[DEPTH] = u, v, z
    splat[XX], splat[XY], splat[YY] = yy / determinant, -xy / determinant, xx / determinant
    reach = splat[REACH] + splat[REACH]
    box[0], box[1] = _interval(u, math.sqrt(reach * xx), size[0])
    box[2], box[3] = _interval(v, math.sqrt(reach * yy), size[1])


@kernel  # type: ignore[untyped-decorator]
def _interval(centre: Any, extent: Any, size: int) -> tuple[int, int]:
    """First and one past the last pixel with its centre (+0.5) within ``extent``, cut to the image."""
    low = math.ceil(max(centre - extent - 0.5, 0.0))
    high = math.floor(min(centre + extent - 0.5, size - 1.0))
    return int(min(low, size)), int(max(high + 1, 0))


@kernel  # type: ignore[untyped-decorator]
def _place(camera: Any, mean: Any) -> tuple[Any, Any, Any]:
    """The centre in the camera."""
    return (
        camera[0, 0] * mean[0] + camera[0, 1] * mean[1] + camera[0, 2] * mean[2] + camera[0, 3],
        camera[1, 0] * mean[0] + camera[1, 1] * mean[1] + camera[1, 2] * mean[2] + camera[1, 3],
        camera[2, 0] * mean[0] + camera[2, 1] * mean[1] + camera[2, 2] * mean[2] + camera[2, 3],
    )


@kernel  # type: ignore[untyped-decorator]
def _image_axes(
    camera: Any, pinhole: Any, axes: Any, ray_x: Any, ray_y: Any, z: Any
) -> tuple[Any, Any]:
    """Rows of J · R · Q · S [2, 3]: how far a step along each of the Gaussian's axes moves on the image."""
    ray_x = min(max(ray_x, pinhole[LEFT]), pinhole[RIGHT])
    ray_y = min(max(ray_y, pinhole[TOP]), pinhole[BOTTOM])
    far = _turned(camera[2], axes)
    along_x, along_y = pinhole[FX] / z, pinhole[FY] / z
    return (
        _sum(along_x, _turned(camera[0], axes), -along_x * ray_x, far),
        _sum(along_y, _turned(camera[1], axes), -along_y * ray_y, far),
    )


@kernel  # type: ignore[untyped-decorator]
def _turned(row: Any, axes: Any) -> tuple[Any, Any, Any]:
    """A row of a rotation times the axes."""
    return (
        row[0] * axes[0, 0] + row[1] * axes[1, 0] + row[2] * axes[2, 0],
        row[0] * axes[0, 1] + row[1] * axes[1, 1] + row[2] * axes[2, 1],
        row[0] * axes[0, 2] + row[1] * axes[1, 2] + row[2] * axes[2, 2],
    )


@kernel  # type: ignore[untyped-decorator]
def _dot(a: Any, b: Any) -> Any:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@kernel  # type: ignore[untyped-decorator]
def _sum(p: Any, a: Any, q: Any, b: Any) -> tuple[Any, Any, Any]:
    """Weighted sum of two vectors."""
    return p * a[0] + q * b[0], p * a[1] + q * b[1], p * a[2] + q * b[2]


@kernel  # type: ignore[untyped-decorator]
def _axes(quat: Any, scale: Any, axes: Any) -> None:
    """Fill in Q · S: the Gaussian's axes as columns, as long as its standard deviations."""
    turn = _rotation(_unit(quat)[0], quat.dtype.type(2))
    for j in range(3):
        for k in range(3):
            axes[j, k] = turn[j][k] * scale[k]


@kernel  # type: ignore[untyped-decorator]
def _unit(quat: Any) -> tuple[Any, Any]:
    """The quaternion at length 1, and its own length."""
    w, x, y, z = quat[0], quat[1], quat[2], quat[3]
    length = max(math.sqrt(w * w + x * x + y * y + z * z), quat.dtype.type(1e-12))
    return (w / length, x / length, y / length, z / length), length


@kernel  # type: ignore[untyped-decorator]
def _rotation(unit: Any, two: Any) -> tuple[Any, Any, Any]:
    """Rows of the rotation of a unit quaternion; ``two`` is 2 in its precision."""
    w, x, y, z = unit
    one = two / two
    return (
        (one - two * (y * y + z * z), two * (x * y - w * z), two * (x * z + w * y)),
        (two * (x * y + w * z), one - two * (x * x + z * z), two * (y * z - w * x)),
        (two * (x * z - w * y), two * (y * z + w * x), one - two * (x * x + y * y)),
    )


@parallel_kernel  # type: ignore[untyped-decorator]
def project_backward(
    means: Any,
    scales: Any,
    quats: Any,
    cameras: Any,
    pinholes: Any,
    splats: Any,
    first: Any,
    parts: Any,
) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Gradients of means, scales, quats, opacities, colours, and of cameras [C, 16].

    Args:
        splats: [C, N, 8] from :func:`project`.
        first: [C · N + 1] where each splat's rows of ``parts`` begin, one for each tile that it touches.
        parts: [rows, 7 + D] what each tile adds to the gradient of the splat and of its colour.
    """
    count, channels = means.shape[0], parts.shape[1] - COLOUR
    blocks = (count + BLOCK - 1) // BLOCK
    g_means, g_scales, g_quats = np.zeros_like(means), np.zeros_like(scales), np.zeros_like(quats)
    g_opacities, g_colours = np.zeros(count, means.dtype), np.zeros((count, channels), means.dtype)
    g_cameras = np.zeros((blocks, cameras.shape[0], CAMERA), means.dtype)
    for block in prange(blocks):
        axes, g_axes = np.empty((3, 3), means.dtype), np.empty((3, 3), means.dtype)
        grad = np.empty(parts.shape[1], means.dtype)
        for i in range(block * BLOCK, min(block * BLOCK + BLOCK, count)):
            seen = False
            for camera in range(cameras.shape[0]):
                start, end = first[camera * count + i], first[camera * count + i + 1]
                if start == end:
                    continue
                if not seen:
                    _axes(quats[i], scales[i], axes)
                    g_axes[:] = 0
                    seen = True
                _sum_rows(parts[start:end], grad)
                g_opacities[i] += grad[OPACITY]
                for channel in range(channels):
                    g_colours[i, channel] += grad[COLOUR + channel]
                _splat_backward(
                    means[i],
                    axes,
                    cameras[camera],
                    pinholes[camera],
                    splats[camera, i],
                    grad,
                    g_means[i],
                    g_axes,
                    g_cameras[block, camera],
                )
            if seen:
                _axes_backward(quats[i], scales[i], g_axes, g_quats[i], g_scales[i])
    total = np.zeros((cameras.shape[0], CAMERA), means.dtype)
    for block in range(blocks):
        total += g_cameras[block]
    return g_means, g_scales, g_quats, g_opacities, g_colours, total


@kernel  # type: ignore[untyped-decorator]
def _sum_rows(rows: Any, total: Any) -> None:
    total[:] = 0
    for row in range(rows.shape[0]):
        for column in range(rows.shape[1]):
            total[column] += rows[row, column]


@kernel  # type: ignore[untyped-decorator]
def _splat_backward(
    mean: Any,
    axes: Any,
    camera: Any,
    pinhole: Any,
    splat: Any,
    grad: Any,
    g_mean: Any,
    g_axes: Any,
    g_camera: Any,
) -> None:
    """Add what one splat's gradient means for the Gaussian and the camera."""
    x, y, z = _place(camera, mean)
    a, b = _image_axes(camera, pinhole, axes, x / z, y / z, z)
    g_a, g_b = _covariance_backward(splat, grad, a, b)
    far = _turned(camera[2], axes)
    across, bent_x, z_x, focal_x, centre_x = _ray_backward(
        grad[X], g_a, a, far, x / z, z, pinhole[FX], pinhole[LEFT], pinhole[RIGHT]
    )
    down, bent_y, z_y, focal_y, centre_y = _ray_backward(
        grad[Y], g_b, b, far, y / z, z, pinhole[FY], pinhole[TOP], pinhole[BOTTOM]
    )
    along_x, along_y = pinhole[FX] / z, pinhole[FY] / z
    g_place = (across, down, grad[DEPTH] + z_x + z_y)
    g_rows = (
        (along_x * g_a[0], along_x * g_a[1], along_x * g_a[2]),
        (along_y * g_b[0], along_y * g_b[1], along_y * g_b[2]),
        _sum(-along_x * bent_x, g_a, -along_y * bent_y, g_b),
    )
    for row in range(3):
        g_row = g_rows[row]
        for j in range(3):
            g_mean[j] += camera[row, j] * g_place[row]
            for k in range(3):
                g_axes[j, k] += camera[row, j] * g_row[k]
            g_camera[4 * row + j] += _dot(g_row, axes[j]) + g_place[row] * mean[j]
        g_camera[4 * row + 3] += g_place[row]
    g_camera[12] += focal_x
    g_camera[13] += focal_y
    g_camera[14] += centre_x
    g_camera[15] += centre_y


@kernel  # type: ignore[untyped-decorator]
def _covariance_backward(splat: Any, grad: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """From the inverse covariance P to the image axes a and b: H = -P G P, then 2 H · (a, b)."""
    xx, xy, yy = splat[XX], splat[XY], splat[YY]
    g_xx, g_xy, g_yy = grad[XX] + grad[XX], grad[XY], grad[YY] + grad[YY]  # 2 G
    p, q = xx * g_xx + xy * g_xy, xx * g_xy + xy * g_yy
    r, s = xy * g_xx + yy * g_xy, xy * g_xy + yy * g_yy
    h_xx, h_xy, h_yy = -(p * xx + q * xy), -(p * xy + q * yy), -(r * xy + s * yy)
    return _sum(h_xx, a, h_xy, b), _sum(h_xy, a, h_yy, b)


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
    along, pull = focal / z, _dot(g_row, row)
    g_across = g_pixel * along
    g_z = -pull / z - g_across * ray
    g_focal, g_centre = pull / focal + g_pixel * ray, g_pixel
    bent = min(max(ray, low), high)
    g_ray = -along * _dot(g_row, far)
    if low <= ray <= high:
        g_across += g_ray / z
        g_z -= g_ray * ray / z
    else:  # the bounds move with the pinhole
        g_focal -= g_ray * bent / focal
        g_centre -= g_ray / focal
    return g_across, bent, g_z, g_focal, g_centre


@kernel  # type: ignore[untyped-decorator]
def _axes_backward(quat: Any, scale: Any, g_axes: Any, g_quat: Any, g_scale: Any) -> None:
    """From Q · S to the quaternion, not of length 1, and the standard deviations."""
    unit, length = _unit(quat)
    two = quat.dtype.type(2)
    turn = _rotation(unit, two)
    for k in range(3):
        for j in range(3):
            g_scale[k] += g_axes[j, k] * turn[j][k]
            g_axes[j, k] *= scale[k]
    w, x, y, z = unit
    g = g_axes
    sum_01, sum_02, sum_12 = g[0, 1] + g[1, 0], g[0, 2] + g[2, 0], g[1, 2] + g[2, 1]
    turn_x, turn_y, turn_z = g[2, 1] - g[1, 2], g[0, 2] - g[2, 0], g[1, 0] - g[0, 1]
    g_w = two * (x * turn_x + y * turn_y + z * turn_z)
    g_x = two * (w * turn_x + y * sum_01 + z * sum_02 - two * x * (g[1, 1] + g[2, 2]))
    g_y = two * (w * turn_y + x * sum_01 + z * sum_12 - two * y * (g[0, 0] + g[2, 2]))
    g_z = two * (w * turn_z + x * sum_02 + y * sum_12 - two * z * (g[0, 0] + g[1, 1]))
    along = w * g_w + x * g_x + y * g_y + z * g_z
    g_quat[0], g_quat[1] = (g_w - w * along) / length, (g_x - x * along) / length
    g_quat[2], g_quat[3] = (g_y - y * along) / length, (g_z - z * along) / length
