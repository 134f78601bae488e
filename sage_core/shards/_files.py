"""Parquet files of this process, shared by all readers: few open at a time, few row groups in memory."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sage_core.errors import ShardError
from sage_core.shards._frames import FrameGroup
from sage_core.shards.schema import SCHEMA_VERSION, check_version, migrate
from sage_core.types import Reason

OPEN_FILES = 32
GROUP_BYTES = 128 << 20
"""Row groups of frames that were read last are kept up to this size."""


@dataclass(frozen=True)
class _Open:
    file: pq.ParquetFile
    version: int
    identity: tuple[int, int, int]
    """Of the file on disk: another one under the same name is opened anew."""


class Files:
    """Reads row groups; one thread at a time, since an open Parquet file cannot be shared.

    So many readers, and many threads, hold no more files and no more memory than one. After a fork, the
    child opens its own.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._open: OrderedDict[Path, _Open] = OrderedDict()
        self._groups: OrderedDict[tuple[Path, tuple[int, int, int], int], FrameGroup] = (
            OrderedDict()
        )
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

    def frames(self, path: Path, group: int) -> FrameGroup:
        """One row group of a frames file, from memory if it was read lately.

        Raises:
            ShardError: as :meth:`row_groups`.
        """
        with self._mine():
            place = (path, self._opened(path, "frames").identity, group)
            if place not in self._groups:
                self._groups[place] = FrameGroup(self._read(path, "frames", group))
                self.size += self._groups[place].size
                while self.size > GROUP_BYTES and len(self._groups) > 1:
                    self.size -= self._groups.popitem(last=False)[1].size
            self._groups.move_to_end(place)
            return self._groups[place]

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
        identity = (status.st_ino, status.st_size, status.st_mtime_ns)
        if path not in self._open or self._open[path].identity != identity:
            self._open[path] = _opened(path, table, identity)
            if len(self._open) > OPEN_FILES:
                self._open.popitem(last=False)[1].file.close()
        self._open.move_to_end(path)
        return self._open[path]


def _opened(path: Path, table: str, identity: tuple[int, int, int]) -> _Open:
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error
    return _Open(file, check_version(file.schema_arrow, table, path), identity)


def _damaged(path: Path, error: Exception) -> ShardError:
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return ShardError(
        f"{path} is truncated or damaged ({first}): delete it and assemble again",
        reason=Reason.UNREADABLE,
    )


FILES = Files()
