"""Which process wrote this, and does it still run? Used for leases and for sweeping up after the dead."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Process:
    """A process that no other can be mistaken for, on any host and at any time.

    Attributes:
        host: twelve hex digits that stand for host name, boot and PID namespace, because a PID means
            nothing outside its namespace and nothing after a reboot.
        pid: process id within that namespace.
        start: start time in the operating system's own count, so that a reused PID is told apart.
    """

    host: str
    pid: int
    start: int

    @classmethod
    def current(cls) -> Process:
        return _own()

    @property
    def tag(self) -> str:
        """Short and safe as a part of a file name; :meth:`parse` reads it."""
        return f"{self.host}-{self.pid}-{self.start}"

    @classmethod
    def parse(cls, name: str) -> Process | None:
        """The process whose tag ``name`` begins with, or None."""
        host, _, rest = name.partition("-")
        numbers = rest.split("-")
        if len(numbers) < 2 or not (numbers[0].isdecimal() and numbers[1].isdecimal()):
            return None
        return cls(host, int(numbers[0]), int(numbers[1]))

    def is_dead(self) -> bool | None:
        """Whether it has ended; None if it ran elsewhere, so that this host cannot tell."""
        if self.host != _host():
            return None
        return _start(self.pid) != self.start


@cache
def _own() -> Process:
    start = _start(os.getpid())
    assert start is not None
    return Process(_host(), os.getpid(), start)


os.register_at_fork(after_in_child=_own.cache_clear)


@cache
def _host() -> str:
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    parts = [socket.gethostname()]
    if boot.exists():
        parts += [boot.read_text().strip(), str(namespace.readlink())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _start(pid: int) -> int | None:
    """When the process started; None if there is none, or only its unreaped remains."""
    if Path("/proc/self/stat").exists():
        return _start_in_proc(pid)
    try:
        process = psutil.Process(pid)
        zombie = process.status() == psutil.STATUS_ZOMBIE
        return None if zombie else int(process.create_time() * 1000)
    except psutil.Error:
        return None


def _start_in_proc(pid: int) -> int | None:
    """Clock ticks since boot, which setting the wall clock does not move (psutil's time it does)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field is the command in brackets, and may hold blanks and brackets itself.
    fields = text[text.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])
