"""One trainer a run folder."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sage_core.errors import TrainingError
from sage_core.types import Reason


class RunHeldError(TrainingError):
    """Another living process trains in the folder."""

    reason = Reason.TRANSIENT
    retryable = True


@contextmanager
def run_lock(folder: Path, held: str = "being trained") -> Iterator[None]:
    """Hold a run folder; the system lets go of it when the holder dies, however it dies.

    ``held`` says in messages what the holder does with it.

    Raises:
        RunHeldError: another living process holds it; the message names process and host.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise RunHeldError(
                f"{folder} is {held} by {holder}: wait for it, or stop it"
            ) from error
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
