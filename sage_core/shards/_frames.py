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

_SCALARS = ("clip", "frame", "time_s", "width", "height", "key", "sharpness")
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
        self._images, self._masks = columns["image"], columns.get("mask")
        scalars = [columns[name].to_pylist() for name in _SCALARS]
        self._scalars = [
            dict(zip(_SCALARS, row, strict=True)) for row in zip(*scalars, strict=True)
        ]
        self._lists = [_list(columns[name]) for name in _LISTS]
        self._finite = all(np.isfinite(values).all() for _, values in self._lists[:2])

    def frame(self, row: int) -> FrameRecord:
        """The frame in this row; its arrays are views of the group, read-only, and keep it in memory.

        Raises:
            ShardError: a pose or intrinsics that are not finite, columns of different lengths.
        """
        intrinsics, pose, xy, *others = (
            values[ends[row] : ends[row + 1]] for ends, values in self._lists
        )
        if len(intrinsics) != 4 or len(pose) != 12:
            raise self._broken(row, "has a camera of the wrong length")
        if not self._finite and not np.isfinite((*intrinsics, *pose)).all():
            problem = "has a pose or intrinsics that are not finite"
            raise self._broken(row, problem, Reason.NOT_FINITE)
        if any(2 * len(values) != len(xy) for values in others):
            raise self._broken(row, "has anchor columns of different lengths")
        return FrameRecord(
            image=self._images[row].as_py(),
            intrinsics=intrinsics_matrix(intrinsics),
            cam_from_world=pose.reshape(3, 4),
            anchors=Anchors(xy.reshape(-1, 2), *others),
            mask=None if self._masks is None else self._masks[row].as_py(),
            **self._scalars[row],
        )

    def _broken(self, row: int, problem: str, reason: Reason | None = None) -> ShardError:
        named = self._scalars[row]
        return ShardError(
            f"frame {named['frame']} of clip {named['clip']} {problem}: assemble the clip again",
            reason=reason,
        )


def _whole(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _list(column: Any) -> tuple[list[int], NDArray[Any]]:
    """Where each row's values end and begin, and all values."""
    return column.offsets.to_pylist(), column.values.to_numpy(zero_copy_only=False)
