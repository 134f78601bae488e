"""A workspace: one directory, or one URL, that holds everything a pipeline has made."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from data_catalog import _files
from data_catalog._backend import LocalBackend, RemoteBackend
from data_catalog._catalog import Catalog
from data_catalog._errors import CatalogError
from data_catalog._objects import Objects
from data_catalog._remote_store import RemoteStore
from data_catalog._store import SCRATCH, Store

CACHE = "SAGE_CACHE"
"""Environment variable: where the folders lie that this machine has for workspaces at URLs."""
_MARK = "workspace.json"
_VERSION = 2
_AT_A_URL = 2
_LOCAL = 1
_open: dict[tuple[int, Path, str], Workspace] = {}
_open_lock = threading.Lock()


@dataclass(frozen=True)
class Workspace:
    """Artifacts (``store``) and what is known of them (``catalog``).

    Attributes:
        root: its directory; of a workspace at a URL, the folder with this machine's cache, scratch and
            Prefect database.
        url: where it lies, if not in its directory.
    """

    root: Path
    url: str | None = None

    @property
    def address(self) -> str:
        """What :meth:`open` takes, on any machine that sees the workspace."""
        return self.url or str(self.root)

    @cached_property
    def store(self) -> Store:
        return RemoteStore(self.root, self._objects) if self.url else Store(self.root)

    @cached_property
    def catalog(self) -> Catalog:
        backend = RemoteBackend(self._objects) if self.url else LocalBackend(self.store.root)
        return Catalog(self.store, backend)

    @cached_property
    def _objects(self) -> Objects:
        assert self.url is not None
        return Objects(self.url)

    @contextmanager
    def still(self) -> Iterator[None]:
        """For asking much at once, as a plan does: the block sees the workspace as it is now."""
        with self.catalog.still(), self.store.still():
            yield

    @classmethod
    def open(cls, root: str | Path, create: bool = True) -> Workspace:
        """The workspace at ``root``, made if it is not there.

        ``root`` is a directory, a URL (``s3://bucket/prefix``), or the folder that this machine has for a
        workspace at a URL. Within a process the same workspace is the same object, so its catalog is read
        only once.

        Raises:
            CatalogError: there is none and ``create`` is false, a newer SAGE made it, or the URL cannot
                hold one.
        """
        path = local_folder(root)
        if create and not (path / _MARK).exists():
            _create(path)
        mark = _read_mark(path)
        key = (os.getpid(), path, str(mark["id"]))
        with _open_lock:
            if key not in _open:
                workspace = cls(path, mark.get("url"))
                if workspace.url:
                    _find(workspace._objects, create)
                _ = workspace.catalog  # made here, where no second thread makes another
                _open[key] = workspace
            return _open[key]


def url_of(folder: Path) -> str | None:
    """The URL of the workspace that a folder is this machine's for; None for any other folder."""
    return _read_mark(folder).get("url") if (folder / _MARK).exists() else None


def local_folder(root: str | Path) -> Path:
    """The directory of a workspace; for a URL, the folder that this machine has for it, made if need be."""
    text = os.fspath(root)
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if "://" not in text:
        return Path(text).expanduser().resolve()
    url = text.rstrip("/")
    slug = re.sub(r"[^A-Za-z0-9.-]+", "-", url)[-48:].strip("-.")
    name = f"{slug}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"
    base = Path(os.environ.get(CACHE) or Path.home() / ".cache/sage").expanduser()
    folder = (base / name).resolve()
    if not (folder / _MARK).exists():
        _create(folder, url)
    return folder


def _create(root: Path, url: str | None = None) -> None:
    if root.exists() and not root.is_dir():
        raise CatalogError(f"{root} is a file: name a folder as the workspace")
    scratch = root / SCRATCH
    scratch.mkdir(parents=True, exist_ok=True)
    mark: dict[str, Any] = {"version": _LOCAL, "id": uuid4().hex}
    if url:
        mark = {**mark, "version": _AT_A_URL, "url": url}
    _files.create_whole(root / _MARK, json.dumps(mark).encode(), scratch)


def _find(objects: Objects, create: bool) -> None:
    """Make sure that there is a workspace at the URL, and one that this SAGE can read."""
    mark = json.dumps({"version": _LOCAL, "id": uuid4().hex}).encode()
    try:
        found = _parsed(objects.read(_MARK), f"{objects.url}/{_MARK}")
    except FileNotFoundError:
        if not create:
            raise CatalogError(
                f"{objects.url} is no workspace: check the URL, or start one with"
                f" `sage run --workspace {objects.url}`"
            ) from None
        objects.create(_MARK, mark)
        return
    _refuse_newer(found, objects.url)


def _read_mark(root: Path) -> dict[str, Any]:
    try:
        mark = _parsed((root / _MARK).read_bytes(), str(root / _MARK))
    except FileNotFoundError:
        raise CatalogError(
            f"{root} is no workspace: check the path, or start one with `sage run --workspace {root}`"
        ) from None
    _refuse_newer(mark, str(root))
    return mark


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    try:
        mark: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise CatalogError(
            f"{where} is damaged ({error}): restore it from a backup, or remove it and keep the rest"
        ) from error
    return mark


def _refuse_newer(mark: dict[str, Any], where: str) -> None:
    if mark["version"] > _VERSION:
        raise CatalogError(f"{where} was made by a newer SAGE: update this one to open it")
