"""The catalog of a workspace: what was judged, how, and what came of it."""

from __future__ import annotations

import errno
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

import pandas as pd

from data_catalog import _files, _schema
from data_catalog._errors import StoreError
from data_catalog._lease import Held, Lease, hold, look
from data_catalog._log import StageLog
from data_catalog._schema import StageEvent
from data_catalog._snapshot import Snapshot
from data_catalog._store import Store
from sage_core.types import Artifact, Reason, Stage

_RESERVE_BYTES = 1 << 20


class Catalog:
    """Append-only log of :class:`StageEvent`, its latest-wins view, leases and snapshots.

    Safe for threads, and for processes on all hosts that share the workspace over a file system whose
    ``flock`` works between them (local disks, NFS 4, Lustre).
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._root = store.root / "catalog"
        self._temporary = self._folder("tmp")
        self._locks, self._leases = self._folder("locks"), self._folder("leases")
        self._snapshots = self._folder("snapshots")
        events = self._folder("events")
        self._logs = {
            stage.value: StageLog(stage.value, events / f"stage={stage}", self._temporary)
            for stage in Stage
        }
        self._held: dict[str, Lease] = {}
        self._mutex = threading.RLock()

    def append(self, events: Sequence[StageEvent]) -> list[StageEvent]:
        """Record events and return them with their sequence numbers.

        One file for each stage among them, so the events of a stage appear together or not at all.

        Raises:
            LeaseLost: this process took the stage's lease and has lost it; nothing is recorded.
            ValueError: an event with an unknown stage, verdict or reason; nothing is recorded.
        """
        stages: dict[str, list[tuple[int, StageEvent]]] = {}
        for index, event in enumerate(events):
            event.check()
            stages.setdefault(str(event.stage), []).append((index, event))
        numbered: dict[int, StageEvent] = {}
        for stage, group in stages.items():
            written = self._append(stage, [event for _, event in group])
            numbered.update(zip((index for index, _ in group), written, strict=True))
        return [numbered[index] for index in range(len(events))]

    def latest(
        self,
        stage: str | None = None,
        item: str | None = None,
        verdict: str | None = None,
        parent: str | None = None,
    ) -> list[StageEvent]:
        """The latest event of each item at each stage, filtered, sorted by stage (in order) and item."""
        with self._mutex:
            logs = [self._log(stage)] if stage is not None else list(self._logs.values())
            for log in logs:
                log.refresh()
            groups = [sorted(log.latest.values(), key=lambda event: event.item) for log in logs]
        return [
            event
            for event in chain(*groups)
            if item in (None, event.item)
            and verdict in (None, event.verdict)
            and parent in (None, event.parent)
        ]

    def find(self, item: str, stage: str) -> StageEvent | None:
        """The latest event of one item at one stage."""
        with self._mutex:
            log = self._log(stage)
            log.refresh()
            return log.latest.get(item)

    def next_attempt(self, item: str, stage: str) -> int:
        """The number of the attempt that is about to be made: 1 for the first."""
        last = self.find(item, stage)
        return last.attempt + 1 if last else 1

    def frame(self, *, all: bool = False) -> pd.DataFrame:
        """The latest view as a table, or the whole log; one row an event, columns as the event's fields."""
        events = self._all() if all else self.latest()
        return pd.DataFrame(_schema.plain(events), columns=list(_schema.COLUMNS))

    @contextmanager
    def lease(self, stage: str, owner: str) -> Iterator[Lease]:
        """Be the one runner of a stage while the block runs; ``owner`` is what others are told.

        While it is held, every :meth:`append` to the stage in this process makes sure that it still is.

        Raises:
            LeaseHeld: a living runner holds it; the message names it.
        """
        log = self._log(stage)
        path, lock = self._leases / f"{log.stage}.json", self._lock(log)
        with hold(path, lock, self._temporary, log.stage, owner) as lease:
            self._prepare()
            self._held[log.stage] = lease
            try:
                yield lease
            finally:
                del self._held[log.stage]

    @contextmanager
    def turn(self, name: str, owner: str) -> Iterator[None]:
        """Be the only one to do something that is no stage, such as a whole night, while the block runs.

        Raises:
            LeaseHeld: a living process is at it; the message names it.
        """
        path, lock = self._leases / f"{name}.json", self._locks / name
        with hold(path, lock, self._temporary, name, owner):
            yield

    def holder(self, stage: str) -> Held | None:
        """Who holds a stage's lease, and whether that one is dead; None if it is free."""
        return look(self._leases / f"{self._log(stage).stage}.json")

    def snapshot(
        self,
        shards: Sequence[Artifact],
        query: dict[str, object],
        parent: str | None = None,
    ) -> Snapshot:
        """Freeze a list of shards as ``catalog/snapshots/<id>.json``; the same list gives the same id.

        Raises:
            StoreError: a shard is not there as recorded.
        """
        for shard in shards:
            if not self._store.verify(shard):
                raise StoreError(
                    f"shard {shard.path} is missing or has another size than recorded: run"
                    " `sage assemble` again"
                )
        snapshot = Snapshot.of(shards, query, parent)
        snapshot.write(self._snapshots, self._temporary)
        return snapshot

    def load_snapshot(self, name: str) -> Snapshot:
        """The snapshot with this id, checked against it."""
        return Snapshot.read(self._snapshots, name)

    def snapshots(self) -> list[str]:
        """The ids of all snapshots, sorted."""
        return sorted(path.stem for path in self._snapshots.glob("*.json"))

    def compact(self) -> None:
        """Merge each stage's files into one; readers and writers may go on meanwhile."""
        with self._mutex:
            for log in self._logs.values():
                with _files.locked(self._lock(log)):
                    log.compact(whole=True)

    def expunge(self, items: Collection[str]) -> list[str]:
        """Merge as :meth:`compact` does, without these items' events and their parts'.

        What says that an item is forgotten stays. Other processes may hold the events in memory until they
        end. Returns the items of which something was there, sorted.
        """
        wanted = set(items)
        with self._mutex:
            found = {
                event.item
                for event in self._all()
                if {event.item, event.parent} & wanted and event.reason != Reason.FORGOTTEN.value
            }
            for log in self._logs.values() if found else ():
                with _files.locked(self._lock(log)):
                    log.compact(whole=True, without=wanted)
        return sorted(found)

    def _append(self, stage: str, events: list[StageEvent]) -> list[StageEvent]:
        with self._mutex, _files.locked(self._lock(self._logs[stage])):
            lease = self._held.get(stage)
            if lease is not None:
                lease.check()
            try:
                return self._logs[stage].append(events)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._reserve.exists():
                    raise
                # The verdict "disk_full" must find room when nothing else does.
                self._reserve.unlink()
                return self._logs[stage].append(events)

    def _all(self) -> Iterator[StageEvent]:
        for log in self._logs.values():
            yield from _schema.to_events(log.table(), log.stage)

    @property
    def _reserve(self) -> Path:
        return self._root / "reserve"

    def _prepare(self) -> None:
        """Tidy up after runners that were killed, and put the reserve back for a full disk."""
        self._store.sweep()
        _files.sweep(self._temporary)
        with suppress(OSError):
            if not self._reserve.exists():
                _files.create_whole(self._reserve, bytes(_RESERVE_BYTES), self._temporary)

    def _log(self, stage: str) -> StageLog:
        return self._logs[Stage(stage).value]

    def _lock(self, log: StageLog) -> Path:
        return self._locks / log.stage

    def _folder(self, name: str) -> Path:
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder
