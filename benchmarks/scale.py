"""Scale: synthetic items through the real flows, tasks and catalog, on a real Prefect server on loopback.

python -m benchmarks.scale --folder FOLDER --items 1000 3000 10000
python -m benchmarks.scale --folder FOLDER --filled 100000 --items 1000

Downloads, decoding, COLMAP and pictures are replaced by their outputs (benchmarks/stand_ins.py); the CPU
that those take is not counted. Each size runs in a new process, workspace and server; with --filled the
workspace holds so many finished items before, written by the catalog's own commits in another process, so
that the first night has to read them. In the end a night with nothing to do runs. Each run appends a line to
results.jsonl and is not done again.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.stand_ins import Clock, in_place
from benchmarks.table import parser, publish
from data_catalog import Workspace
from flows._server import prefect_api, prepare_environment
from sage_core.config import SageConfig, load_config

MINING = ("acquire", "curate", "reconstruct", "assemble")
SETTINGS = ("adapt.base=mini", f"adapt.min_new_clips={10**9}")
"""Adapt plans, freezes and reads its base, and begins nothing."""
_QUIET_S, _QUIET_SHARE, _SETTLES_WITHIN_S = 4.0, 0.05, 600.0
_MB = 1 << 20


@dataclass(frozen=True)
class Part:
    """What a stage, or a night with nothing to do, took.

    Attributes:
        what: the stage, or ``night``.
        judged: how many items it gave a verdict.
        wall_s: on the clock, without what the server was still busy with.
        flow_s, server_s: CPU seconds of the flow's process, stand-ins left out, and of the server's.
        resident_mb: of the flow's process at its end.
        database_mb: of Prefect's database at its end.
    """

    what: str
    judged: int
    wall_s: float
    flow_s: float
    server_s: float
    resident_mb: float
    database_mb: float


@dataclass(frozen=True)
class Result:
    """One run: ``items`` new ones on top of ``filled``; peak memory of the flow's process."""

    filled: int
    items: int
    fill_s: float
    peak_mb: float
    parts: list[Part]

    def of(self, *stages: str) -> list[Part]:
        return [part for part in self.parts if part.what in stages]

    @property
    def ms_an_item(self) -> float:
        """CPU milliseconds of flow and server an item, over the mining stages."""
        return 1000 * sum(p.flow_s + p.server_s for p in self.of(*MINING)) / max(1, self.items)


class Meter:
    """Measures blocks of work: this process, and the server's after it has become quiet."""

    def __init__(self, server: psutil.Process, database: Path, stand_ins: Clock) -> None:
        self._server, self._database, self._stand_ins = server, database, stand_ins

    def measured(self, what: str, work: Callable[[], int]) -> Part:
        """What ``work`` took; it returns how many items it judged."""
        self._wait()
        wall, flow, server = time.monotonic(), self._own_s(), self._server_s()
        judged = work()
        wall, flow = time.monotonic() - wall, self._own_s() - flow
        self._wait()
        used = self._server_s() - server
        resident = psutil.Process().memory_info().rss / _MB
        size = sum(file.stat().st_size for file in self._database.parent.glob("prefect.db*")) / _MB
        numbers = (wall, flow, used, resident, size)
        part = Part(what, judged, *(round(number, 3) for number in numbers))
        print(part, file=sys.stderr)
        return part

    def _own_s(self) -> float:
        return time.process_time() - self._stand_ins.cpu_s

    def _server_s(self) -> float:
        processes = [self._server, *self._server.children(recursive=True)]
        used = [process.cpu_times() for process in processes]
        return sum(one.user + one.system for one in used)

    def _wait(self) -> None:
        """Until the server has worked off what it was told."""
        end = time.monotonic() + _SETTLES_WITHIN_S
        while time.monotonic() < end:
            before = self._server_s()
            time.sleep(_QUIET_S)
            if self._server_s() - before < _QUIET_SHARE * _QUIET_S:
                return


def run(folder: Path, filled: int, items: int, out: Path) -> None:
    """Measure one run in this process, which must not have imported Prefect yet; write the result."""
    shutil.rmtree(folder, ignore_errors=True)
    config = load_config(overrides=list(SETTINGS))
    if filled:
        fill_apart(folder, filled)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    fill_s = spent.ru_utime + spent.ru_stime
    with prefect_api(folder) as url, in_place() as stand_ins:
        print(f"{filled} + {items}: {url}", file=sys.stderr)
        home = folder / "prefect"
        server = psutil.Process(json.loads((home / "server.json").read_text())["pid"])
        parts = measure(
            Meter(server, home / "prefect.db", stand_ins), folder, config, filled, items
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out.write_text(
        json.dumps(asdict(Result(filled, items, round(fill_s, 1), round(peak, 1), parts)))
    )


def fill_apart(folder: Path, filled: int) -> None:
    """Make a workspace with so many finished films, in a process of its own."""
    in_a_process(_fill, folder, filled)


def _fill(folder: Path, filled: int) -> None:
    prepare_environment(folder)
    from benchmarks.filled import fill  # imports Prefect, which reads its settings then

    config = load_config(overrides=list(SETTINGS))
    fill(Workspace.open(folder), config, [address(number) for number in range(filled)])


def in_a_process(work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work`` in a new process.

    Raises:
        SystemExit: it did not end well.
    """
    child = multiprocessing.get_context("spawn").Process(target=work, args=arguments)
    child.start()
    child.join()
    if child.exitcode:
        raise SystemExit(f"{work.__name__}: ended with {child.exitcode}")


def measure(meter: Meter, folder: Path, config: SageConfig, filled: int, items: int) -> list[Part]:
    """The mining stages one by one on the new items, and nights with nothing to do before and after."""
    from flows.nightly import FLOWS, nightly
    from sage_core.types import Stage

    common = {"workspace": str(folder), "config": config, "return_state": True}

    def stage(name: str) -> int:
        given = {"sources": [str(new)]} if name == "acquire" else {}
        summary = FLOWS[Stage(name)](**common, **given).result()
        assert not summary.broken, summary.broken
        return int(summary.judged)

    def night(stages: list[Stage] | None = None) -> int:
        given = [str(known)] if known.stat().st_size else []
        summaries = nightly(**common, sources=given, stages=stages).result()
        assert not any(s.broken for s in summaries), summaries
        return sum(s.judged for s in summaries)

    known, new = folder / "known.txt", folder / "new.txt"
    known.write_text(listed(0, filled))
    new.write_text(listed(filled, items))
    first = None if filled else [Stage(name) for name in MINING]  # nothing to adapt yet
    parts = [meter.measured("first night", lambda: night(first))]
    if filled:
        parts += [meter.measured("night", night)]
    if items:
        parts += [meter.measured(name, lambda name=name: stage(name)) for name in MINING]
        known.write_text(listed(0, filled + items))
        parts += [meter.measured("night", night)]
    return parts


def listed(first: int, count: int) -> str:
    """A source list: so many films of one host."""
    return "".join(f"{address(number)}\n" for number in range(first, first + count))


def address(number: int) -> str:
    """Where a film lies that nobody fetches."""
    return f"https://films.invalid/{number:07d}.mp4"


def run_apart(folder: Path, filled: int, items: int) -> Result:
    """:func:`run` in a process of its own, whose peak of memory is its own, too."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder.with_suffix(".json")
    given = os.environ.pop("PREFECT_API_URL", None)
    try:
        in_a_process(run, folder, filled, items, out)
    finally:
        if given is not None:
            os.environ["PREFECT_API_URL"] = given
    return _result(json.loads(out.read_text()))


def _result(data: dict[str, Any]) -> Result:
    return Result(**{**data, "parts": [Part(**part) for part in data["parts"]]})


def read(results: Path) -> dict[tuple[int, int], Result]:
    """The runs that are in the file."""
    lines = results.read_text().splitlines() if results.is_file() else []
    found = [_result(json.loads(line)) for line in lines]
    return {(one.filled, one.items): one for one in found}


def rows(result: Result) -> list[dict[str, Any]]:
    """A table row a part of a run."""
    return [
        {
            "filled": result.filled,
            "items": result.items,
            "part": part.what,
            "judged": part.judged,
            "wall s": part.wall_s,
            "flow CPU s": part.flow_s,
            "server CPU s": part.server_s,
            "CPU ms/item": 1000 * (part.flow_s + part.server_s) / max(1, part.judged),
            "resident MB": part.resident_mb,
            "database MB": part.database_mb,
        }
        for part in result.parts
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--folder", type=Path, required=True, help="workspaces and results.jsonl")
    options.add_argument("--items", type=int, nargs="*", default=[100, 1000], help="new items")
    options.add_argument("--filled", type=int, default=0, help="finished items there before")
    given = options.parse_args(arguments)
    given.folder.mkdir(parents=True, exist_ok=True)
    results = given.folder / "results.jsonl"
    known = read(results)
    for items in given.items:
        if (given.filled, items) not in known:
            place = given.folder / f"{given.filled}-{items}"
            done = known[given.filled, items] = run_apart(place, given.filled, items)
            with results.open("a") as file:
                file.write(json.dumps(asdict(done)) + "\n")
            shutil.rmtree(place, ignore_errors=True)
    chosen = [known[given.filled, items] for items in given.items]
    publish(
        "Scale",
        [row for result in chosen for row in rows(result)],
        given.json,
        ms_an_item={f"{r.filled} + {r.items}": round(r.ms_an_item, 1) for r in chosen},
        peak_mb={f"{r.filled} + {r.items}": round(r.peak_mb) for r in chosen},
    )


if __name__ == "__main__":
    main()
