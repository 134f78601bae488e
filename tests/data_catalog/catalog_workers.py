"""What the tests' child processes do to a workspace."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_catalog import LeaseHeld, StageEvent, Workspace, _log

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["data_catalog"])

WRITES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir"}


def event(item: str, **fields: Any) -> StageEvent:
    defaults = {"item": item, "stage": "curate", "verdict": "accepted"}
    return StageEvent(**(defaults | fields))


def append_many(root: Path, items: list[str], count: int) -> None:
    _log._LOOSE_LIMIT = 8
    catalog = Workspace.open(root).catalog
    for number in range(count):
        catalog.append([event(item, message=f"{os.getpid()}-{number}") for item in items])


def append_until_killed(root: Path, acknowledged: Path) -> None:
    catalog = Workspace.open(root).catalog
    for number in range(100_000):
        catalog.append([event("a", message=str(number)), event(f"b{number}")])
        acknowledged.write_text(str(number))


def compact_until(root: Path, stop: Path) -> None:
    catalog = Workspace.open(root).catalog
    while not stop.exists():
        catalog.compact()


def hold_lease(root: Path, told: Path) -> None:
    with Workspace.open(root).catalog.lease("curate", "the first run"):
        told.touch()
        time.sleep(600)


def contend(root: Path, barrier: Any, outcomes: Any) -> None:
    catalog = Workspace.open(root).catalog
    barrier.wait()
    try:
        with catalog.lease("curate", "a successor"):
            outcomes.put("held")
            barrier.wait()
    except LeaseHeld:
        outcomes.put("refused")
        barrier.wait()


def take_over_and_append(root: Path) -> None:
    with Workspace.open(root).catalog.lease("curate", "the second run") as lease:
        lease.check()
        Workspace.open(root).catalog.append([event("a", message="second", attempt=1)])
        os._exit(0)  # as if killed: its lease file stays


def killed_at(step: int, work: Callable[[Path, Path], None], root: Path, told: Path) -> None:
    """Do ``work``, but die by SIGKILL just before the given write to the file system."""
    left = step

    def die(name: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        opens = name == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_CREAT
        if name not in WRITES and not opens:
            return
        if not os.fsdecode(arguments[0]).startswith(str(root)):
            return
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    Workspace.open(root)
    sys.addaudithook(die)
    work(root, told)


def append_and_compact(root: Path, told: Path) -> None:
    catalog = Workspace.open(root).catalog
    for number in range(2):
        catalog.append([event("a", message=str(number)), event(f"b{number}")])
        told.write_text(str(number + 1))
    catalog.compact()
    catalog.append([event("a", message="2"), event("b2")])
    told.write_text("3")
    catalog.compact()


def publish_twice(root: Path, told: Path) -> None:
    store = Workspace.open(root).store
    for content in ("one", "two"):
        with store.scratch() as area:
            (area / "model").mkdir()
            for name in ("cameras.bin", "images.bin"):
                (area / "model" / name).write_text(content)
            store.publish(area / "model", "sfm/clip")
        told.write_text(content)
