"""A row group of frames in memory, and single frames out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sage_core.errors import ShardError
from sage_core.geometry.poses import intrinsics_matrix
from sage_core.shards.records import Anchors, FrameRecord
from sage_core.types import Reason

_SCALARS = ("frame", "time_s", "width", "height", "key", "sharpness")
_LISTS = (
    "intrinsics",
    "cam_from_world",
    "anchor_xy",
    "anchor_depth",
    "anchor_point",
    "anchor_error_px",
    "anchor_track",
    "anchor_angle_deg",
)


class FrameGroup:
    """Columns of a row group as numpy arrays over Arrow's own memory, so that a frame costs microseconds."""

    def __init__(self, table: pa.Table) -> None:
        self.size: int = table.nbytes
        columns = {name: _whole(table[name]) for name in table.column_names}
        self._clip = columns["clip"]
        self._images, self._masks = columns["image"], columns.get("mask")
        self._scalars = {name: columns[name].to_pylist() for name in _SCALARS}
        self._lists = {name: _list(columns[name]) for name in _LISTS}

    def frame(self, row: int) -> FrameRecord:
        """The frame in this row; its arrays are its own, so that it does not keep the group.

        Raises:
            ShardError: a pose or intrinsics that are not finite, columns of different lengths.
        """
        clip, scalars = self._clip[row].as_py(), {k: v[row] for k, v in self._scalars.items()}
        what = f"frame {scalars['frame']} of clip {clip}"
        intrinsics, pose = self._values("intrinsics", row), self._values("cam_from_world", row)
        if len(intrinsics) != 4 or len(pose) != 12:
            raise ShardError(f"{what} has a camera of the wrong length: assemble the clip again")
        if not (np.isfinite(intrinsics).all() and np.isfinite(pose).all()):
            raise ShardError(
                f"{what} has a pose or intrinsics that are not finite: assemble the clip again",
                reason=Reason.NOT_FINITE,
            )
        return FrameRecord(
            clip=clip,
            image=self._images[row].as_py(),
            intrinsics=intrinsics_matrix(intrinsics),
            cam_from_world=pose.reshape(3, 4),
            anchors=self._anchors(row, what),
            mask=None if self._masks is None else self._masks[row].as_py(),
            **scalars,
        )

    def _anchors(self, row: int, what: str) -> Anchors:
        xy, *others = (self._values(name, row) for name in _LISTS[2:])
        if len({len(xy) / 2, *map(len, others)}) != 1:
            raise ShardError(
                f"{what}: its anchor columns have different lengths: assemble the clip again"
            )
        return Anchors(xy.reshape(-1, 2), *others)

    def _values(self, name: str, row: int) -> NDArray[Any]:
        ends, values = self._lists[name]
        return values[ends[row] : ends[row + 1]].copy()


def _whole(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _list(column: Any) -> tuple[NDArray[np.int32], NDArray[Any]]:
    """Where each row's values end and begin, and all values."""
    return column.offsets.to_numpy(), column.values.to_numpy(zero_copy_only=False)
