"""Start a child process, watch its time and memory, end its whole process group when it oversteps."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol

from sage_core.errors import MediaError, SageError, SandboxError, disk_full
from sage_core.sandbox import _warm
from sage_core.types import Reason

_POLL_S = 0.05
_PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 2**20
_LOG_TAIL_BYTES = 8_000
_DISK_FULL = ("No space left on device", "Disk quota exceeded", "database or disk is full")
_ADDRESS = re.compile(r" @ 0x[0-9a-f]+")
_CHILD = "sage_core.sandbox._child"


@dataclass(frozen=True)
class Limits:
    """What a child process may use.

    Attributes:
        wall_s: seconds on the clock before the whole process group is killed.
        memory_mb: resident memory, in MiB, summed over the child and its descendants.
        cpu_s: CPU seconds of one process (``RLIMIT_CPU``); None for no limit of its own.
        file_mb: largest file that it may write, in MiB (``RLIMIT_FSIZE``); None for no limit.
        threads: what ``OMP_NUM_THREADS`` and its kin are set to.
    """

    wall_s: float
    memory_mb: int = 2048
    cpu_s: int | None = None
    file_mb: int | None = None
    threads: int = 1


class Process(Protocol):
    """A child of this process; ``returncode`` is None until it was waited for."""

    pid: int
    returncode: int | Any


@dataclass
class Usage:
    """What the children that ended within :func:`metered` used, as the kernel accounted for it."""

    cpu_s: float = 0.0
    peak_mb: float = 0.0
    """The largest single process."""


_usage: ContextVar[Usage | None] = ContextVar("usage", default=None)


@contextmanager
def metered() -> Iterator[Usage]:
    """Add up what the children started inside the block, by this thread, use."""
    usage = Usage()
    token = _usage.set(usage)
    try:
        yield usage
    finally:
        _usage.reset(token)


def call(
    function: str, arguments: Mapping[str, Any], limits: Limits, *, imports: Sequence[str] = ()
) -> Any:
    """Run ``module:function(**arguments)`` in a Python child and return its result.

    Arguments and result travel as JSON. A :class:`SageError` raised in the child is raised here again
    with its reason; any other exception becomes one with the child's message. ``imports`` are modules that
    this and many other calls need: with one thread, the child is forked from a process that has them.

    Raises:
        SandboxError: time limit, memory limit, or death by a signal, with the last lines of its log.
    """
    with tempfile.TemporaryDirectory(prefix="sage-call-") as folder:
        request, reply = Path(folder, "request.json"), Path(folder, "reply.json")
        request.write_text(json.dumps({"function": function, "arguments": dict(arguments)}))
        argv = [*_child(), "call", str(request), str(reply)]
        environment = _environment(limits, None)

        def start(log: IO[bytes]) -> Process:
            warm = imports and limits.threads == 1
            forked = _forked(request, reply, imports, environment, log) if warm else None
            return forked or _spawned(argv, environment, log)

        status, log = _watch(start, limits, what=function)
        if not reply.exists():
            raise _died(function, status, log)
        answer = json.loads(reply.read_text())
    if "error" in answer:
        raise _rebuilt(answer["error"])
    return answer["result"]


def run(argv: Sequence[str], limits: Limits, *, env: Mapping[str, str] | None = None) -> str:
    """Run a program to its end under limits and return its log (stdout and stderr, last 8 kB).

    Raises:
        SandboxError: time or memory limit, death by a signal, or an exit status other than 0; the
            message holds the end of the log.
    """
    wrapped = [*_child(), "exec", *_rlimit_flags(limits), "--", *argv]
    start = partial(_spawned, wrapped, _environment(limits, env))
    status, log = _watch(start, limits, what=Path(argv[0]).name)
    if status != 0:
        raise _died(Path(argv[0]).name, status, log)
    return log


def tied_to_parent(argv: Sequence[str]) -> list[str]:
    """The command line that runs a program which is killed when the process that started it dies."""
    return [*_child(), "exec", "0", "0", "--", *argv]


def _child() -> list[str]:
    return [sys.executable, "-m", _CHILD, str(os.getpid())]


def _rlimit_flags(limits: Limits) -> list[str]:
    return [str(limits.cpu_s or 0), str(limits.file_mb or 0)]


def _watch(start: Callable[[IO[bytes]], Process], limits: Limits, *, what: str) -> tuple[int, str]:
    with tempfile.TemporaryFile() as log:
        child = start(log)
        try:
            _wait(child, limits, what, log)
        finally:
            _kill_group(child)
        return child.returncode, _tail(log)


def _spawned(argv: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Process:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=environment,
    )


def _forked(
    request: Path,
    reply: Path,
    imports: Sequence[str],
    environment: Mapping[str, str],
    log: IO[bytes],
) -> Process | None:
    """The child, forked from a warm process; None where none comes up, as when an import crashes.

    A warm process may have been killed, like any other. Then another takes its place.
    """
    for _ in range(2):
        warm = _warm.warm(imports, environment)
        try:
            return warm.fork(str(request), str(reply), log.fileno())
        except SandboxError:
            _warm.forget(warm)
    return None


def _wait(child: Process, limits: Limits, what: str, log: IO[bytes]) -> None:
    deadline = time.monotonic() + limits.wall_s
    pause = _POLL_S / 10
    while not ended(child):
        if time.monotonic() > deadline:
            _kill_group(child)
            raise SandboxError(
                f"{what} ran past its time limit of {limits.wall_s:g} s and was stopped. {_tail(log)}",
                reason=Reason.TIME_LIMIT,
            )
        used = _resident_mb(child.pid)
        if used > limits.memory_mb:
            _kill_group(child)
            raise SandboxError(
                f"{what} used {used:.0f} MiB of memory, over its limit of {limits.memory_mb} MiB, "
                f"and was stopped. {_tail(log)}",
                reason=Reason.MEMORY_LIMIT,
            )
        time.sleep(pause)
        pause = min(_POLL_S, pause * 2)


def ended(child: Process, flags: int = os.WNOHANG) -> bool:
    """Reap a child if it has ended, and add what it used to the thread's :func:`metered`.

    ``Popen.poll`` and its kin would throw the account away. With ``flags`` 0, wait for the end.
    """
    if child.returncode is not None:
        return True
    pid, status, used = os.wait4(child.pid, flags)
    if pid == 0:
        return False
    child.returncode = os.waitstatus_to_exitcode(status)
    meter = _usage.get()
    if meter is not None:
        meter.cpu_s += used.ru_utime + used.ru_stime
        meter.peak_mb = max(meter.peak_mb, used.ru_maxrss / 1024)
    return True


def _resident_mb(pid: int) -> float:
    """Of a process and its descendants; asked often, and psutil looks at all processes for that."""
    total, waiting = 0, [str(pid)]
    while waiting:
        process = Path("/proc", waiting.pop())
        with suppress(OSError):  # it has ended
            total += int(Path(process, "statm").read_text().split()[1])
            for thread in Path(process, "task").iterdir():
                waiting += Path(thread, "children").read_text().split()
    return total * _PAGE_MB


def _kill_group(child: Process) -> None:
    """Kill the child's whole session, also what it left behind after ending by itself."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    ended(child, flags=0)


def _environment(limits: Limits, env: Mapping[str, str] | None) -> dict[str, str]:
    threads = str(limits.threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {**os.environ, **dict.fromkeys(names, threads), **(env or {})}


def _tail(log: IO[bytes]) -> str:
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - _LOG_TAIL_BYTES))
    text = log.read().decode(errors="replace")
    # A verdict's words are the same each time: no addresses, no stack with process ids.
    return _ADDRESS.sub("", text.partition("*** Aborted at ")[0]).strip()


def _died(what: str, status: int, log: str) -> SandboxError:
    if status in (-signal.SIGXCPU, -signal.SIGXFSZ):
        reason = Reason.TIME_LIMIT if status == -signal.SIGXCPU else Reason.TOO_LARGE
        return SandboxError(f"{what} hit its limit of {reason.value}. {log}", reason=reason)
    if any(words in log for words in _DISK_FULL):
        return SandboxError(disk_full(what), reason=Reason.DISK_FULL, retryable=True)
    if status == -signal.SIGABRT and "bad_alloc" in log:
        return SandboxError(f"{what} got no more memory. {log}", reason=Reason.MEMORY_LIMIT)
    if status < 0:
        name = signal.Signals(-status).name
        return SandboxError(f"{what} died of {name}. {log}", reason=Reason.CRASHED)
    return SandboxError(f"{what} ended with status {status}. {log}", reason=Reason.CRASHED)


def _rebuilt(error: dict[str, Any]) -> SageError:
    kind = MediaError if error["kind"] == "MediaError" else SageError
    return kind(error["message"], reason=Reason(error["reason"]), retryable=error["retryable"])
