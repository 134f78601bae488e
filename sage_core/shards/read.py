"""Reading shards: an index of clips, then only the row groups that a sample needs."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sage_core.errors import ShardError
from sage_core.geometry.poses import intrinsics_matrix
from sage_core.shards.records import (
    Anchors,
    ClipInfo,
    Covisibility,
    FrameRecord,
    PointCloud,
    Trajectory,
)
from sage_core.shards.schema import CLIPS, SCHEMA_VERSION, check_version, migrate
from sage_core.types import Reason

_POINT_COLUMNS = ["point", "point_xyz", "point_rgb"]
_OPEN_FILES = 32
_CACHED_CLIPS = 64


@dataclass(frozen=True)
class _Place:
    """Where a clip lies: its file pair, its row in the clips file, its row groups in the frames file."""

    frames_path: Path
    clips_path: Path
    clip_group: int
    starts: tuple[int, ...]
    """First row of each row group, then the number of rows."""
    first_group: int


class ShardReader:
    """Random access to the clips and frames of some shards in little, constant memory.

    Args:
        paths: folders of shards, or files of either kind; a shard's other file is found by its name.

    Safe to pickle and to use after a fork: files are opened anew in each process.

    Raises:
        ShardError: no shards there (``no_data``), a file that is truncated or no shard, a newer schema,
            half a pair, a clip that is there twice.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._files = _FileCache()
        self._clips: OrderedDict[str, ClipInfo] = OrderedDict()
        self._places: dict[str, _Place] = {}
        for frames_path in shard_files(paths):
            for name, place in self._index(frames_path):
                if name in self._places:
                    other = self._places[name].frames_path
                    raise ShardError(
                        f"clip {name} is in both {other} and {frames_path}, assembled twice: name "
                        "the files to read one by one, as the catalog lists them"
                    )
                self._places[name] = place
        if not self._places:
            raise ShardError("the shards hold no clip at all", reason=Reason.NO_DATA)

    @property
    def names(self) -> list[str]:
        """Every clip's id, sorted."""
        return sorted(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def clips(self) -> list[ClipInfo]:
        """Every clip, in order of ids. For thousands of clips prefer :meth:`clip`, which keeps few."""
        return [self._read_clip(name) for name in self.names]

    def clip(self, name: str) -> ClipInfo:
        """One clip's row without its points; the last few read are kept."""
        if name not in self._clips:
            self._clips[name] = self._read_clip(name)
            if len(self._clips) > _CACHED_CLIPS:
                self._clips.popitem(last=False)
        self._clips.move_to_end(name)
        return self._clips[name]

    def n_frames(self, name: str) -> int:
        """Number of frames of a clip, without reading anything."""
        return self._place(name).starts[-1]

    def points(self, name: str) -> PointCloud:
        """The SfM points of a clip."""
        place = self._place(name)
        row = self._files.read(place.clips_path, "clips", place.clip_group, _POINT_COLUMNS)
        return PointCloud(
            _values(row, "point", 0),
            _values(row, "point_xyz", 0).reshape(-1, 3),
            _values(row, "point_rgb", 0).reshape(-1, 3),
        )

    def frames(self, clip: str | ClipInfo, rows: Sequence[int]) -> list[FrameRecord]:
        """The frames of a clip at these rows, in this order; JPEGs are not decoded yet.

        Raises:
            ShardError: an unknown clip, a row that is out of range, a pose or intrinsics that are not
                finite, anchor columns of different lengths.
        """
        name = clip if isinstance(clip, str) else clip.clip
        place = self._place(name)
        wanted = np.asarray(rows, np.int64)
        if wanted.size and (wanted.min() < 0 or wanted.max() >= place.starts[-1]):
            raise ShardError(
                f"clip {name} has rows 0 to {place.starts[-1] - 1}, asked for {sorted(rows)}"
            )
        groups = np.searchsorted(place.starts, wanted, side="right") - 1
        found: dict[int, FrameRecord] = {}
        for group in np.unique(groups):
            at = place.first_group + int(group)
            table = self._files.read(place.frames_path, "frames", at)
            for row in wanted[groups == group]:
                found[int(row)] = _frame_record(table, int(row) - place.starts[group])
        return [found[int(row)] for row in wanted]

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise ShardError(f"no clip {name!r} in these shards", reason=Reason.NO_DATA)
        return self._places[name]

    def _index(self, frames_path: Path) -> Iterator[tuple[str, _Place]]:
        clips_path = _other(frames_path)
        meta = self._files.open(frames_path, "frames")[0].metadata
        sizes = [meta.row_group(g).num_rows for g in range(meta.num_row_groups)]
        clips = self._files.open(clips_path, "clips")[0]
        group = 0
        for clip_group in range(clips.num_row_groups):
            row = self._files.read(clips_path, "clips", clip_group, ["clip", "n_frames"])
            name, n = row["clip"][0].as_py(), row["n_frames"][0].as_py()
            starts = [0]
            first = group
            while starts[-1] < n and group < len(sizes):
                starts.append(starts[-1] + sizes[group])
                group += 1
            if starts[-1] != n:
                raise ShardError(
                    f"{frames_path.name} does not hold the {n} frames of clip {name} in row groups "
                    "of their own: it was not written by SAGE, or is damaged; assemble again"
                )
            yield name, _Place(frames_path, clips_path, clip_group, tuple(starts), first)

    def _read_clip(self, name: str) -> ClipInfo:
        place = self._place(name)
        columns = [c for c in CLIPS.names if c not in _POINT_COLUMNS]
        row = self._files.read(place.clips_path, "clips", place.clip_group, columns)
        return _clip_info(row)

    def __getstate__(self) -> dict[str, Any]:
        return {"_places": self._places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._files = _FileCache()
        self._clips = OrderedDict()
        self._places = state["_places"]


def shard_files(paths: Iterable[str | Path]) -> list[Path]:
    """The frames files of shards named by folder, workspace or either file, each once, sorted by name.

    Raises:
        ShardError: nothing named, nothing there, or a file without its other half.
    """
    given = [Path(path) for path in paths]
    found: set[Path] = set()
    for path in given:
        if path.is_dir():
            # The clips file comes last: frames without it are a shard that was never finished.
            folder = path / "shards" if (path / "shards").is_dir() else path
            found |= {_frames_of(file) for file in folder.glob("clips-*.parquet")}
        else:
            found.add(_frames_of(path))
    if not found:
        where = ", ".join(map(str, given)) or "an empty list"
        raise ShardError(
            f"no shards in {where}: assemble some with `sage assemble` first", reason=Reason.NO_DATA
        )
    for path in found:
        for half in (path, _other(path)):
            if not half.is_file():
                raise ShardError(f"there is no shard file {half}: a shard is a pair of files")
    return sorted(found, key=lambda path: (path.name, str(path)))


def _frames_of(path: Path) -> Path:
    if path.name.startswith("clips-"):
        return path.with_name("frames-" + path.name.removeprefix("clips-"))
    return path


def _other(frames_path: Path) -> Path:
    return frames_path.with_name("clips-" + frames_path.name.removeprefix("frames-"))


class _FileCache:
    """Open Parquet files of this process, few at a time."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._open: OrderedDict[Path, tuple[pq.ParquetFile, int]] = OrderedDict()

    def open(self, path: Path, table: str) -> tuple[pq.ParquetFile, int]:
        """The file and the version of its schema."""
        if os.getpid() != self._pid:
            self._open, self._pid = OrderedDict(), os.getpid()
        if path not in self._open:
            self._open[path] = self._opened(path, table)
            if len(self._open) > _OPEN_FILES:
                self._open.popitem(last=False)[1][0].close()
        self._open.move_to_end(path)
        return self._open[path]

    def read(
        self, path: Path, table: str, group: int, columns: list[str] | None = None
    ) -> pa.Table:
        """One row group with today's columns."""
        file, version = self.open(path, table)
        current = version == SCHEMA_VERSION
        try:
            data = file.read_row_group(group, columns=columns if current else None)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error
        return data if current else migrate(data, table, version)

    @staticmethod
    def _opened(path: Path, table: str) -> tuple[pq.ParquetFile, int]:
        try:
            file = pq.ParquetFile(path, page_checksum_verification=True)
        except FileNotFoundError as error:
            raise ShardError(f"there is no shard file {path}") from error
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error
        return file, check_version(file.schema_arrow, table, path)


def _damaged(path: Path, error: Exception) -> ShardError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ShardError(
        f"{path} is truncated or damaged ({first}): delete it and assemble again",
        reason=Reason.UNREADABLE,
    )


def _values(table: pa.Table, column: str, row: int) -> Any:
    return table[column][row].values.to_numpy(zero_copy_only=False)


def _frame_record(table: pa.Table, row: int) -> FrameRecord:
    def scalar(name: str) -> Any:
        return table[name][row].as_py()

    clip, frame = scalar("clip"), scalar("frame")
    intrinsics, pose = _values(table, "intrinsics", row), _values(table, "cam_from_world", row)
    if len(intrinsics) != 4 or len(pose) != 12:
        raise ShardError(f"frame {frame} of clip {clip} has a camera of the wrong length")
    if not (np.isfinite(intrinsics).all() and np.isfinite(pose).all()):
        raise ShardError(
            f"frame {frame} of clip {clip} has a pose or intrinsics that are not finite: "
            "assemble the clip again",
            reason=Reason.NOT_FINITE,
        )
    return FrameRecord(
        clip=clip,
        frame=frame,
        time_s=scalar("time_s"),
        image=scalar("image"),
        width=scalar("width"),
        height=scalar("height"),
        intrinsics=intrinsics_matrix(intrinsics),
        cam_from_world=pose.reshape(3, 4),
        key=scalar("key"),
        sharpness=scalar("sharpness"),
        anchors=_anchors(table, row, f"frame {frame} of clip {clip}"),
        mask=scalar("mask") if "mask" in table.column_names else None,
    )


def _anchors(table: pa.Table, row: int, what: str) -> Anchors:
    anchors = Anchors(
        _values(table, "anchor_xy", row),
        _values(table, "anchor_depth", row),
        _values(table, "anchor_point", row),
        _values(table, "anchor_error_px", row),
        _values(table, "anchor_track", row),
        _values(table, "anchor_angle_deg", row),
    )
    n = len(anchors)
    lengths = {
        len(anchors.point),
        len(anchors.error_px),
        len(anchors.track),
        len(anchors.angle_deg),
    }
    if lengths != {n} or len(anchors.xy) != 2 * n:
        raise ShardError(f"{what}: its anchor columns have different lengths")
    return Anchors(
        anchors.xy.reshape(-1, 2),
        anchors.depth,
        anchors.point,
        anchors.error_px,
        anchors.track,
        anchors.angle_deg,
    )


def _clip_info(row: pa.Table) -> ClipInfo:
    poses = _values(row, "cam_from_world", 0)
    name = row["clip"][0].as_py()
    if not np.isfinite(poses).all():
        raise ShardError(
            f"clip {name} has a pose that is not finite: assemble it again",
            reason=Reason.NOT_FINITE,
        )
    return ClipInfo(
        clip=name,
        video=row["video"][0].as_py(),
        source=row["source"][0].as_py(),
        ordered=row["ordered"][0].as_py(),
        frames=_values(row, "frame", 0),
        times_s=_values(row, "time_s", 0),
        sharpness=_values(row, "sharpness", 0),
        depth_median=_values(row, "depth_median", 0),
        cam_from_world=poses.reshape(-1, 3, 4),
        covisibility=Covisibility(
            _values(row, "covisibility_i", 0),
            _values(row, "covisibility_j", 0),
            _values(row, "covisibility_share", 0),
        ),
        trajectories=[Trajectory(**fields) for fields in row["trajectories"][0].as_py()],
        figures=json.loads(row["figures"][0].as_py()),
        provenance=json.loads(row["provenance"][0].as_py()),
    )
