"""A workspace: one directory that holds everything a pipeline has made."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from uuid import uuid4

from data_catalog import _files
from data_catalog._catalog import Catalog
from data_catalog._errors import CatalogError
from data_catalog._store import SCRATCH, Store

_MARK = "workspace.json"
_VERSION = 1
_open: dict[tuple[int, Path, str], Workspace] = {}
_open_lock = threading.Lock()


@dataclass(frozen=True)
class Workspace:
    """A directory with its artifacts (``store``) and what is known of them (``catalog``)."""

    root: Path

    @cached_property
    def store(self) -> Store:
        return Store(self.root)

    @cached_property
    def catalog(self) -> Catalog:
        return Catalog(self.store)

    @classmethod
    def open(cls, root: str | Path, create: bool = True) -> Workspace:
        """The workspace at ``root``, made if it is not there.

        Within a process the same workspace is the same object, so its catalog is read only once.

        Raises:
            CatalogError: there is none and ``create`` is false, or a newer SAGE made it.
        """
        path = Path(root).expanduser().resolve()
        if create and not (path / _MARK).exists():
            _create(path)
        key = (os.getpid(), path, _read_id(path))
        with _open_lock:
            if key not in _open:
                workspace = cls(path)
                _ = workspace.catalog  # made here, where no second thread makes another
                _open[key] = workspace
            return _open[key]


def _create(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise CatalogError(f"{root} is a file: name a folder as the workspace")
    scratch = root / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    mark = {"version": _VERSION, "id": uuid4().hex}
    _files.create_whole(root / _MARK, json.dumps(mark).encode(), scratch)


def _read_id(root: Path) -> str:
    try:
        mark = json.loads((root / _MARK).read_text())
    except FileNotFoundError:
        raise CatalogError(
            f"{root} is no workspace: check the path, or start one with `sage run --workspace {root}`"
        ) from None
    except ValueError as error:
        raise CatalogError(
            f"{root / _MARK} is damaged ({error}): restore it from a backup, or remove it and keep the rest"
        ) from error
    if mark["version"] > _VERSION:
        raise CatalogError(f"{root} was made by a newer SAGE: update this one to open it")
    return str(mark["id"])
