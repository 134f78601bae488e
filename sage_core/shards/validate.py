"""``sage shards validate``: every promise that the shard format makes, checked row by row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sage_core.errors import ShardError
from sage_core.geometry.poses import project, transform
from sage_core.shards.read import ShardReader, shard_files
from sage_core.shards.records import ClipInfo, FrameRecord, PointCloud
from sage_core.shards.schema import MAX_ROW_GROUP_FRAMES

_ROTATION_TOLERANCE = 1e-6
_ANCHOR_TOLERANCE_PX = 0.05
_DEPTH_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Problem:
    """Something that a shard promises and does not keep."""

    path: str
    clip: str | None
    frame: int | None
    message: str

    def __str__(self) -> str:
        where = [self.path]
        if self.clip is not None:
            where.append(f"clip {self.clip}")
        if self.frame is not None:
            where.append(f"frame {self.frame}")
        return f"{', '.join(where)}: {self.message}"


def validate(paths: Iterable[str | Path]) -> list[Problem]:
    """All problems of the shards named by folder or file; none is good. Reads every picture.

    Cameras are checked against the points: each anchor must be where its 3D point projects to, which no
    mixed-up convention (camera to world, half pixels, a forgotten crop) survives.

    Raises:
        ShardError: there is no shard at all.
    """
    problems: list[Problem] = []
    for path in shard_files(paths):
        try:
            reader = ShardReader([path])
        except ShardError as error:
            problems.append(Problem(path.name, None, None, str(error)))
            continue
        for name in reader.names:
            problems.extend(_clip_problems(reader, path.name, name))
        problems.extend(_group_problems(path))
    return problems


def _group_problems(path: Path) -> Iterator[Problem]:
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        column = file.schema_arrow.get_field_index("clip")
        for index in range(file.num_row_groups):
            group = file.metadata.row_group(index)
            if group.num_rows > MAX_ROW_GROUP_FRAMES:
                message = (
                    f"row group {index} has {group.num_rows} frames, over {MAX_ROW_GROUP_FRAMES}"
                )
                yield Problem(path.name, None, None, message)
            statistics = group.column(column).statistics
            if statistics is not None and statistics.min != statistics.max:
                yield Problem(path.name, None, None, f"row group {index} crosses clips")
            try:
                file.read_row_group(index)
            except (pa.ArrowException, OSError) as error:
                yield Problem(path.name, None, None, f"row group {index} is damaged ({error})")


def _clip_problems(reader: ShardReader, path: str, name: str) -> Iterator[Problem]:
    try:
        clip, points = reader.clip(name), reader.points(name)
    except ShardError as error:
        yield Problem(path, name, None, str(error))
        return
    for message in _index_problems(clip, points):
        yield Problem(path, name, None, message)
    order = np.argsort(points.ids)
    points = PointCloud(points.ids[order], points.xyz[order], points.rgb[order])
    for row in range(reader.n_frames(name)):
        try:
            frame = reader.frames(name, [row])[0]
            frame.pixels()
            frame.masked()
        except ShardError as error:
            at = int(clip.frames[row]) if row < clip.n_frames else None
            yield Problem(path, name, at, str(error))
            continue
        for message in [*_frame_problems(frame, clip, row), *_anchor_problems(frame, points)]:
            yield Problem(path, name, frame.frame, message)


def _index_problems(clip: ClipInfo, points: PointCloud) -> Iterator[str]:
    n = clip.n_frames
    if (np.diff(clip.frames) <= 0).any():
        yield "its frames are not in order"
    if clip.ordered and not (np.diff(clip.times_s) > 0).all():
        yield "its times do not increase"
    if not (np.isfinite(clip.sharpness).all() and np.isfinite(clip.depth_median).all()):
        yield "its sharpness or median depth is not finite"
    if not np.isfinite(points.xyz).all():
        yield "its points are not finite"
    c = clip.covisibility
    if not len(c.i) == len(c.j) == len(c.share) or ((c.i < 0) | (c.j >= n) | (c.i >= c.j)).any():
        yield "its covisibility names rows that are not there"
    if ((c.share < 0) | (c.share > 1) | ~np.isfinite(c.share)).any():
        yield "its covisibility leaves 0..1"
    for index, trajectory in enumerate(clip.trajectories):
        rows = trajectory.rows
        if len(set(rows)) < len(rows) or min(rows) < 0 or max(rows) >= n:
            yield f"trajectory {index} names a row twice, or one that is not there"
        if not np.isfinite(trajectory.score):
            yield f"trajectory {index} has a score that is not finite"


def _frame_problems(frame: FrameRecord, clip: ClipInfo, row: int) -> Iterator[str]:
    if row < clip.n_frames and (
        frame.frame != clip.frames[row]
        or not np.array_equal(frame.cam_from_world, clip.cam_from_world[row])
    ):
        yield "its index or pose differs from the one in the clips file"
    R = frame.cam_from_world[:, :3]
    if np.abs(R @ R.T - np.eye(3)).max() > _ROTATION_TOLERANCE or np.linalg.det(R) < 0:
        yield "its pose holds no rotation"
    K, size = frame.intrinsics, (frame.width, frame.height)
    if K[0, 0] <= 0 or K[1, 1] <= 0 or not (0 < K[0, 2] < size[0] and 0 < K[1, 2] < size[1]):
        yield f"its intrinsics {K[0, 0]:.1f} {K[1, 1]:.1f} {K[0, 2]:.1f} {K[1, 2]:.1f} cannot be"


def _anchor_problems(frame: FrameRecord, points: PointCloud) -> Iterator[str]:
    anchors = frame.anchors
    if len(anchors) == 0:
        return
    x, y = anchors.xy.T
    if not ((x >= 0) & (y >= 0) & (x <= frame.width) & (y <= frame.height)).all():
        yield "anchors lie outside the picture"
    if not (np.isfinite(anchors.depth) & (anchors.depth > 0)).all():
        yield "anchors have no positive depth"
    if not (np.isfinite(anchors.error_px).all() and np.isfinite(anchors.angle_deg).all()):
        yield "anchors have an error or angle that is not finite"
    at = np.searchsorted(points.ids, anchors.point).clip(max=max(0, len(points.ids) - 1))
    if len(points.ids) == 0 or (points.ids[at] != anchors.point).any():
        yield "anchors name points that the clip does not have"
        return
    xy, depth = project(frame.intrinsics, transform(frame.cam_from_world, points.xyz[at]))
    off = np.linalg.norm(xy - anchors.xy, axis=-1)
    if not (off <= _ANCHOR_TOLERANCE_PX).all():
        yield f"anchors lie up to {off.max():.2f} px from where their points project to"
    if not np.allclose(depth, anchors.depth, rtol=_DEPTH_TOLERANCE):
        yield "anchor depths are not the depths of their points"
