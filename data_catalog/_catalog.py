"""The catalog of a workspace: what was judged, how, and what came of it."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any, TypeVar

import pandas as pd

from data_catalog import _schema
from data_catalog._backend import Backend, LocalBackend
from data_catalog._errors import StoreError
from data_catalog._lease import Held, Lease
from data_catalog._log import StageLog
from data_catalog._notes import Note
from data_catalog._schema import StageEvent
from data_catalog._snapshot import Snapshot
from data_catalog._store import Store
from sage_core.types import Artifact, Reason, Stage

T = TypeVar("T")

WHOLE_NIGHT = "nightly"
"""The turn (:meth:`Catalog.turn`) that a whole night takes, so that two do not overlap."""
_NOTES_VERSION = 1


class Catalog:
    """Append-only log of :class:`StageEvent`, its latest-wins view, leases and snapshots.

    Safe for threads, and for processes on all hosts that share the workspace: over a file system whose
    ``flock`` works between them (local disks, NFS 4, Lustre), or at a URL.
    """

    def __init__(self, store: Store, backend: Backend | None = None) -> None:
        self._store = store
        self._backend: Backend = backend or LocalBackend(store.root)
        self._logs = {stage.value: self._backend.log(stage.value) for stage in Stage}
        self._held: dict[str, Lease] = {}
        self._remembered: dict[str, tuple[tuple[int, ...], Any]] = {}
        self._mutex = threading.RLock()
        self._thread = threading.local()

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
        stages = [stage] if stage is not None else list(self._logs)
        return [
            event
            for one in stages
            for event in sorted(self.each(one, verdict), key=lambda event: event.item)
            if item in (None, event.item) and (parent is None or parent == event.parent)
        ]

    def each(self, stage: str | None = None, verdict: str | None = None) -> Iterator[StageEvent]:
        """As :meth:`latest`, one by one and within a stage in no order: of very many none is kept."""
        with self._mutex:
            logs = [self._log(stage)] if stage is not None else list(self._logs.values())
            for log in logs:
                self._refresh(log)
            views = [log.latest.events() for log in logs]
        for event in chain(*views):
            if verdict is None or verdict == event.verdict:
                yield event

    def find(self, item: str, stage: str) -> StageEvent | None:
        """The latest event of one item at one stage."""
        with self._mutex:
            log = self._log(stage)
            self._refresh(log)
            return log.latest.get(item)

    @contextmanager
    def still(self) -> Iterator[None]:
        """For asking much at once: in the block this thread does not see what others append meanwhile."""
        with self._mutex:
            for log in self._logs.values():
                self._refresh(log)
        before, self._thread.still = self._is_still, True
        try:
            yield
        finally:
            self._thread.still = before

    def remembered(self, name: str, stages: Sequence[str], make: Callable[[], T]) -> T:
        """What ``make`` makes of the latest events of these stages: again only if there are others since.

        For what several ask for in the course of a night; whoever gets it must not change it.
        """
        logs = [self._log(stage) for stage in stages]
        with self._mutex:
            for log in logs:
                self._refresh(log)
            # Should more come while it is made, it is made again the next time.
            state = tuple(log.latest.changes for log in logs)
            before = self._remembered.get(name)
        if before is not None and before[0] == state:
            return before[1]  # type: ignore[no-any-return]
        made = make()
        with self._mutex:
            self._remembered[name] = (state, made)
        return made

    def note(self, name: str, stages: Iterable[str], given: Any = None) -> Note:
        """What was found last by whoever asked this of these stages, unless they have news since.

        Unlike what is :meth:`remembered` it outlives the process, and a night without news need not read the
        log. ``given`` (plain data) is what else the answer depends on. One note is kept under a name.
        """
        logs = [self._log(stage) for stage in stages]
        if self._is_still:  # this thread looks at an older state than the files tell
            return Note.blank()
        with self._mutex:
            # Taken before anything is read: should more come meanwhile, the note is out of date at once.
            state = [_NOTES_VERSION, [log.state() for log in logs], given]
        return Note(self._backend.notes, name, json.dumps(state).encode())

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
        with self._backend.hold(log.stage, owner) as lease:
            log.fence()
            self._store.sweep()
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
        with self._backend.hold(name, owner):
            yield

    def holder(self, stage: str) -> Held | None:
        """Who holds a stage's lease, and whether that one is dead; None if it is free."""
        return self._backend.look(self._log(stage).stage)

    def at_turn(self, name: str) -> Held | None:
        """Who is at something that :meth:`turn` guards, and whether that one is dead; None if nobody is."""
        return self._backend.look(name)

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
        snapshot.write(self._backend.snapshots)
        return snapshot

    def load_snapshot(self, name: str) -> Snapshot:
        """The snapshot with this id, checked against it."""
        return Snapshot.read(self._backend.snapshots, name)

    def snapshots(self) -> list[str]:
        """The ids of all snapshots, sorted."""
        names = self._backend.snapshots.names()
        return [name.removesuffix(".json") for name in names if name.endswith(".json")]

    def compact(self) -> None:
        """Merge each stage's files into one; readers and writers may go on meanwhile."""
        with self._mutex:
            for log in self._logs.values():
                with self._backend.locked(log.stage):
                    log.compact(whole=True)

    def expunge(self, items: Collection[str]) -> list[str]:
        """Merge as :meth:`compact` does, without these items' events and their parts'.

        What says that an item is forgotten stays. Other processes may hold the events in memory until they
        end. Returns the items of which something was there, sorted.
        """
        wanted = set(items)
        with self._mutex:
            found = {
                item
                for log in self._logs.values()
                for item, parent, reason in _schema.rows(log.table(), "item", "parent", "reason")
                if {item, parent} & wanted and reason != Reason.FORGOTTEN.value
            }
            for log in self._logs.values() if found else ():
                with self._backend.locked(log.stage):
                    log.compact(whole=True, without=wanted)
            self._backend.notes.remove(self._backend.notes.names())  # they may name them
        return sorted(found)

    def _append(self, stage: str, events: list[StageEvent]) -> list[StageEvent]:
        log, lease = self._logs[stage], self._held.get(stage)
        allowed = lease.check if lease is not None else _nobody_minds
        with self._mutex, self._backend.locked(stage):
            try:
                return log.append(events, allowed)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._backend.make_room():
                    raise
                # The verdict "disk_full" must find room when nothing else does.
                return log.append(events, allowed)

    def _all(self) -> Iterator[StageEvent]:
        for log in self._logs.values():
            yield from _schema.to_events(log.table(), log.stage)

    @property
    def _is_still(self) -> bool:
        return getattr(self._thread, "still", False)

    def _refresh(self, log: StageLog) -> None:
        if not self._is_still:
            log.refresh()

    def _log(self, stage: str) -> StageLog:
        log = self._logs.get(stage)
        return self._logs[Stage(stage).value] if log is None else log


def _nobody_minds() -> None:
    """What an append without a lease asks for leave."""
