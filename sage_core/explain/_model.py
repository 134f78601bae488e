"""A reconstruction as the page shows it, from the files of ``sfm/<clip>``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sage_core.explain._contents import Curve, Scene
from sage_core.explain._media import read_picture
from sage_core.geometry import transform
from sage_core.masks import FOLDER, read_mask, resized
from sage_core.report import upright
from sage_core.report.figures import number
from sage_core.sfm import load_clip_model, model_anchors
from sage_core.sfm.model import frame_name
from sage_core.types import Figure


def read_scene(folder: Path, *, ordered: bool) -> Scene:
    """The published model of a clip: cameras, points, and its middle frame with anchors and mask.

    Raises:
        SageError: files that are missing or cannot be read.
    """
    model = load_clip_model(folder)
    points, centres, axes = upright(model.xyz, np.stack([f.cam_from_world for f in model.frames]))
    posed = model.frames[len(model.frames) // 2]
    anchors = model_anchors(model)[posed.frame]
    image = read_picture(folder / "images" / frame_name(posed.frame))
    # Anchors lie in the picture freed of its distortion; here they are drawn on the one that was filmed.
    xy = posed.camera.project(transform(posed.cam_from_world, model.xyz[anchors.row]))
    mask = read_mask(folder / FOLDER, posed.frame)
    return Scene(
        points=points,
        colours=model.rgb,
        centres=centres,
        axes=axes,
        image=image,
        label=f"frame {posed.frame}",
        xy=xy,
        depth=anchors.depth,
        masked=None if mask is None else resized(mask, (image.shape[1], image.shape[0])),
        ordered=ordered,
    )


def pose_curves(folder: Path, points: Figure | None, error_px: Figure | None) -> list[Curve]:
    """Points and residuals of each pose frame, from ``frames.parquet``; gaps where there is no pose.

    Args:
        points, error_px: the gate's figures of them, for their thresholds.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "frames.parquet").to_pydict()
    times = np.array([np.nan if t is None else t for t in table["time_s"]], np.float64)
    posed = np.array(table["registered"], bool)
    seen = np.where(posed, np.array(table["inliers"], np.float64), np.nan)
    error = np.array([np.nan if e is None else e for e in table["reproj_px"]], np.float64)
    return [
        Curve("points_median", "points of the map seen in each frame", times, seen,
              *_limit(points)),
        Curve("reprojection_px", "mean residual of each frame (pixels)", times,
              np.where(posed, error, np.nan), *_limit(error_px)),
    ]  # fmt: skip


def _limit(figure: Figure | None) -> tuple[float | None, str | None]:
    """Threshold and rule."""
    if figure is None:
        return None, None
    return number(figure.threshold), figure.rule
