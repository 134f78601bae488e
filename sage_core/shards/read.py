"""Reading shards: an index of clips, then only the row groups that a sample needs."""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sage_core.errors import ShardError
from sage_core.shards._files import FILES
from sage_core.shards.records import (
    ClipInfo,
    Covisibility,
    FrameRecord,
    PointCloud,
    Trajectory,
)
from sage_core.shards.schema import CLIPS
from sage_core.types import Reason

_POINT_COLUMNS = ["point", "point_xyz", "point_rgb"]
_FRAME_COLUMNS = ["frame", "time_s", "sharpness", "depth_median"]
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

    All readers of a process share its open files and the row groups read last, so that samples of one clip
    in a row cost one visit to the disk, and any number of shards no more memory. Safe to pickle, to share
    among threads, and to use after a fork: files are opened anew in each process.

    Raises:
        ShardError: no shards there (``no_data``), a file that is truncated or no shard, a newer schema,
            half a pair, a clip that is there twice.
    """

    def __init__(self, paths: Iterable[str | Path]) -> None:
        self._places: dict[str, _Place] = {}
        self._forget()
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
        """One clip's row without its points; the last few read are kept.

        Raises:
            ShardError: an unknown clip, a pose that is not finite, columns of different lengths, a
                trajectory without views, texts that are no JSON.
        """
        with self._lock:
            found = self._clips.get(name)
        if found is None:
            found = self._read_clip(name)
        with self._lock:
            self._clips[name] = found
            self._clips.move_to_end(name)
            if len(self._clips) > _CACHED_CLIPS:
                self._clips.popitem(last=False)
        return found

    def n_frames(self, name: str) -> int:
        """Number of frames of a clip, without reading anything."""
        return self._place(name).starts[-1]

    def row_group(self, name: str, row: int) -> int:
        """Number of the row group that holds a clip's row, within its file."""
        place = self._place(name)
        return place.first_group + bisect_right(place.starts, row) - 1

    def points(self, name: str) -> PointCloud:
        """The SfM points of a clip.

        Raises:
            ShardError: an unknown clip, columns of different lengths.
        """
        place = self._place(name)
        row = FILES.read(place.clips_path, "clips", place.clip_group, _POINT_COLUMNS)
        ids, xyz, rgb = (_values(row, column, 0) for column in _POINT_COLUMNS)
        if not 3 * len(ids) == len(xyz) == len(rgb):
            raise _different_lengths(name, "point columns")
        return PointCloud(ids, xyz.reshape(-1, 3), rgb.reshape(-1, 3))

    def frames(
        self, clip: str | ClipInfo, rows: Sequence[int], *, measures: bool = True
    ) -> list[FrameRecord]:
        """The frames of a clip at these rows, in this order; JPEGs are not decoded yet.

        Args:
            measures: whether to read what tells good anchors from bad ones, and which points they are;
                without, it is marked as unknown (see :class:`Anchors`).

        Raises:
            ShardError: an unknown clip, a row that is out of range, a pose or intrinsics that are not
                finite, anchor columns of different lengths.
        """
        name = clip if isinstance(clip, str) else clip.clip
        place = self._place(name)
        if rows and (min(rows) < 0 or max(rows) >= place.starts[-1]):
            raise ShardError(
                f"clip {name} has rows 0 to {place.starts[-1] - 1}, asked for {sorted(rows)}"
            )
        by_group: dict[int, list[int]] = {}
        ordered = sorted(set(rows))
        for row in ordered:
            group = bisect_right(place.starts, row) - 1
            by_group.setdefault(place.first_group + group, []).append(row - place.starts[group])
        frames = FILES.frames(place.frames_path, by_group, measures=measures)
        found = dict(zip(ordered, frames, strict=True))
        return [found[row] for row in rows]

    def _place(self, name: str) -> _Place:
        if name not in self._places:
            raise ShardError(f"no clip {name!r} in these shards", reason=Reason.NO_DATA)
        return self._places[name]

    def _index(self, frames_path: Path) -> Iterator[tuple[str, _Place]]:
        clips_path = _other(frames_path)
        sizes = FILES.row_groups(frames_path, "frames")
        group = 0
        for clip_group in range(len(FILES.row_groups(clips_path, "clips"))):
            row = FILES.read(clips_path, "clips", clip_group, ["clip", "n_frames"])
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
        row = FILES.read(place.clips_path, "clips", place.clip_group, columns)
        return _clip_info(row)

    def __getstate__(self) -> dict[str, Any]:
        return {"_places": self._places}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._places = state["_places"]
        self._forget()

    def _forget(self) -> None:
        """Begin without clips in memory, with a lock of one's own."""
        self._clips: OrderedDict[str, ClipInfo] = OrderedDict()
        self._lock = threading.Lock()


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


def _values(table: pa.Table, column: str, row: int) -> Any:
    return table[column][row].values.to_numpy(zero_copy_only=False)


def _clip_info(row: pa.Table) -> ClipInfo:
    poses = _values(row, "cam_from_world", 0)
    name = row["clip"][0].as_py()
    if not np.isfinite(poses).all():
        raise ShardError(
            f"clip {name} has a pose that is not finite: assemble it again",
            reason=Reason.NOT_FINITE,
        )
    columns = {column: _values(row, column, 0) for column in _FRAME_COLUMNS}
    if len({*map(len, columns.values()), len(poses) / 12}) != 1:
        raise _different_lengths(name, "per-frame columns")
    trajectories = [Trajectory(**fields) for fields in row["trajectories"][0].as_py()]
    if any(len(trajectory.context) < 2 for trajectory in trajectories):
        raise ShardError(f"clip {name} has a trajectory without views: assemble it again")
    return ClipInfo(
        clip=name,
        video=row["video"][0].as_py(),
        source=row["source"][0].as_py(),
        ordered=row["ordered"][0].as_py(),
        frames=columns["frame"],
        times_s=columns["time_s"],
        sharpness=columns["sharpness"],
        depth_median=columns["depth_median"],
        cam_from_world=poses.reshape(-1, 3, 4),
        covisibility=Covisibility(
            _values(row, "covisibility_i", 0),
            _values(row, "covisibility_j", 0),
            _values(row, "covisibility_share", 0),
        ),
        trajectories=trajectories,
        figures=_json(row, "figures"),
        provenance=_json(row, "provenance"),
    )


def _different_lengths(clip: str, what: str) -> ShardError:
    return ShardError(f"clip {clip}: its {what} have different lengths: assemble it again")


def _json(row: pa.Table, column: str) -> Any:
    try:
        return json.loads(row[column][0].as_py())
    except ValueError as error:
        raise ShardError(
            f"clip {row['clip'][0].as_py()}: its {column} are no JSON ({error}): assemble it again"
        ) from error
