"""Starting the trainer as a child process, watching its metrics, and asking it to stop; without torch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage_core.errors import TrainingError
from sage_core.sandbox import ended
from sage_core.training.files import read_json, write_json
from sage_core.training.lock import RunHeldError
from sage_core.training.settings import TrainSettings
from sage_core.types import Reason

_POLL_S = 0.2
_GRACE_S = 120.0
_FULL, _HELD = 74, 75
_LOG_TAIL_BYTES = 4_000
OnStep = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Launched:
    """How a run ended: what its ``result.json`` says, and where its files are."""

    result: dict[str, Any]
    weights: Path
    losses: Path
    """``metrics.jsonl`` without what differs from run to run: speed and memory."""


def launch(
    settings: TrainSettings, *, wall_s: float, on_step: OnStep = lambda _line: None
) -> Launched:
    """Train in a process group of its own until it ends; ``on_step`` is given each new metrics line.

    The child saves a checkpoint and ends when this process dies, when it is interrupted, and after
    ``wall_s`` seconds. Started again with the same settings it goes on from there; a finished run is not
    trained again.

    Raises:
        TrainingError: training failed (with the trainer's own reason), was stopped, died, or the folder is
            being trained already.
    """
    folder = settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "settings.json"
    write_json(file, settings.model_dump(mode="json"))
    argv = [sys.executable, "-m", "sage_core.training", "--launch", "--quiet"]
    with (folder / "log.txt").open("ab") as log:
        child = subprocess.Popen(
            [*argv, "--parent", str(os.getpid()), "--settings", str(file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        in_time = _follow(child, folder / "metrics.jsonl", wall_s, on_step)
    finally:
        _end(child)
    return _outcome(folder, child.returncode, in_time, wall_s)


def _follow(child: subprocess.Popen[bytes], metrics: Path, wall_s: float, on_step: OnStep) -> bool:
    """Report lines until the child ends (True) or its time is up (False)."""
    deadline = time.monotonic() + wall_s
    lines = _new_lines(metrics)
    while True:
        done = ended(child)
        for line in next(lines):
            on_step(line)
        if done or time.monotonic() > deadline:
            return done
        time.sleep(_POLL_S)


def _new_lines(path: Path) -> Iterator[list[dict[str, Any]]]:
    """At each ``next`` the whole lines that were appended since the one before."""
    inode, offset = 0, 0
    while True:
        fresh: list[dict[str, Any]] = []
        with suppress(FileNotFoundError), path.open("rb") as file:
            # A trainer that resumes first replaces the file by one without the steps to be repeated.
            if os.fstat(file.fileno()).st_ino != inode:
                inode, offset = os.fstat(file.fileno()).st_ino, 0
            file.seek(offset)
            whole = file.read().rpartition(b"\n")[0]
            offset += len(whole) + 1 if whole else 0
            fresh = [json.loads(text) for text in whole.splitlines()]
        yield fresh


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ask the whole group to save and stop; kill what does not."""
    if not ended(child):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + _GRACE_S
        while not ended(child) and time.monotonic() < deadline:
            time.sleep(_POLL_S)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    ended(child, flags=0)


def _outcome(folder: Path, status: int, in_time: bool, wall_s: float) -> Launched:
    result = read_json(folder / "result.json")
    if result.get("status") == "finished":
        return Launched(result, folder / "model.safetensors", folder / "losses.jsonl")
    if status == _HELD:
        raise RunHeldError(_tail(folder / "log.txt").splitlines()[-1])
    if status == _FULL:
        # Neither result nor log can be counted on now.
        raise TrainingError(
            f"the disk of {folder} is full: free some space and run the same command again",
            reason=Reason.DISK_FULL,
            retryable=True,
        )
    if status == 1 and result.get("status") == "failed":
        raise TrainingError(
            result["message"], reason=Reason(result["reason"]), retryable=result["retryable"]
        )
    again = "run the same command again and it goes on from its newest checkpoint"
    if not in_time:
        raise TrainingError(
            f"training in {folder} was stopped after {wall_s / 3600:.2g} hours "
            f"(adapt.wall_hours): {again}",
            reason=Reason.TIME_LIMIT,
            retryable=True,
        )
    raise TrainingError(
        f"the trainer in {folder} ended with status {status} before it was done: {again}. "
        f"The end of its log: {_tail(folder / 'log.txt')}",
        reason=Reason.CRASHED,
        retryable=True,
    )


def _tail(log: Path) -> str:
    data = log.read_bytes() if log.exists() else b""
    return data[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
