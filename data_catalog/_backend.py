"""Where a catalog is kept: in the folder of a workspace, or at its URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Protocol

from data_catalog import _files, _lease, _remote_lease
from data_catalog._folder import Folder, LocalFolder
from data_catalog._lease import Held, Lease
from data_catalog._log import StageLog
from data_catalog._numbered_log import NumberedLog
from data_catalog._objects import Objects, RemoteFolder

_RESERVE_BYTES = 1 << 20


class Backend(Protocol):
    """What a catalog needs of where it is kept."""

    @property
    def snapshots(self) -> Folder:
        """Where frozen lists of shards are."""

    @property
    def notes(self) -> Folder:
        """Where is kept what was found by reading the logs."""

    def log(self, stage: str) -> StageLog:
        """The log of a stage."""

    def locked(self, stage: str) -> AbstractContextManager[None]:
        """What is held while a stage's log is written to."""

    def hold(self, stage: str, owner: str) -> AbstractContextManager[Lease]:
        """Be the one runner of a stage (or of what else is so called); LeaseHeld if there is another."""

    def look(self, stage: str) -> Held | None:
        """Who holds a stage, and whether that one is dead."""

    def make_room(self) -> bool:
        """Give up what was kept back for a full disk; False if there is nothing to give up."""


class LocalBackend:
    """Files under ``catalog/``, ordered by ``flock``."""

    def __init__(self, root: Path) -> None:
        self._root = root / "catalog"
        self._temporary = self._folder("tmp")
        self._locks, self._leases = self._folder("locks"), self._folder("leases")
        self._events = self._folder("events")
        self.snapshots = LocalFolder(self._folder("snapshots"), self._temporary)
        self.notes = LocalFolder(self._folder("notes"), self._temporary)

    def log(self, stage: str) -> StageLog:
        return StageLog(stage, LocalFolder(self._events / f"stage={stage}", self._temporary))

    def locked(self, stage: str) -> AbstractContextManager[None]:
        return _files.locked(self._locks / stage)

    @contextmanager
    def hold(self, stage: str, owner: str) -> Iterator[Lease]:
        path, lock = self._leases / f"{stage}.json", self._locks / stage
        with _lease.hold(path, lock, self._temporary, stage, owner) as lease:
            self._prepare()
            yield lease

    def look(self, stage: str) -> Held | None:
        return _lease.look(self._leases / f"{stage}.json")

    def make_room(self) -> bool:
        if not self._reserve.exists():
            return False
        self._reserve.unlink()
        return True

    @property
    def _reserve(self) -> Path:
        return self._root / "reserve"

    def _prepare(self) -> None:
        """Tidy up after runners that were killed, and put the reserve back for a full disk."""
        _files.sweep(self._temporary)
        with suppress(OSError):
            if not self._reserve.exists():
                _files.create_whole(self._reserve, bytes(_RESERVE_BYTES), self._temporary)

    def _folder(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


class RemoteBackend:
    """Objects under ``catalog/``, ordered by creating them if they are absent."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self.snapshots = self._folder("snapshots")
        self.notes = self._folder("notes")

    def log(self, stage: str) -> StageLog:
        return NumberedLog(stage, self._folder(f"events/stage={stage}"))

    @contextmanager
    def locked(self, stage: str) -> Iterator[None]:
        """Nothing: the log's numbers order its writers."""
        yield

    def hold(self, stage: str, owner: str) -> AbstractContextManager[Lease]:
        return _remote_lease.hold(self._folder(f"leases/{stage}"), stage, owner)

    def look(self, stage: str) -> Held | None:
        return _remote_lease.look(self._folder(f"leases/{stage}"))

    def make_room(self) -> bool:
        return False

    def _folder(self, name: str) -> RemoteFolder:
        return RemoteFolder(self._objects, f"catalog/{name}")
