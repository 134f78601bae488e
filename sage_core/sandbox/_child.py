"""The child's side of :mod:`sage_core.sandbox`: bind its life to the parent's, set limits, work, reply."""

from __future__ import annotations

import ctypes
import errno
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from sage_core.errors import SageError, disk_full
from sage_core.types import Reason


def main(argv: list[str]) -> int:
    """``PARENT call REQUEST REPLY``, ``PARENT exec CPU_S FILE_MB -- COMMAND…`` or

    ``PARENT warm CHANNEL MODULE…``.
    """
    if argv[1] == "warm":
        return _stay_warm(int(argv[0]), socket.socket(fileno=int(argv[2])), argv[3:])
    _die_with(int(argv[0]))
    if argv[1] == "call":
        return _call(Path(argv[2]), Path(argv[3]))
    return _become(argv[argv.index("--") + 1 :], cpu_s=int(argv[2]), file_mb=int(argv[3]))


def _stay_warm(parent: int, channel: socket.socket, modules: list[str]) -> int:
    """Import the modules, then fork a child of ``parent`` for every message, until the channel ends."""
    for module in modules:
        with suppress(Exception):  # the call that needs it says what is wrong with it
            importlib.import_module(module)
    gc.freeze()  # else the first collection of each child would copy all of this
    while True:
        message, logs, _, _ = socket.recv_fds(channel, 1 << 16, 1)
        if not message:
            return 0
        request, reply, folder = json.loads(message)
        ready, tell = os.pipe()
        between = os.fork()
        if between == 0:
            between = os.getpid()
            if os.fork():
                os._exit(0)  # so that the child is handed on to the parent
            channel.close()
            _forked(parent, between, tell, logs[0])
            os.chdir(folder)
            status = _call(Path(request), Path(reply))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        os.close(tell)
        os.close(logs[0])
        pid = os.read(ready, 64)
        os.close(ready)
        os.waitpid(between, 0)
        channel.send(pid or b"0")


def _forked(parent: int, between: int, tell: int, log: int) -> None:
    """Become a child of ``parent`` in a session of its own, and only then say which."""
    os.setsid()
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    while os.getppid() == between:
        time.sleep(0.0002)
    _die_with(parent)
    os.write(tell, str(os.getpid()).encode())
    os.close(tell)


def _become(command: list[str], *, cpu_s: int, file_mb: int) -> NoReturn:
    if cpu_s:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 5))
    if file_mb:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_mb << 20, file_mb << 20))
    os.execvp(command[0], command)  # noqa: S606  (a list, never a shell string)


def _die_with(parent: int) -> None:
    """Ask Linux to kill this process when its parent dies, so that ``kill -9`` leaves no orphans.

    The parent's number is told, not guessed: in a container SAGE itself may be process 1.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None, use_errno=True).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the request
            os._exit(1)


def _call(request: Path, reply: Path) -> int:
    wanted = json.loads(request.read_text())
    module, _, name = wanted["function"].partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
        answer: dict[str, Any] = {"result": function(**wanted["arguments"])}
    except SageError as error:
        answer = {"error": _described(error, str(error), error.reason, error.retryable)}
    except MemoryError as error:
        message = f"{wanted['function']} ran out of memory"
        answer = {"error": _described(error, message, Reason.MEMORY_LIMIT, False)}
    except Exception as error:  # noqa: BLE001  (whatever it is, the parent hears of it)
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = Reason.DISK_FULL if full else Reason.INTERNAL_ERROR
        message = disk_full(wanted["function"]) if full else f"{type(error).__name__}: {error}"
        traceback.print_exc()
        answer = {"error": _described(error, message, reason, full)}
    partial = reply.with_suffix(".partial")
    partial.write_text(json.dumps(answer))
    partial.rename(reply)
    return 0


def _described(
    error: BaseException, message: str, reason: Reason, retryable: bool
) -> dict[str, Any]:
    kind = type(error).__name__
    return {"kind": kind, "message": message, "reason": reason.value, "retryable": retryable}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
