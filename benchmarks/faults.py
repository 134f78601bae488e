"""Faults: a small night is hit at a random moment, run again, and must end as one that nothing hit.

python -m benchmarks.faults --folder FOLDER --runs 0:50
python -m benchmarks.faults --folder FOLDER --runs 0:5 --fault disk      (root: on a small disk of its own)

kill: SIGKILL of a random process of the night (flow, server, worker, trainer). server: Prefect's server
stands still for a minute. network: downloads break off half way. disk: it is full, until it grows. Equal
means: the same verdicts and figures, shards, weights, loss curve and evaluation, byte by byte, and nothing
left in scratch. Each run appends a line to results.jsonl and is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.broken_network import breaking_server
from benchmarks.small_night import PYTHON_BIN, write_films, write_settings
from benchmarks.table import parser, publish
from data_catalog import Workspace, canonical

_NIGHT_WITHIN_S = 1800
_AWAY_S = 60.0
_SMALL_DISK_MB = 24
_COMMANDS = 4
_BREAKS = 3
_PORT = 45_871
"""Fixed: an item is named by its URL, and workspaces are compared."""
_COMPARED = (
    "shards",
    "runs/*/model.safetensors",
    "runs/*/losses.jsonl",
    "evaluations/*/metrics.json",
)
Command = subprocess.Popen[str]
Hit = Callable[[Command, float, random.Random], str]


@dataclass(frozen=True)
class Outcome:
    """One run: what was hit after how long, how many commands it took, and whether it ended equal."""

    run: int
    fault: str
    hit: str
    after_s: float
    commands: int
    equal: bool
    differs: str


@dataclass(frozen=True)
class Night:
    """A small night: its settings, and the source of its videos."""

    settings: Path
    source: str

    def start(self, workspace: Path) -> Command:
        """``sage run`` with a server of its own."""
        given = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
        words = [self.source, "--workspace", workspace, "--config", self.settings]
        local = ["--set", 'acquire.allow_hosts=["127.0.0.1"]', "--set", "acquire.retry_wait_s=0.1"]
        return subprocess.Popen(
            [str(PYTHON_BIN / "sage"), "run", *map(str, words), *local],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**given, "COLUMNS": "200"},
        )


def finished(command: Command) -> tuple[int, str]:
    """Exit status and output."""
    output = command.communicate(timeout=_NIGHT_WITHIN_S)[0]
    return command.returncode, output


def prepared(folder: Path, fault: str) -> tuple[Night, Path, float]:
    """The night, the workspace that nothing hit, and how long that took."""
    films, settings = folder / "films", folder / "night.yaml"
    if not settings.is_file():
        shutil.rmtree(films, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_films(films)
        write_settings(folder)
    served = fault == "network"
    night = Night(settings, f"http://127.0.0.1:{_PORT}/walk.mp4" if served else str(films))
    whole = folder / ("whole-served" if served else "whole")
    note = whole.with_suffix(".json")
    if not note.is_file():
        shutil.rmtree(whole, ignore_errors=True)
        started = time.monotonic()
        with breaking_server(films, 0, _PORT):
            status, output = finished(night.start(whole))
        if status:
            raise SystemExit(f"the night that nothing hit ended with {status}:\n{output}")
        note.write_text(json.dumps(time.monotonic() - started))
    return night, whole, float(json.loads(note.read_text()))


def run_once(number: int, fault: str, folder: Path) -> Outcome:
    """Hit a night, then run it until it ends well, and compare."""
    night, whole, length_s = prepared(folder, fault)
    rng = random.Random(number)
    after_s = rng.uniform(0, length_s)
    workspace = folder / f"{fault}-{number}"
    shutil.rmtree(workspace, ignore_errors=True)
    with _FAULTS[fault](workspace, folder / "films") as hit:
        first = night.start(workspace)
        what = hit(first, after_s, rng)
        status, output = finished(first)
        commands = 1
        while commands == 1 or (status and commands < _COMMANDS):
            status, output = finished(night.start(workspace))
            commands += 1
        differs = (
            f"ended with {status}: {output[-500:]}" if status else difference(workspace, whole)
        )
    if not differs:
        shutil.rmtree(workspace, ignore_errors=True)
    return Outcome(number, fault, what, round(after_s, 1), commands, not differs, differs)


def killed(command: Command, after_s: float, rng: random.Random) -> str:
    """Kill a random process of the night; says which."""
    with suppress(subprocess.TimeoutExpired):
        command.wait(after_s)
        return "nothing: it had ended"
    with suppress(psutil.Error):
        flow = psutil.Process(command.pid)
        victim = rng.choice([flow, *flow.children(recursive=True)])
        name = named(victim)
        victim.send_signal(signal.SIGKILL)
        return name
    return "nothing: it had just ended"


def silenced(command: Command, after_s: float, rng: random.Random) -> str:
    """Let Prefect's server stand still for a minute."""
    with suppress(subprocess.TimeoutExpired):
        command.wait(after_s)
        return "nothing: it had ended"
    with suppress(psutil.Error):
        for process in psutil.Process(command.pid).children(recursive=True):
            if named(process) == "server":
                process.suspend()
                time.sleep(_AWAY_S)
                process.resume()
                return "server"
    return "nothing: no server then"


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


def difference(workspace: Path, whole: Path) -> str:
    """Where two workspaces differ, in words; empty where they are equal."""
    one, other = (canonical(Workspace.open(path, create=False)) for path in (workspace, whole))
    if one != other:
        pairs = (f"{a} against {b}" for a, b in zip(one, other, strict=False) if a != b)
        return f"catalog: {next(pairs, f'{len(one)} against {len(other)} events')}"[:1000]
    for pattern in _COMPARED:
        if checksums(workspace, pattern) != checksums(whole, pattern):
            return pattern
    left = [path.name for path in (workspace / "scratch").iterdir()]
    return f"left in scratch: {left}" if left else ""


def checksums(workspace: Path, pattern: str) -> dict[str, str]:
    """SHA-256 of the files that a pattern names, and of those in folders that it names."""
    found = [
        f for place in workspace.glob(pattern) for f in (place, *place.rglob("*")) if f.is_file()
    ]
    return {
        str(f.relative_to(workspace)): hashlib.sha256(f.read_bytes()).hexdigest() for f in found
    }


@contextmanager
def _kill(workspace: Path, films: Path) -> Iterator[Hit]:
    yield killed


@contextmanager
def _server(workspace: Path, films: Path) -> Iterator[Hit]:
    yield silenced


@contextmanager
def _network(workspace: Path, films: Path) -> Iterator[Hit]:
    with breaking_server(films, _BREAKS, _PORT):
        yield lambda _command, _after_s, _rng: "download"


@contextmanager
def _disk(workspace: Path, films: Path) -> Iterator[Hit]:
    """A disk that is too small for the first command, and grows for the second."""
    if os.geteuid():
        raise SystemExit("--fault disk mounts a small disk, which only root may")
    workspace.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={_SMALL_DISK_MB}m", "tmpfs"]
    subprocess.run(["mount", *options, str(workspace)], check=True)

    def grow(command: Command, after_s: float, rng: random.Random) -> str:
        command.wait(_NIGHT_WITHIN_S)
        subprocess.run(["mount", "-o", "remount,size=4g", str(workspace)], check=True)
        return "disk"

    try:
        yield grow
    finally:
        subprocess.run(["umount", "-l", str(workspace)], check=True)


_FAULTS = {"kill": _kill, "server": _server, "network": _network, "disk": _disk}


def read(results: Path) -> dict[tuple[str, int], Outcome]:
    """The runs that are in the file."""
    lines = results.read_text().splitlines() if results.is_file() else []
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    return {(one.fault, one.run): one for one in outcomes}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--folder", type=Path, required=True, help="workspaces and results.jsonl")
    options.add_argument("--runs", default="0:5", help="numbers FROM:TO; each is a seed")
    options.add_argument("--fault", choices=sorted(_FAULTS), default="kill")
    given = options.parse_args(arguments)
    numbers = range(*map(int, given.runs.split(":")))
    given.folder.mkdir(parents=True, exist_ok=True)
    results = given.folder / "results.jsonl"
    known = read(results)
    for number in numbers:
        if (given.fault, number) not in known:
            outcome = known[given.fault, number] = run_once(number, given.fault, given.folder)
            with results.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
            print(outcome, flush=True, file=sys.stderr)
    chosen = [known[given.fault, number] for number in numbers]
    rows = []
    for hit in sorted({one.hit for one in chosen}):
        of = [one for one in chosen if one.hit == hit]
        rows.append({"hit": hit, "runs": len(of), "equal": sum(one.equal for one in of)})
    equal = sum(one.equal for one in chosen)
    publish(f"Nights hit by {given.fault}", rows, given.json, equal=equal, of=len(chosen))


if __name__ == "__main__":
    main()
