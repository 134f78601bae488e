"""The event log of a stage at a URL, where no lock is to be had: the next number is the lock.

Files are named ``event-<number>.parquet``, without a gap. Who appends takes the number after the last that
it has read and creates that file if it is absent; when another was faster, it reads the other's events and
tries the number after them. So every file was written by one who knew all before it. A runner that takes
over a lease appends a file without events first: what its predecessor was about to write then meets a
number that is taken, and so finds out (see :meth:`NumberedLog.fence`).

A number must not become free again while somebody may still want it: files that were merged stay for an
hour, the last one for good, and who has not looked for ten minutes looks again before it writes.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from uuid import uuid4

from data_catalog import _schema
from data_catalog._errors import CatalogError
from data_catalog._log import Generation, StageLog, encoded, parquet
from data_catalog._objects import RemoteFolder
from data_catalog._schema import StageEvent

_FRESH_S = 600.0
_TOO_LATE_S = 1800.0
_KEPT_S = 3600.0
_ATTEMPTS = 10
_NAME = re.compile(r"event-(\d{12})\.parquet")


class NumberedLog(StageLog):
    """A :class:`StageLog` that any number of writers append to without a lock."""

    _folder: RemoteFolder

    def __init__(self, stage: str, folder: RemoteFolder) -> None:
        super().__init__(stage, folder)
        self._last = self._merged = 0
        self._looked_at = -float("inf")
        """When there was no file after ``_last``, by a clock that goes on while the machine sleeps."""
        self._begun = False

    def append(self, events: Sequence[StageEvent], allowed: Callable[[], None]) -> list[StageEvent]:
        """Write events as one file; no lock is needed."""
        if not self._begun:
            self._begin()
            self._begun = True
        while True:
            self._look_unless_fresh()
            allowed()
            numbered = self._numbered(events)
            if self._commit(numbered):
                break
            self.refresh()
        self._tidy()
        return numbered

    def compact(self, *, whole: bool, without: Collection[str] = ()) -> None:
        """As :meth:`StageLog.compact`; if another does it at the same time, one of the two gives up.

        With ``without`` it does not give up, and what must stay for its number is written anew, too.

        Raises:
            CatalogError: others compact again and again.
        """
        for _ in range(_ATTEMPTS if without else 1):
            with suppress(FileNotFoundError):
                super().compact(whole=whole, without=without)
                if not without or self._cleared(without):
                    super().refresh()
                    return
        super().refresh()
        if without:
            raise CatalogError(
                f"{self._folder} was compacted by others {_ATTEMPTS} times in a row: run the command again"
            )

    def _cleared(self, items: Collection[str]) -> bool:
        """Write event files without the items anew; whether nothing of them is left."""
        for name in self._names("event-"):
            table = self._read(name)
            kept = _schema.without(table, items)
            if kept.num_rows < table.num_rows:
                self._folder.write(name, parquet(kept))
        whole = self.table()
        return bool(_schema.without(whole, items).num_rows == whole.num_rows)

    def _forget(self) -> None:
        super()._forget()
        self._last = self._merged = 0
        self._looked_at = -float("inf")

    def fence(self) -> None:
        """Take a number, so that whoever was about to write notices that the stage has another runner."""
        self.append([], lambda: None)

    def refresh(self) -> None:
        """Take in what has come: the next files if we looked lately, else by listing the folder."""
        if _now() - self._looked_at > _FRESH_S:
            super().refresh()
        while True:
            before, name = _now(), _name(self._last + 1)
            try:
                self._absorb(self._batches(name))
            except FileNotFoundError:
                self._looked_at = before
                return
            self._last += 1

    def _look_unless_fresh(self) -> None:
        if _now() - self._looked_at > _FRESH_S:
            self.refresh()

    def _commit(self, events: Sequence[StageEvent]) -> bool:
        """Write under the next number; False if it is taken."""
        known, name = self._looked_at, _name(self._last + 1)
        before = _now()
        if not self._folder.create(name, encoded(events, {b"sage.catalog.commit": uuid4().bytes})):
            return False
        if _now() - known > _TOO_LATE_S:
            raise CatalogError(
                f"{self._folder}/{name} took longer to write than others wait"
                f" ({_TOO_LATE_S / 60:.0f} minutes), so it may not count: run the stage again"
            )
        self._absorb(_schema.to_table(events).to_batches())
        self._last, self._looked_at = self._last + 1, before
        return True

    def _counted(self, generation: Generation, names: list[str]) -> None:
        found = {_number(name) for name in names}
        self._merged = max((_number(name) for name in generation.covers), default=0)
        last = self._merged or min(found - {0}, default=1) - 1
        # A long listing may hold a file and not the one before it, which came after its page was made.
        while last + 1 in found:
            last += 1
        self._last = max(self._last, last)

    @property
    def _loose(self) -> int:
        return self._last - self._merged

    def _knows(self, name: str) -> bool:
        return super()._knows(name) or 0 < _number(name) <= self._last

    def _discard(self, names: list[str]) -> list[str]:
        """Merged files go when nobody can be about to take their numbers; never the last of all."""
        last = max(map(_number, self._names("event-")), default=0)
        ages = self._folder.ages() if names else {}
        old = [n for n in names if ages.get(n, 0.0) > _KEPT_S and _number(n) != last]
        self._remove(old)
        return sorted(set(names) - set(old))


def _name(number: int) -> str:
    return f"event-{number:012d}.parquet"


def _number(name: str) -> int:
    """The number in a file's name; 0 in one that was named otherwise, as in a copy of a local workspace."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else 0


def _now() -> float:
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
