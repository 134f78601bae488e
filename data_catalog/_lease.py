"""One runner for each stage of a workspace, and a successor when the runner dies.

A lease is a small file that names its holder; its modification time is the heartbeat. On the holder's
own host the process is asked for; from another host the heartbeat's age decides, by the file system's
own clock, since two hosts' clocks need not agree.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

from data_catalog import _files
from data_catalog._errors import LeaseHeld, LeaseLost
from data_catalog._process import Process

HEARTBEAT_S = 5.0
STALE_S = 60.0


@dataclass(frozen=True)
class Holder:
    """What a lease file says."""

    stage: str
    owner: str
    hostname: str
    process: Process
    token: str

    @classmethod
    def read(cls, path: Path) -> Holder | None:
        try:
            return cls.parse(path.read_bytes())
        except FileNotFoundError:
            return None

    @classmethod
    def parse(cls, text: bytes) -> Holder:
        data = json.loads(text)
        return cls(**data | {"process": Process(**data["process"])})


class Lease(ABC):
    """The right to run a stage; :meth:`check` it before what only its holder may do."""

    holder: Holder

    @property
    @abstractmethod
    def is_lost(self) -> bool:
        """Whether the stage is not ours any more."""

    @property
    @abstractmethod
    def successor(self) -> Holder | None:
        """Who holds the stage now, if anybody does."""

    def check(self) -> None:
        """Go on if the lease is still ours.

        Raises:
            LeaseLost: another runner has taken it over, or somebody removed it.
        """
        if self.is_lost:
            now = self.successor
            by = f"taken over by {described(now)}" if now else "removed"
            raise LeaseLost(
                f"the lease of stage {self.holder.stage} was {by}: this runner stood still for too"
                " long and must stop; what it recorded until then stands, run the stage again"
            )


@dataclass(frozen=True)
class LocalLease(Lease):
    """A lease that is a file."""

    holder: Holder
    path: Path

    @property
    def is_lost(self) -> bool:
        holder = Holder.read(self.path)
        return holder is None or holder.token != self.holder.token

    @property
    def successor(self) -> Holder | None:
        return Holder.read(self.path)

    def _beat(self, stop: threading.Event) -> None:
        while not stop.wait(HEARTBEAT_S):
            with suppress(OSError):  # A disk that is away for a moment must not end the beat.
                if self.is_lost:
                    return
                os.utime(self.path)


@dataclass(frozen=True)
class Held:
    """Who holds a stage, in words, and whether that one is dead (or has been silent for too long)."""

    who: str
    is_gone: bool


def look(path: Path) -> Held | None:
    """Who holds the lease at ``path``; nothing is changed."""
    holder = Holder.read(path)
    return None if holder is None else Held(described(holder), _is_gone(holder, path))


@contextmanager
def hold(path: Path, lock: Path, temporary: Path, stage: str, owner: str) -> Iterator[LocalLease]:
    """Hold the lease at ``path`` while the block runs.

    Raises:
        LeaseHeld: a living runner holds it.
    """
    with _files.locked(lock):
        lease = _take(path, temporary, stage, owner)
    stop = threading.Event()
    beat = threading.Thread(target=lease._beat, args=(stop,), name=f"lease-{stage}", daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        stop.set()
        beat.join()
        with _files.locked(lock):
            if not lease.is_lost:
                path.unlink(missing_ok=True)


def _take(path: Path, temporary: Path, stage: str, owner: str) -> LocalLease:
    rival = Holder.read(path)
    if rival is not None:
        if not _is_gone(rival, path):
            raise LeaseHeld(
                f"stage {stage} of this workspace is being run by {described(rival)}: wait for it,"
                f" or end it; should it be dead on a host out of reach, its lease ends"
                f" {STALE_S:.0f} s after its last heartbeat"
            )
        path.unlink()
    holder = Holder(stage, owner, socket.gethostname(), Process.current(), uuid4().hex)
    created = _files.create_whole(path, json.dumps(asdict(holder)).encode(), temporary)
    if not created:
        raise LeaseHeld(f"another runner took stage {stage} of this workspace in the same moment")
    return LocalLease(holder, path)


def _is_gone(holder: Holder, path: Path) -> bool:
    dead = holder.process.is_dead()
    if dead is None:
        return _files.file_system_time(path.parent) - path.stat().st_mtime > STALE_S
    return dead


def described(holder: Holder | None) -> str:
    """Who that is, for people."""
    if holder is None:
        return "a runner that has just gone"
    return f"{holder.owner} (process {holder.process.pid} on {holder.hostname})"
