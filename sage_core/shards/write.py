"""Writing shards: whole or not at all, one clip at a time."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sage_core.errors import ShardError
from sage_core.geometry.poses import intrinsics_vector
from sage_core.shards.records import ClipInfo, FrameRecord, PointCloud
from sage_core.shards.schema import CLIPS, FRAMES, MASK, MAX_ROW_GROUP_FRAMES

ROW_GROUP_FRAMES = 16

_PAGE_BYTES = 1 << 16


def frames_name(shard: str) -> str:
    """File name of a shard's frames."""
    return f"frames-{shard}.parquet"


def clips_name(shard: str) -> str:
    """File name of a shard's clips."""
    return f"clips-{shard}.parquet"


class ShardWriter:
    """Writes ``frames-<shard>.parquet`` and ``clips-<shard>.parquet`` into a folder.

    Both are written under hidden names and appear, complete and synced, when the ``with`` block ends;
    the clips file last. When the block is left by an exception, or the process dies, nothing appears.
    """

    def __init__(
        self,
        folder: Path,
        shard: str,
        *,
        row_group_frames: int = ROW_GROUP_FRAMES,
        masks: bool = False,
    ) -> None:
        """Open both files; ``masks`` adds the column of masks to the frames."""
        if not 1 <= row_group_frames <= MAX_ROW_GROUP_FRAMES:
            raise ValueError(f"row groups hold 1 to {MAX_ROW_GROUP_FRAMES} frames")
        self.frames_path = folder / frames_name(shard)
        self.clips_path = folder / clips_name(shard)
        self._group = row_group_frames
        self._schema = FRAMES.append(MASK) if masks else FRAMES
        self._frames = _open(self.frames_path, self._schema)
        self._clips = _open(self.clips_path, CLIPS)

    def __enter__(self) -> ShardWriter:
        return self

    def add(self, clip: ClipInfo, frames: Sequence[FrameRecord], points: PointCloud) -> None:
        """Append one clip with its frames in order; its row groups hold no other clip.

        Raises:
            ShardError: the frames are not those that the clip names.
        """
        if [frame.frame for frame in frames] != clip.frames.tolist():
            raise ShardError(f"clip {clip.clip} names other frames than it brings")
        for start in range(0, len(frames), self._group):
            part = [_frame_row(frame) for frame in frames[start : start + self._group]]
            self.add_frames(pa.Table.from_pylist(part, self._schema))
        self.add_clip(pa.Table.from_pylist([_clip_row(clip, points)], CLIPS))

    def add_frames(self, rows: pa.Table) -> None:
        """Append frames of one clip as one row group."""
        if MASK.name in self._schema.names and MASK.name not in rows.column_names:
            rows = rows.append_column(MASK, pa.nulls(len(rows), MASK.type))
        self._frames.write_table(rows, row_group_size=MAX_ROW_GROUP_FRAMES)

    def add_clip(self, row: pa.Table) -> None:
        """Append one clip's row as a row group of its own, so that it can be read alone."""
        self._clips.write_table(row)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._publish()
        finally:
            for writer, path in (
                (self._frames, self.frames_path),
                (self._clips, self.clips_path),
            ):
                with suppress(OSError):
                    writer.close()
                _partial(path).unlink(missing_ok=True)

    def _publish(self) -> None:
        self._frames.close()
        self._clips.close()
        for path in (self.frames_path, self.clips_path):
            _sync(_partial(path))
        for path in (self.frames_path, self.clips_path):
            _partial(path).rename(path)
        _sync(self.frames_path.parent)


def join_shards(
    parts: Sequence[tuple[Path, str]],
    folder: Path,
    shard: str,
    *,
    clips: Collection[str] | None = None,
) -> None:
    """One shard out of others, given as (folder, shard name): their row groups, one after the other.

    With ``clips``, only the rows of these. Holds one row group in memory at a time.
    """
    with ShardWriter(folder, shard, masks=any(_has_masks(*part) for part in parts)) as writer:
        for part, name in parts:
            for rows in _row_groups(part / frames_name(name), clips):
                writer.add_frames(rows)
            for row in _row_groups(part / clips_name(name), clips):
                writer.add_clip(row)


def rows_of(path: Path, clip: str) -> pa.Table:
    """All rows of one clip in a shard's frames or clips file; empty where it holds none."""
    groups = list(_row_groups(path, (clip,)))
    return pa.concat_tables(groups) if groups else pq.read_schema(path).empty_table()


def _row_groups(path: Path, clips: Collection[str] | None) -> Iterator[pa.Table]:
    """The row groups of a file, each of which is of one clip."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            if clips is None or _clip_of(file, group) in clips:
                yield file.read_row_group(group)


def _clip_of(file: pq.ParquetFile, group: int) -> str:
    return str(file.read_row_group(group, columns=["clip"])["clip"][0].as_py())


def _has_masks(folder: Path, shard: str) -> bool:
    return MASK.name in pq.read_schema(folder / frames_name(shard)).names


def _open(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    path.parent.mkdir(parents=True, exist_ok=True)
    leaves = _leaf_columns(schema)
    return pq.ParquetWriter(
        _partial(path),
        schema,
        # JPEG and PNG do not shrink any further; of the rest zstd would
        # save 4 % of the file and take twice as long to read.
        compression={leaf: "NONE" if leaf in ("image", MASK.name) else "LZ4" for leaf in leaves},
        use_dictionary=["clip"] if "image" in leaves else False,
        write_statistics=["clip", "frame", "time_s"] if "image" in leaves else ["clip"],
        write_page_checksum=True,
        # A page for each picture, or for a few small ones: it is what a checksum guards and a reader takes.
        **({"write_batch_size": 1, "data_page_size": _PAGE_BYTES} if "image" in leaves else {}),
    )


def _leaf_columns(schema: pa.Schema) -> list[str]:
    """Parquet's dotted names of a schema's leaves, such as ``trajectories.list.element.mode``."""
    leaves: list[str] = []

    def walk(kind: pa.DataType, name: str) -> None:
        if pa.types.is_list(kind):
            walk(kind.value_type, f"{name}.list.element")
        elif pa.types.is_struct(kind):
            for field in kind:
                walk(field.type, f"{name}.{field.name}")
        else:
            leaves.append(name)

    for field in schema:
        walk(field.type, field.name)
    return leaves


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _frame_row(frame: FrameRecord) -> dict[str, Any]:
    anchors = frame.anchors
    return {
        "clip": frame.clip,
        "frame": frame.frame,
        "time_s": frame.time_s,
        "image": frame.image,
        "width": frame.width,
        "height": frame.height,
        "intrinsics": intrinsics_vector(frame.intrinsics),
        "cam_from_world": np.asarray(frame.cam_from_world, np.float64).reshape(12),
        "key": frame.key,
        "sharpness": frame.sharpness,
        "anchor_xy": np.asarray(anchors.xy, np.float32).reshape(-1),
        "anchor_depth": anchors.depth,
        "anchor_point": anchors.point,
        "anchor_error_px": anchors.error_px,
        "anchor_track": anchors.track,
        "anchor_angle_deg": anchors.angle_deg,
        MASK.name: frame.mask,
    }


def _clip_row(clip: ClipInfo, points: PointCloud) -> dict[str, Any]:
    return {
        "clip": clip.clip,
        "video": clip.video,
        "source": clip.source,
        "ordered": clip.ordered,
        "n_frames": clip.n_frames,
        "frame": clip.frames,
        "time_s": clip.times_s,
        "sharpness": clip.sharpness,
        "depth_median": clip.depth_median,
        "cam_from_world": np.asarray(clip.cam_from_world, np.float64).reshape(-1),
        "point": points.ids,
        "point_xyz": np.asarray(points.xyz, np.float32).reshape(-1),
        "point_rgb": np.asarray(points.rgb, np.uint8).reshape(-1),
        "covisibility_i": clip.covisibility.i,
        "covisibility_j": clip.covisibility.j,
        "covisibility_share": clip.covisibility.share,
        "trajectories": [asdict(trajectory) for trajectory in clip.trajectories],
        "figures": json.dumps(clip.figures, sort_keys=True),
        "provenance": json.dumps(clip.provenance, sort_keys=True),
    }
