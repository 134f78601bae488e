"""Functions for the sandbox's tests to run in a child."""

import os
import signal
import time
from pathlib import Path

from sage_core.errors import MediaError
from sage_core.types import Reason


def double(value):
    return {"value": 2 * value}


def hang(path=None):
    if path:
        Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def grow():
    blocks = []
    while True:
        blocks.append(bytearray(os.urandom(1 << 20)) * 16)


def die():
    os.kill(os.getpid(), signal.SIGSEGV)


def refuse():
    raise MediaError("no picture in x.mp4", reason=Reason.NOT_VIDEO)


def stumble():
    raise ValueError("seven")


def burn():
    total = 0
    for i in range(3_000_000):
        total += i
    return total


def leave_orphan(path):
    import subprocess

    child = subprocess.Popen(["sleep", "600"])
    Path(path).write_text(str(child.pid))


def facts():
    return {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "parent": os.getppid(),
        "folder": str(Path.cwd()),
    }


def environment(variable):
    return os.environ.get(variable)
