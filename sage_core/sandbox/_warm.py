"""Processes that have imported what many children need, and are forked into them.

Importing OpenCV, COLMAP and the rest takes up to a second of CPU, as long as the work on a short clip. A warm
process does it once and then nothing but fork. Its children are handed to the runner (a subreaper for just
that moment), so that they are waited for, accounted and killed as any other.
"""

from __future__ import annotations

import atexit
import ctypes
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from sage_core.errors import SandboxError

_NO_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""A process with threads cannot safely be forked, and pyarrow starts one."""


@dataclass
class Forked:
    """A child as ``subprocess.Popen`` has it; ``returncode`` is None until it was waited for."""

    pid: int
    returncode: int | None = None


class Warm:
    """A process that waits with its imports done; gone when this one is."""

    def __init__(self, imports: Sequence[str], environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        words = [sys.executable, "-m", "sage_core.sandbox._child", str(os.getpid())]
        with theirs:
            self._process = subprocess.Popen(
                [*words, "warm", str(theirs.fileno()), *imports],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env={**environment, **_NO_THREADS},
            )

    def fork(self, request: str, reply: str, log: int) -> Forked:
        """A child in a session of its own that answers the request; ``log``: file descriptor of its output.

        Raises:
            SandboxError: the process is not there any more.
        """
        wanted = json.dumps([request, reply, str(Path.cwd())]).encode()
        with _adopting():
            try:
                socket.send_fds(self._channel, [wanted], [log])
                pid = int(self._channel.recv(64) or 0)
            except OSError:
                pid = 0
        if not pid:
            raise SandboxError("a process that children are forked from died")
        return Forked(pid)

    def close(self) -> None:
        """End it; its children go on."""
        self._channel.close()
        self._process.kill()
        self._process.wait()


_warm: dict[tuple[int, tuple[str, ...]], Warm] = {}
_starting = Lock()
_forking = Lock()


def warm(imports: Sequence[str], environment: Mapping[str, str]) -> Warm:
    """The process with these imports and this environment; started when there is none yet.

    A fork of this process does not share its warm ones: their children would be the other's.
    """
    key = (os.getpid(), tuple(imports))
    with _starting:
        known = _warm.get(key)
        if known is None or known.environment != environment:
            if known is not None:
                known.close()
            known = _warm[key] = Warm(imports, environment)
        return known


def forget(dead: Warm) -> None:
    """Let the next call start another in its place."""
    with _starting:
        for key in [key for key, value in _warm.items() if value is dead]:
            del _warm[key]
    dead.close()


@atexit.register
def _close_all() -> None:
    for (owner, _), process in _warm.items():
        if owner == os.getpid():
            process.close()


@contextmanager
def _adopting() -> Iterator[None]:
    """Within, what a descendant leaves behind becomes a child of this process, not of process 1.

    Only then: nobody here would wait for other orphans, and they would stay as zombies.
    """
    with _forking:
        _adopt_orphans(True)
        try:
            yield
        finally:
            _adopt_orphans(False)


def _adopt_orphans(on: bool) -> None:
    pr_set_child_subreaper = 36
    if ctypes.CDLL(None, use_errno=True).prctl(pr_set_child_subreaper, int(on), 0, 0, 0):
        raise OSError(ctypes.get_errno(), "this process cannot become a subreaper")
