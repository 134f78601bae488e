"""What reconstruct leaves beside COLMAP's files: ``frames.parquet``, ``gate.json``, the images.

Nothing here holds a duration or a host: the same clip, settings and seed give the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sage_core.geometry import transform
from sage_core.sfm.attempt import Attempt, Task
from sage_core.sfm.backends import probe
from sage_core.sfm.judge import Part
from sage_core.sfm.model import PosedFrame, SparseModel, frame_name
from sage_core.sfm.register import Registration
from sage_core.types import Clip, Figure


def coverage(clip: Clip, model: SparseModel, between: Sequence[Registration]) -> dict[str, Figure]:
    """How many of the frames that may be sampled got a pose."""
    wanted = len({*clip.pose_frames, *clip.key_frames})
    inliers = [one.inliers for one in between if one.posed is not None]
    return {
        "mapped_frames": Figure(sum(frame.mapped for frame in model.frames)),
        "pose_frames": Figure(wanted),
        "posed_share": Figure(len(model.frames) / wanted),
        "between_inliers_median": Figure(float(np.median(inliers)) if inliers else None),
    }


def write_frames(
    clip: Clip, model: SparseModel, between: Sequence[Registration], path: Path
) -> None:
    """One row a pose frame.

    Columns: ``frame`` source index; ``time_s``; ``key`` mapped by COLMAP; ``registered`` has a pose;
    ``inliers`` observations of points (for frames in between: RANSAC inliers); ``reproj_px`` their mean
    residual; ``cam_from_world`` 12 numbers, row-major, null without a pose.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    posed = {frame.frame: frame for frame in model.frames}
    tracked = {one.frame: one for one in between}
    times = dict(zip(clip.pose_frames, clip.times_s, strict=True))
    rows = [
        {
            "frame": index,
            "time_s": times.get(index),
            **_row(model, posed.get(index), tracked.get(index)),
        }
        for index in sorted({*clip.pose_frames, *clip.key_frames})
    ]
    schema = pa.schema(
        [
            ("frame", pa.int64()),
            ("time_s", pa.float64()),
            ("key", pa.bool_()),
            ("registered", pa.bool_()),
            ("inliers", pa.int64()),
            ("reproj_px", pa.float64()),
            ("cam_from_world", pa.list_(pa.float64())),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema), path)


def _row(
    model: SparseModel, posed: PosedFrame | None, tracked: Registration | None
) -> dict[str, Any]:
    row: dict[str, Any] = {"key": False, "registered": False, "inliers": 0}
    if posed is not None:
        row |= {
            "key": posed.mapped,
            "registered": True,
            "inliers": len(posed.point),
            "reproj_px": _mean_residual(model, posed),
            "cam_from_world": posed.cam_from_world.ravel().tolist(),
        }
    if tracked is not None and tracked.inliers:
        row |= {"inliers": tracked.inliers, "reproj_px": tracked.reproj_px}
    return row


def _mean_residual(model: SparseModel, posed: PosedFrame) -> float:
    points_cam = transform(posed.cam_from_world, model.xyz[posed.point])
    return float(np.linalg.norm(posed.camera.project(points_cam) - posed.xy, axis=1).mean())


def write_gate(
    task: Task,
    best: Attempt,
    attempts: Sequence[Attempt],
    part: Part,
    further: Sequence[Clip],
    provenance: dict[str, str],
    folder: Path,
) -> None:
    """``gate.json``: the verdict with every figure, each attempt, and what it was made with.

    ``part`` in it is the range that was kept, ``further`` the ids of the clip's other parts.
    """
    content = {
        "clip": part.clip.item,
        "part": part.clip.to_json(),
        "further": [clip.item for clip in further],
        **part.judgement.to_json(),
        "recipe": asdict(best.recipe),
        "attempts": [one.to_json() for one in attempts],
        "seed": task.seed,
        **asdict(probe()),
        **provenance,
    }
    (folder / "gate.json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def take_images(images: Path, model: SparseModel, folder: Path) -> None:
    """Move the images of frames that got a pose; in the same folder, remove those of the others."""
    posed = {frame_name(frame.frame) for frame in model.frames}
    folder.mkdir(exist_ok=True)
    for path in images.iterdir():
        if folder != images and path.name in posed:
            path.rename(folder / path.name)
        elif folder == images and path.name not in posed:
            path.unlink()
