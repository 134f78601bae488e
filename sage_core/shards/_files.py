"""Parquet files of this process, shared by all readers: few open at a time, few row groups in memory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sage_core.errors import ShardError
from sage_core.shards._frames import FrameGroup
from sage_core.shards._layout import Layout, layout
from sage_core.shards._pages import Damaged, Unusual
from sage_core.shards.records import FrameRecord
from sage_core.shards.schema import (
    MAX_ROW_GROUP_FRAMES,
    SCHEMA_VERSION,
    check_version,
    migrate,
)
from sage_core.types import Reason

OPEN_FILES = 32
LAYOUTS = 1024
"""Frames files of which it is kept where their columns lie: some 300 bytes a row group."""
_MOST_GROUP_BYTES = 1 << 30
GROUP_BYTES = 128 << 20
"""Row groups of frames that were read last are kept up to this size."""

Identity = tuple[int, int, int]
"""Of a file on disk: another one under the same name is opened anew."""
_Place = tuple[Path, Identity, int]
"""File and row group."""


@dataclass(frozen=True)
class _Open:
    file: pq.ParquetFile
    version: int
    identity: Identity


class Files:
    """Reads row groups; one thread at a time, since an open Parquet file cannot be shared.

    So many readers, and many threads, hold no more files and no more memory than one. Pictures, which are
    not kept, are read by all threads at once. After a fork, the child opens its own files.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, _Open] = OrderedDict()
        self._layouts: OrderedDict[Path, tuple[Identity, Layout | None]] = OrderedDict()
        self._groups: OrderedDict[_Place, FrameGroup] = OrderedDict()
        self.size = 0
        """Bytes of the row groups in memory."""

    def row_groups(self, path: Path, table: str) -> list[int]:
        """Rows of each of a file's row groups.

        Raises:
            ShardError: no such file, a damaged one, not one of SAGE's, of a newer schema.
        """
        with self._mine():
            meta = self._opened(path, table).file.metadata
            return [meta.row_group(group).num_rows for group in range(meta.num_row_groups)]

    def read(
        self, path: Path, table: str, group: int, columns: list[str] | None = None
    ) -> pa.Table:
        """One row group with today's columns.

        Raises:
            ShardError: as :meth:`row_groups`.
        """
        with self._mine():
            return self._read(path, table, group, columns)

    def frames(
        self, path: Path, rows: Mapping[int, Sequence[int]], *, measures: bool
    ) -> list[FrameRecord]:
        """Rows of row groups of a frames file; their numbers from memory if they were read lately.

        Raises:
            ShardError: as :meth:`row_groups`; a frame with a broken camera or anchors.
        """
        with _for_reading(path) as (file, identity):
            try:
                return [
                    frame
                    for group, own in rows.items()
                    for frame in self._frames((path, identity, group), file, own, measures)
                ]
            except Damaged as error:
                raise _damaged(path, error) from error

    def _frames(
        self, place: _Place, file: int, rows: Sequence[int], measures: bool
    ) -> list[FrameRecord]:
        try:
            found = self._group(place, file, measures)
            return [found.frame(row, file) for row in rows]
        except Unusual:
            found = self._table(place)
            return [found.frame(row, file) for row in rows]

    def _group(self, place: _Place, file: int, measures: bool) -> FrameGroup:
        with self._mine():
            known = self._groups.get(place)
            if known is None or (measures and not known.measured):
                path, identity, group = place
                found = self._layout(path, identity)
                if found is None:
                    raise Unusual("a file of another make")
                known = FrameGroup.of_pages(file, found.group(group), measures=measures)
                self._keep(place, known)
            self._groups.move_to_end(place)
            return known

    def _table(self, place: _Place) -> FrameGroup:
        """A row group as Arrow reads it, pictures and all."""
        with self._mine():
            path, _, group = place
            found = FrameGroup.of_table(self._read(path, "frames", group))
            self._keep(place, found)
            return found

    def _keep(self, place: _Place, group: FrameGroup) -> None:
        if place in self._groups:
            self.size -= self._groups[place].size
        self._groups[place] = group
        self.size += group.size
        while self.size > GROUP_BYTES and len(self._groups) > 1:
            self.size -= self._groups.popitem(last=False)[1].size

    def _layout(self, path: Path, identity: Identity) -> Layout | None:
        known = self._layouts.get(path)
        if known is None or known[0] != identity:
            opened = self._opened(path, "frames")
            current = opened.version == SCHEMA_VERSION
            known = (opened.identity, layout(opened.file) if current else None)
            self._layouts[path] = known
            if len(self._layouts) > LAYOUTS:
                self._layouts.popitem(last=False)
        self._layouts.move_to_end(path)
        return known[1] if known[0] == identity else None

    def forget(self) -> None:
        """Drop the row groups in memory."""
        with self._mine():
            self._groups.clear()
            self.size = 0

    def _mine(self) -> threading.Lock:
        if os.getpid() != self._pid:
            self._start()
        return self._lock

    def _read(
        self, path: Path, table: str, group: int, columns: list[str] | None = None
    ) -> pa.Table:
        opened = self._opened(path, table)
        current = opened.version == SCHEMA_VERSION
        try:
            # Threads pay for whole files only; here they would wait for each other.
            data = opened.file.read_row_group(
                group, columns=columns if current else None, use_threads=False
            )
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error
        return data if current else migrate(data, table, opened.version)

    def _opened(self, path: Path, table: str) -> _Open:
        try:
            status = path.stat()
        except FileNotFoundError as error:
            raise ShardError(f"there is no shard file {path}") from error
        identity = _identity(status)
        if path not in self._open or self._open[path].identity != identity:
            self._open[path] = _opened(path, table, identity)
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)[1].file.close()
        self._open.move_to_end(path)
        return self._open[path]


@contextmanager
def _for_reading(path: Path) -> Iterator[tuple[int, Identity]]:
    try:
        file = os.open(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise ShardError(f"there is no shard file {path}") from error
    try:
        yield file, _identity(os.fstat(file))
    finally:
        os.close(file)


def _identity(status: os.stat_result) -> Identity:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _opened(path: Path, table: str, identity: Identity) -> _Open:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    version = check_version(file.schema_arrow, table, path)
    _check_sizes(file.metadata, table, path)
    return _Open(file, version, identity)


def _check_sizes(meta: pq.FileMetaData, table: str, path: Path) -> None:
    """Refuse row groups that no SAGE writes before one of them is read: they may not fit into memory."""
    rows = MAX_ROW_GROUP_FRAMES if table == "frames" else 1
    for number in range(meta.num_row_groups):
        group = meta.row_group(number)
        columns = [group.column(c) for c in range(group.num_columns)]
        values = sum(column.num_values for column in columns)
        size = max(8 * values, sum(column.total_uncompressed_size for column in columns))
        if group.num_rows > rows or size > _MOST_GROUP_BYTES:
            raise ShardError(
                f"{path}: row group {number} holds {group.num_rows} rows and some {size >> 20} MiB, at most "
                f"{rows} and {_MOST_GROUP_BYTES >> 20} are read: it was not written by SAGE",
                reason=Reason.TOO_LARGE,
            )


def _damaged(path: Path, error: Exception) -> ShardError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ShardError(
        f"{path} is truncated or damaged ({first}): delete it and assemble again",
        reason=Reason.UNREADABLE,
    )


FILES = Files()
