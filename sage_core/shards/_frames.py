"""A row group of frames, and single frames out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sage_core.errors import ShardError
from sage_core.geometry.poses import intrinsics_matrix
from sage_core.shards._layout import GroupLayout
from sage_core.shards._pages import Span, Strings
from sage_core.shards.records import Anchors, FrameRecord
from sage_core.shards.schema import FRAMES
from sage_core.types import Reason

_CAMERA = {"intrinsics": 4, "cam_from_world": 12}
_UNKNOWN: dict[str, NDArray[Any]] = {
    "anchor_point": np.array(-1, np.int64),
    "anchor_error_px": np.array(np.nan, np.float32),
    "anchor_track": np.array(0, np.int32),
    "anchor_angle_deg": np.array(np.nan, np.float32),
}
_MEASURES = {name: np.broadcast_to(value, 1 << 40) for name, value in _UNKNOWN.items()}
"""Columns that are left out on request, with what stands for them then: one number, as often as wanted."""
_ANCHORS = ("anchor_xy", "anchor_depth", *_MEASURES)
_NUMBERS = ("frame", "time_s", "width", "height", "key", "sharpness")

Lists = tuple[tuple[int, ...], NDArray[Any]]
"""Where each row's values begin and the last one's end, and all values."""


class _Strings(Protocol):
    """A column of byte strings."""

    def at(self, file: int, row: int) -> bytes | None:
        """The string of a row, out of the open file or out of memory."""


class FrameGroup:
    """A row group's cameras and anchors as numpy arrays, its pictures where they lie."""

    def __init__(
        self,
        clips: Sequence[str],
        numbers: Mapping[str, NDArray[Any]],
        lists: Mapping[str, Lists],
        image: _Strings,
        mask: _Strings | None,
    ) -> None:
        self.size = sum(values.nbytes for _, values in lists.values())
        """Bytes in memory, about; without pictures."""
        self.measured = all(name in lists for name in _MEASURES)
        self._image, self._mask = image, mask
        self._clips = clips
        self._numbers = [(name, numbers[name]) for name in _NUMBERS]
        intrinsics, poses = (_table(lists[name], width) for name, width in _CAMERA.items())
        self._intrinsics = intrinsics_matrix(intrinsics)
        self._poses = poses.reshape(-1, 3, 4)
        self._ends, depth = lists["anchor_depth"]
        xy = lists["anchor_xy"][1]
        self._anchors = [xy[: len(xy) // 2 * 2].reshape(-1, 2), depth] + [
            lists[name][1] if name in lists else unknown for name, unknown in _MEASURES.items()
        ]
        self._broken = _problems(lists)

    @classmethod
    def of_table(cls, table: pa.Table) -> FrameGroup:
        """All of it in memory."""
        columns = {name: _whole(table[name]) for name in table.column_names}
        group = cls(
            columns["clip"].to_pylist(),
            {name: columns[name].to_numpy(zero_copy_only=False) for name in _NUMBERS},
            {name: _arrow_lists(columns[name]) for name in (*_CAMERA, *_ANCHORS)},
            _Held(columns["image"]),
            _Held(columns["mask"]) if "mask" in columns else None,
        )
        group.size = table.nbytes
        return group

    @classmethod
    def of_pages(cls, file: int, layout: GroupLayout, *, measures: bool) -> FrameGroup:
        """Its numbers in memory, those that measure anchors only if asked for; its pictures in the file.

        Raises:
            Unusual, Damaged: as :func:`sage_core.shards._pages.pages` and ``plain``.
        """
        chunks = layout.chunks
        wanted = (*_CAMERA, *(_ANCHORS if measures else _ANCHORS[:2]))
        start, end, _ = chunks["image"]
        before = Span(file, min(first for first, _, _ in chunks.values()), start)
        behind = Span(file, end, max(chunks[name][1] for name in (*_NUMBERS, *wanted)))

        def span(name: str) -> Span:
            return before if chunks[name][0] < start else behind

        return cls(
            [layout.clip] * layout.rows,
            {name: span(name).numbers(chunks[name], _KINDS[name]) for name in _NUMBERS},
            {name: span(name).lists(chunks[name], _KINDS[name]) for name in wanted},
            Strings(chunks["image"], nullable=False),
            Strings(chunks["mask"], nullable=True) if "mask" in chunks else None,
        )

    def frame(self, row: int, file: int) -> FrameRecord:
        """The frame in this row; its arrays are views of the group and keep it in memory.

        Args:
            file: the open file that the group is of.

        Raises:
            ShardError: a pose or intrinsics that are not finite, columns of different lengths.
            Unusual, Damaged: as :func:`sage_core.shards._pages.pages` and ``plain``.
        """
        named = {name: values[row].item() for name, values in self._numbers}
        if row in self._broken:
            problem, reason = self._broken[row]
            raise ShardError(
                f"frame {named['frame']} of clip {self._clips[row]} {problem}: assemble the clip again",
                reason=reason,
            )
        own = slice(self._ends[row], self._ends[row + 1])
        return FrameRecord(
            clip=self._clips[row],
            image=self._image.at(file, row) or b"",
            intrinsics=self._intrinsics[row],
            cam_from_world=self._poses[row],
            anchors=Anchors(*[values[own] for values in self._anchors]),
            mask=None if self._mask is None else self._mask.at(file, row),
            **named,
        )


class _Held:
    """A column of byte strings in memory."""

    def __init__(self, column: Any) -> None:
        self._column = column

    def at(self, file: int, row: int) -> bytes | None:
        """The string of a row."""
        found: bytes | None = self._column[row].as_py()
        return found


def _kind(field: pa.Field) -> np.dtype[Any]:
    kind = field.type.value_type if pa.types.is_list(field.type) else field.type
    found: np.dtype[Any] = np.dtype(kind.to_pandas_dtype())
    return found


_KINDS = {name: _kind(FRAMES.field(name)) for name in (*_NUMBERS, *_CAMERA, *_ANCHORS)}


def _table(column: Lists, width: int) -> NDArray[Any]:
    """[rows, width]; zeros for a row of another length."""
    ends, values = column
    if _even(ends, width):
        return values.reshape(-1, width)
    table = np.zeros((len(ends) - 1, width), values.dtype)
    for row, (start, end) in enumerate(pairwise(ends)):
        if end - start == width:
            table[row] = values[start:end]
    return table


def _even(ends: tuple[int, ...], width: int) -> bool:
    return ends == tuple(range(0, width * (len(ends) - 1) + 1, width))


def _problems(lists: Mapping[str, Lists]) -> dict[int, tuple[str, Reason | None]]:
    """What is wrong with which row."""
    if _sound(lists):
        return {}
    found = {row: _problem(lists, row) for row in range(len(lists["anchor_xy"][0]) - 1)}
    return {row: problem for row, problem in found.items() if problem is not None}


def _sound(lists: Mapping[str, Lists]) -> bool:
    """Whether all rows are, at a look."""
    cameras = [(lists[name], width) for name, width in _CAMERA.items()]
    (xy, _), *others = (lists[name] for name in _ANCHORS if name in lists)
    return (
        all(_even(ends, width) and np.isfinite(values).all() for (ends, values), width in cameras)
        and all(ends == others[0][0] for ends, _ in others)
        and xy == tuple(2 * end for end in others[0][0])
    )


def _problem(lists: Mapping[str, Lists], row: int) -> tuple[str, Reason | None] | None:
    own = {name: values[ends[row] : ends[row + 1]] for name, (ends, values) in lists.items()}
    if any(len(own[name]) != width for name, width in _CAMERA.items()):
        return "has a camera of the wrong length", None
    if not all(np.isfinite(own[name]).all() for name in _CAMERA):
        return "has a pose or intrinsics that are not finite", Reason.NOT_FINITE
    xy, *others = (own[name] for name in _ANCHORS if name in own)
    if any(2 * len(values) != len(xy) for values in others):
        return "has anchor columns of different lengths", None
    return None


def _whole(column: pa.ChunkedArray) -> Any:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _arrow_lists(column: Any) -> Lists:
    return tuple(column.offsets.to_pylist()), column.values.to_numpy(zero_copy_only=False)
