"""What benchmarks.faults hits a night with: each kind says where the workspace lies, and how it hits."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import psutil

from benchmarks.broken_network import breaking_server
from benchmarks.object_store import object_store
from data_catalog import CatalogError, Workspace
from sage_core.types import Stage

NIGHT_WITHIN_S = 1800
PORT = 45_871
"""Fixed: an item is named by its URL, and workspaces are compared."""
_AWAY_S = 60.0
_SMALL_DISK_MB = 24
_BREAKS = 3
_BACK_S = 7200
_SLOW_S = 5.0
_LOOKS_EVERY_S = 0.1
_ILLNESSES = ("500", "503", "slow")
_LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"

Command = subprocess.Popen[str]


@dataclass(frozen=True)
class Moment:
    """When a night is hit: so many seconds after a stage of it began, or after it began itself."""

    after_s: float
    stage: Stage | None = None
    workspace: str = ""

    def has_come(self, command: Command) -> bool:
        """Wait for it; False if the night has ended before."""
        while self.stage is not None and not self._has_begun(self.stage):
            if _has_ended(command, _LOOKS_EVERY_S):
                return False
        return not _has_ended(command, self.after_s)

    def _has_begun(self, stage: Stage) -> bool:
        with suppress(CatalogError, OSError):
            ws = Workspace.open(self.workspace, create=False)
            # Stages that are over are not waited for: it is looked too seldom to see the short ones.
            begun = {e.stage for e in ws.catalog.latest()}
            later = list(Stage)[list(Stage).index(stage) :]
            return any(one.value in begun or ws.catalog.holder(one.value) for one in later)
        return False


Hit = Callable[[Command, Moment, random.Random], str]


@dataclass(frozen=True)
class Armed:
    """A fault that waits for its moment.

    Attributes:
        address: the workspace of the night that it will hit: a folder or a URL.
        hit: given the night's first command, the moment and a source of chance, it hits; says what.
    """

    address: str
    hit: Hit


Fault = Callable[[Path, Path], AbstractContextManager[Armed]]
"""Given the folder of a run's own and the folder of films, the fault."""


def named(process: psutil.Process) -> str:
    """What a process of a night is, by its command line."""
    words = " ".join(process.cmdline())
    for sign, name in (
        ("uvicorn", "server"),
        ("sage_core.training", "trainer"),
        ("torch.distributed", "trainer"),
        ("sage_core.sandbox", "worker"),
        ("/sage ", "flow"),
    ):
        if sign in words:
            return name
    return process.name()


@contextmanager
def _kill(folder: Path, films: Path) -> Iterator[Armed]:
    """SIGKILL of a random process of the night."""

    def hit(command: Command, moment: Moment, rng: random.Random) -> str:
        with suppress(psutil.Error):
            if living := _living(command, moment):
                victim = rng.choice(living)
                name = named(victim)
                victim.send_signal(signal.SIGKILL)
                return name
        return "nothing: it had ended"

    yield Armed(str(folder), hit)


@contextmanager
def _server(folder: Path, films: Path) -> Iterator[Armed]:
    """Prefect's server stands still for a minute."""

    def hit(command: Command, moment: Moment, rng: random.Random) -> str:
        with suppress(psutil.Error):
            for process in _living(command, moment):
                if named(process) == "server":
                    process.suspend()
                    time.sleep(_AWAY_S)
                    process.resume()
                    return "server"
        return "nothing: no server then"

    yield Armed(str(folder), hit)


@contextmanager
def _network(folder: Path, films: Path) -> Iterator[Armed]:
    """Downloads break off half way."""
    with breaking_server(films, _BREAKS, PORT):
        yield Armed(str(folder), lambda _command, _moment, _rng: "download")


@contextmanager
def _disk(folder: Path, films: Path) -> Iterator[Armed]:
    """A disk that is too small for the first command, and grows for the second."""
    if os.geteuid():
        raise SystemExit("--fault disk mounts a small disk, which only root may")
    folder.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={_SMALL_DISK_MB}m", "tmpfs"]
    subprocess.run(["mount", *options, str(folder)], check=True)

    def grow(command: Command, moment: Moment, rng: random.Random) -> str:
        command.wait(NIGHT_WITHIN_S)
        subprocess.run(["mount", "-o", "remount,size=4g", str(folder)], check=True)
        return "disk"

    try:
        yield Armed(str(folder), grow)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextmanager
def _clock(folder: Path, films: Path) -> Iterator[Armed]:
    """The wall clock of all processes goes back by two hours, and stays there.

    Files keep the kernel's stamps: after the jump they lie in the future, as on a server's disk.
    """
    offset = folder.with_name(f"{folder.name}.clock")
    offset.write_text("+0")

    def turn_back(command: Command, moment: Moment, rng: random.Random) -> str:
        if not moment.has_come(command):
            return "nothing: it had ended"
        new = offset.with_suffix(".new")
        new.write_text(f"-{_BACK_S}")
        new.replace(offset)
        return "clock"

    settings = {
        "LD_PRELOAD": str(faked_time()),
        "FAKETIME_TIMESTAMP_FILE": str(offset.resolve()),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }
    try:
        with _environment(settings):
            yield Armed(str(folder), turn_back)
    finally:
        offset.unlink()


@contextmanager
def _store(folder: Path, films: Path) -> Iterator[Armed]:
    """A workspace on S3 (moto's server) that for a minute refuses everything, or takes its time."""
    with ExitStack() as stack:
        store = stack.enter_context(object_store())
        stack.enter_context(_environment({"SAGE_CACHE": str(folder)}))

        def fall_ill(command: Command, moment: Moment, rng: random.Random) -> str:
            illness = rng.choice(_ILLNESSES)
            if not moment.has_come(command):
                return "nothing: it had ended"
            if illness == "slow":
                store.delay_s = _SLOW_S
            else:
                store.fault = lambda _request: f"{illness} Ill".encode()
            _has_ended(command, _AWAY_S)
            store.delay_s, store.fault = 0.0, None
            return illness

        yield Armed(store.url(folder.name), fall_ill)


FAULTS: dict[str, Fault] = {
    "kill": _kill,
    "server": _server,
    "network": _network,
    "disk": _disk,
    "clock": _clock,
    "store": _store,
}


def faked_time() -> Path:
    """The library that gives processes another wall clock.

    Raises:
        SystemExit: it is not installed.
    """
    spec = find_spec("libfaketime")
    places = [Path(spec.origin).parent / _LIBRARY] if spec and spec.origin else []
    places += sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    for place in places:
        if place.is_file():
            return place
    raise SystemExit(
        "--fault clock needs libfaketime: pip install libfaketime, or Debian's package faketime"
    )


def _living(command: Command, moment: Moment) -> list[psutil.Process]:
    """The processes of a night at a moment, its flow first; none if it had ended."""
    if not moment.has_come(command):
        return []
    flow = psutil.Process(command.pid)
    return [flow, *flow.children(recursive=True)]


def _has_ended(command: Command, within_s: float) -> bool:
    with suppress(subprocess.TimeoutExpired):
        command.wait(within_s)
        return True
    return False


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    """Environment variables for what is started in the block."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
