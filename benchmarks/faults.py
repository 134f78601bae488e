"""Faults: a small night is hit at a random moment, run again, and must end as one that nothing hit.

python -m benchmarks.faults --folder FOLDER --runs 0:50
python -m benchmarks.faults --folder FOLDER --runs 0:5 --fault disk      (root: on a small disk of its own)

The moment lies in a random stage, at a random time of its length. kill: SIGKILL of a random process of the
night (flow, server, worker, trainer). server: Prefect's server stands still for a minute. network: downloads
break off half way. disk: it is full, until it grows. clock: the wall clock goes back by two hours. store: the
workspace is on S3, which for a minute refuses everything or takes five seconds an answer. Equal means: the
same verdicts and figures, shards, weights, loss curve and evaluation, byte by byte, and nothing left in
scratch. Where mining was hit, the night trains on what it has: such a run is one of its own and is not
compared. Each run appends a line to results.jsonl and is not done again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from benchmarks.broken_network import breaking_server
from benchmarks.fault_kinds import FAULTS, NIGHT_WITHIN_S, PORT, Command, Moment
from benchmarks.small_night import PYTHON_BIN, write_films, write_settings
from benchmarks.table import parser, publish
from data_catalog import Workspace, canonical
from sage_core.types import Stage

_COMMANDS = 4
_COMPARED = (
    "shards/*",
    "runs/*/model.safetensors",
    "runs/*/losses.jsonl",
    "evaluations/*/metrics.json",
)
_OF_RUNS = (Stage.ADAPT.value, Stage.EVALUATE.value)
_AGAIN = ("--retry", "failed")


@dataclass(frozen=True)
class Outcome:
    """One run: what was hit, how long after a stage began, the commands it took, whether it ended equal."""

    run: int
    fault: str
    hit: str
    stage: str
    after_s: float
    commands: int
    equal: bool
    differs: str


@dataclass(frozen=True)
class Night:
    """A small night: its settings, and the source of its videos."""

    settings: Path
    source: str

    def start(self, workspace: str, *options: str) -> Command:
        """``sage run`` with a server of its own."""
        given = {k: v for k, v in os.environ.items() if k != "PREFECT_API_URL"}
        words = [self.source, "--workspace", workspace, "--config", self.settings]
        return subprocess.Popen(
            [str(PYTHON_BIN / "sage"), "run", *map(str, words), *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**given, "COLUMNS": "200"},
        )


def finished(command: Command) -> tuple[int, str]:
    """Exit status and output."""
    output = command.communicate(timeout=NIGHT_WITHIN_S)[0]
    return command.returncode, output


def prepared(folder: Path, fault: str) -> tuple[Night, Path]:
    """The night, and the workspace that nothing hit."""
    films, settings = folder / "films", folder / "night.yaml"
    if not settings.is_file():
        shutil.rmtree(films, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        write_films(films)
        write_settings(folder)
    served = fault == "network"
    night = Night(settings, f"http://127.0.0.1:{PORT}/walk.mp4" if served else str(films))
    whole = folder / ("whole-served" if served else "whole")
    if not whole.is_dir():
        making = whole.with_suffix(".new")
        shutil.rmtree(making, ignore_errors=True)
        with breaking_server(films, 0, PORT):
            status, output = finished(night.start(str(making)))
        if status:
            raise SystemExit(f"the night that nothing hit ended with {status}:\n{output}")
        making.rename(whole)
    return night, whole


def chosen_moment(whole: Path, address: str, rng: random.Random) -> Moment:
    """A random time of a random stage, which lasts about as long as in the night that nothing hit."""
    stage = rng.choice(list(Stage))
    events = Workspace.open(whole, create=False).catalog.latest(stage.value)
    return Moment(rng.uniform(0, max(e.seconds for e in events)), stage, address)


def run_once(number: int, fault: str, night: Night, whole: Path) -> Outcome:
    """Hit a night, then run it until it ends well, and compare it with the one that nothing hit."""
    rng = random.Random(number)
    own = whole.with_name(f"{fault}-{number}")
    shutil.rmtree(own, ignore_errors=True)
    with FAULTS[fault](own, whole.with_name("films")) as armed:
        moment = chosen_moment(whole, armed.address, rng)
        first = night.start(armed.address)
        what = armed.hit(first, moment, rng)
        status, output = finished(first)
        commands = 1
        while commands == 1 or (status and commands < _COMMANDS):
            status, output = finished(night.start(armed.address, *_AGAIN))
            commands += 1
        differs = (
            f"ended with {status}: {output[-500:]}" if status else difference(armed.address, whole)
        )
    if not differs:
        shutil.rmtree(own, ignore_errors=True)
    stage = moment.stage.value if moment.stage else ""
    after_s = round(moment.after_s, 1)
    return Outcome(number, fault, what, stage, after_s, commands, not differs, differs)


def difference(workspace: str | Path, whole: Path) -> str:
    """Where two workspaces differ, in words; empty where they are equal."""
    hit, undisturbed = (Workspace.open(where, create=False) for where in (workspace, whole))
    other = canonical(undisturbed)
    trained = {row["item"] for row in other if row["stage"] in _OF_RUNS}
    one = [r for r in canonical(hit) if r["stage"] not in _OF_RUNS or r["item"] in trained]
    if one != other:
        pairs = (f"{a} against {b}" for a, b in zip(one, other, strict=False) if a != b)
        return f"catalog: {next(pairs, f'{len(one)} against {len(other)} events')}"[:1000]
    for pattern in _COMPARED:
        wanted = checksums(undisturbed, pattern)
        found = checksums(hit, pattern)
        if {n: s for n, s in found.items() if not _of_another_run(n, trained)} != wanted:
            return pattern
    left = [path.name for path in (hit.root / "scratch").iterdir()]
    return f"left in scratch: {left}" if left else ""


def _of_another_run(name: str, trained: set[str]) -> bool:
    """Whether a file is of a training run that the undisturbed night did not have."""
    top, item = PurePosixPath(name).parts[:2]
    return top != "shards" and item not in trained


def checksums(ws: Workspace, pattern: str) -> dict[str, str]:
    """SHA-256 of the files that a pattern names, by their paths in the workspace."""
    keys = ws.store.sizes(PurePosixPath(pattern).parts[0])
    names = {key.partition("~")[0] for key in keys}  # what was published again at a URL has a mark
    return {
        name: hashlib.sha256(ws.store.read_bytes(name)).hexdigest()
        for name in sorted(names)
        if PurePosixPath(name).match(pattern)
    }


def read(results: Path) -> dict[tuple[str, int], Outcome]:
    """The runs that are in the file."""
    lines = results.read_text().splitlines() if results.is_file() else []
    outcomes = [Outcome(**json.loads(line)) for line in lines]
    return {(one.fault, one.run): one for one in outcomes}


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--folder", type=Path, required=True, help="workspaces and results.jsonl")
    options.add_argument("--runs", default="0:5", help="numbers FROM:TO; each is a seed")
    options.add_argument("--fault", choices=sorted(FAULTS), default="kill")
    given = options.parse_args(arguments)
    numbers = range(*map(int, given.runs.split(":")))
    given.folder.mkdir(parents=True, exist_ok=True)
    results = given.folder / "results.jsonl"
    known = read(results)
    for number in numbers:
        if (given.fault, number) not in known:
            outcome = known[given.fault, number] = run_once(
                number, given.fault, *prepared(given.folder, given.fault)
            )
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
