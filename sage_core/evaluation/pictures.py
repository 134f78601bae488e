"""Pictures for the report: depth, errors and clouds of base and adapted, renders beside their targets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sage_core.evaluation.labelled import Prediction
from sage_core.evaluation.metrics import align

Image = npt.NDArray[np.uint8]
_TILE = 128
_CLOUD = 384
_ERROR_FULL_M = 0.5
"""Error (m) that is drawn in the last colour."""


def tuple_sheet(predictions: Sequence[Prediction]) -> Image:
    """Rows: images, true depth, then depth and error of each prediction; one column a view.

    Depth is z in view 0's camera after alignment, so that one colour is one distance; errors run from
    dark (0) to bright (0.5 m and more).
    """
    first = predictions[0]
    aligned = [align(p.points, p.truth, p.valid) for p in predictions]
    truth = aligned[0][1][..., 2]
    low, high = np.percentile(truth[first.valid], [2, 98])
    rows = [_row(first.images), _row(_depth_colours(truth, first.valid, low, high))]
    for points, true_points in aligned:
        error = np.linalg.norm(points - true_points, axis=-1)
        rows.append(_row(_depth_colours(points[..., 2], first.valid, low, high)))
        rows.append(_row(_error_colours(error, first.valid)))
    return np.concatenate(rows)


def cloud_sheet(predictions: Sequence[Prediction]) -> Image:
    """The clouds from above, side by side: the truth in grey under each prediction in its error's colour."""
    return np.concatenate([_cloud(p) for p in predictions], axis=1)


def render_sheet(target: Image, renders: Sequence[Image]) -> Image:
    """A target beside its renders."""
    return np.concatenate([_enlarged(image) for image in (target, *renders)], axis=1)


def save(image: Image, path: Path) -> None:
    """Write a JPEG, whole or not at all."""
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88]
    )
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(data.tobytes())
    partial.replace(path)


def _cloud(prediction: Prediction) -> Image:
    points, truth = align(prediction.points, prediction.truth, prediction.valid)
    valid = prediction.valid
    error = np.linalg.norm(points - truth, axis=-1)
    colours = _error_colours(error, valid)[valid]
    reach = 1.1 * np.percentile(np.abs(truth[valid][:, [0, 2]]), 99)
    canvas = np.full((_CLOUD, _CLOUD, 3), 255, np.uint8)
    _scatter(canvas, truth[valid], reach, np.full((int(valid.sum()), 3), 190, np.uint8))
    _scatter(canvas, points[valid], reach, colours)
    return canvas


def _scatter(canvas: Image, points: npt.NDArray[np.float64], reach: float, colours: Image) -> None:
    """Draw x to the right and z upwards, one pixel a point."""
    column = (_CLOUD * (0.5 + 0.5 * points[:, 0] / reach)).astype(int)
    row = (_CLOUD * (0.5 - 0.5 * points[:, 2] / reach)).astype(int)
    inside = (column >= 0) & (column < _CLOUD) & (row >= 0) & (row < _CLOUD)
    canvas[row[inside], column[inside]] = colours[inside]


def _depth_colours(
    depth: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_], low: float, high: float
) -> Image:
    return _colours((depth - low) / max(high - low, 1e-9), valid, cv2.COLORMAP_TURBO)


def _error_colours(error: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_]) -> Image:
    return _colours(error / _ERROR_FULL_M, valid, cv2.COLORMAP_INFERNO)


def _colours(share: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_], palette: int) -> Image:
    level = (np.clip(share, 0, 1) * 255).astype(np.uint8)
    flat = cv2.applyColorMap(level.reshape(-1, 1), palette).reshape(*level.shape, 3)[..., ::-1]
    return np.where(valid[..., None], flat, np.uint8(40))


def _row(images: Image) -> Image:
    return np.concatenate([_enlarged(image) for image in images], axis=1)


def _enlarged(image: Image) -> Image:
    return np.asarray(
        cv2.resize(np.ascontiguousarray(image), (_TILE, _TILE), interpolation=cv2.INTER_NEAREST),
        np.uint8,
    )
