"""A folder of small files that are written once: on a disk, or (:mod:`data_catalog._objects`) at a URL."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from data_catalog import _files


class Folder(Protocol):
    """Files by name. Each is there whole or not at all, and whoever lists or reads sees the newest state."""

    def names(self) -> list[str]:
        """Every name, sorted; none if there is no such folder."""

    def read(self, name: str) -> bytes:
        """The content; FileNotFoundError if it is not there."""

    def write(self, name: str, data: bytes) -> None:
        """Put a file into place, replacing what was there."""

    def create(self, name: str, data: bytes) -> bool:
        """Put a file into place unless there is one: of several who try, one gets True."""

    def remove(self, names: Iterable[str]) -> None:
        """Remove files in this order; those that are not there are fine."""


class LocalFolder:
    """A directory; files come into it by rename or link from the folder ``temporary``."""

    def __init__(self, path: Path, temporary: Path) -> None:
        self._path, self._temporary = path, temporary

    def __str__(self) -> str:
        return str(self._path)

    def names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._path))  # noqa: PTH208  (asked for at every look into a log)
        except FileNotFoundError:
            return []

    def read(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        _files.write_whole(self._path / name, data, self._temporary)

    def create(self, name: str, data: bytes) -> bool:
        self._path.mkdir(parents=True, exist_ok=True)
        return _files.create_whole(self._path / name, data, self._temporary)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._path / name).unlink(missing_ok=True)
