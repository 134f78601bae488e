"""One runner for each stage of a workspace at a URL: leases without a lock.

A stage has terms, numbered from 1, each a file that names its holder and is created if absent; the highest
counts. Who wants the stage creates the term after the last one if that has ended: its file ``end-…`` is
there, its process is known to be dead, or its heartbeat, a file that the holder writes anew again and
again, is too old by the store's clock.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from uuid import uuid4

from data_catalog._errors import CatalogError, LeaseHeld
from data_catalog._lease import Held, Holder, Lease, described
from data_catalog._objects import RemoteFolder
from data_catalog._process import Process

HEARTBEAT_S = 10.0
STALE_S = 120.0


@dataclass(frozen=True)
class RemoteLease(Lease):
    """The right to run a stage for a term."""

    holder: Holder
    term: int
    folder: RemoteFolder

    @property
    def successor(self) -> Holder | None:
        """Who holds the stage now, if not we."""
        last = _last_term(self.folder.names())
        return None if last == self.term else _holder(self.folder, last)

    @property
    def is_lost(self) -> bool:
        return _last_term(self.folder.names()) != self.term

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT_S):
            with suppress(CatalogError):  # A store that is away for a moment must not end the beat.
                self.folder.write(f"beat-{self.term:06d}", b"")


def look(folder: RemoteFolder) -> Held | None:
    """Who holds the stage; nothing is changed."""
    names = folder.names()
    last = _last_term(names)
    if not last or f"end-{last:06d}" in names:
        return None
    return Held(described(_holder(folder, last)), _has_ended(folder, last, names))


@contextmanager
def hold(folder: RemoteFolder, stage: str, owner: str) -> Iterator[RemoteLease]:
    """Hold the stage while the block runs.

    Raises:
        LeaseHeld: a living runner holds it.
    """
    lease = _take(folder, stage, owner)
    stop = threading.Event()
    beat = threading.Thread(target=lease._beat, args=(stop,), name=f"lease-{stage}", daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        stop.set()
        beat.join()
        with suppress(CatalogError):  # not told, it ends with its heartbeat
            folder.write(f"end-{lease.term:06d}", b"")


def _take(folder: RemoteFolder, stage: str, owner: str) -> RemoteLease:
    names = folder.names()
    last = _last_term(names)
    if last and not _has_ended(folder, last, names):
        raise LeaseHeld(
            f"stage {stage} of this workspace is being run by {described(_holder(folder, last))}: wait for"
            f" it, or end it; should it be dead on a host out of reach, its lease ends {STALE_S:.0f} s after"
            " its last heartbeat"
        )
    holder = Holder(stage, owner, socket.gethostname(), Process.current(), uuid4().hex)
    lease = RemoteLease(holder, last + 1, folder)
    if not folder.create(_term(last + 1), json.dumps(asdict(holder)).encode()) or lease.is_lost:
        raise LeaseHeld(f"another runner took stage {stage} of this workspace in the same moment")
    folder.remove(name for name in names if 0 < _number(name) <= last)
    return lease


def _has_ended(folder: RemoteFolder, term: int, names: list[str]) -> bool:
    if f"end-{term:06d}" in names:
        return True
    holder = _holder(folder, term)
    dead = holder.process.is_dead() if holder else None
    if dead is None:
        beat = f"beat-{term:06d}"
        ages = folder.ages()
        return ages.get(beat, ages.get(_term(term), 0.0)) > STALE_S
    return dead


def _holder(folder: RemoteFolder, term: int) -> Holder | None:
    try:
        return Holder.parse(folder.read(_term(term)))
    except FileNotFoundError:
        return None


def _last_term(names: list[str]) -> int:
    return max((_number(name) for name in names if name.startswith("term-")), default=0)


def _number(name: str) -> int:
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _term(number: int) -> str:
    return f"term-{number:06d}"
