"""So many at a time on this machine, over all workspaces and flows; a killed holder holds nothing.

A slot is a file that is locked by the kernel for as long as its holder lives. Prefect's own concurrency
slots stay taken when their holder is killed, which is when nobody is there to free them.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LOOK_EVERY_S = 0.5


def slots_folder() -> Path:
    """Where the slots of this machine's user lie: ``SAGE_SLOTS``, else in the user's cache."""
    given = os.environ.get("SAGE_SLOTS")
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given or f"{cache}/sage/slots").expanduser()


@contextmanager
def slot(kind: str, count: int, give_up: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """Hold one of ``count`` slots while the block runs; wait for one until ``give_up`` says so.

    Yields whether there is one.
    """
    folder = slots_folder()
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{kind}-{number}" for number in range(count)]
    while (held := next((d for f in files if (d := _take(f)) is not None), None)) is None:
        if give_up():
            yield False
            return
        time.sleep(_LOOK_EVERY_S)
    try:
        yield True
    finally:
        os.close(held)


def _take(file: Path) -> int | None:
    """The locked file's descriptor; None if another holds it."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
