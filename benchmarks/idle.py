"""A night with nothing to do, stage by stage: real flows, catalog and server, in a workspace that is kept.

python -m benchmarks.idle --folder FOLDER --filled 20000

FOLDER/filled-20000 is made if it is not there (benchmarks/filled.py). Each call measures one night in a new
process, which has to read the whole catalog; nothing is left behind that makes the next one faster or slower
but for what a night leaves. With --profile a table of functions is written there.
"""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil

from benchmarks.scale import SETTINGS, fill_apart, in_a_process, listed
from benchmarks.stand_ins import in_place
from benchmarks.table import parser, publish
from flows._server import prefect_api
from sage_core.config import load_config

_MB = 1 << 20


class Laps:
    """What parts of a night took: seconds by the clock and of the CPU, and memory at their ends, in MB."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self._process = psutil.Process()

    @contextmanager
    def lap(self, part: str) -> Iterator[None]:
        wall, cpu = time.monotonic(), time.process_time()
        yield
        self.rows.append(
            {
                "part": part,
                "wall s": round(time.monotonic() - wall, 2),
                "CPU s": round(time.process_time() - cpu, 2),
                "resident MB": round(self._process.memory_info().rss / _MB),
                "peak MB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
            }
        )

    def around(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The function that runs a stage, with a lap for each."""

        def run(stage: Any, *arguments: Any) -> Any:
            with self.lap(stage.value):
                return work(stage, *arguments)

        return run


def night(workspace: Path, out: Path, profile: Path | None) -> None:
    """Measure one night in this process, which must not have imported Prefect yet."""
    config, laps = load_config(overrides=list(SETTINGS)), Laps()
    with prefect_api(workspace), in_place():  # clips of stand-ins are compared with none
        from flows import nightly as flow

        given = {"workspace": str(workspace), "config": config, "return_state": True}
        known = [str(workspace / "known.txt")]
        profiler = cProfile.Profile() if profile else None
        with patch.object(flow, "_run_stage", laps.around(flow._run_stage)), laps.lap("night"):
            if profiler:
                profiler.enable()
            summaries = flow.nightly(sources=known, **given).result()
            if profiler:
                profiler.disable()
    judged = sum(s.judged for s in summaries)
    assert not judged, f"{judged} items were judged: {summaries}"
    assert not any(s.broken for s in summaries), summaries
    out.write_text(json.dumps(laps.rows))
    if profiler and profile:
        with profile.open("w") as file:
            pstats.Stats(profiler, stream=file).sort_stats("cumulative").print_stats(120)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--folder", type=Path, required=True, help="keeps the workspaces")
    options.add_argument("--filled", type=int, default=20_000, help="finished films")
    options.add_argument("--profile", type=Path, help="write a profile there; the CPU is more then")
    given = options.parse_args(arguments)
    workspace, out = given.folder / f"filled-{given.filled}", given.folder / "night.json"
    if not (workspace / "known.txt").exists():
        fill_apart(workspace, given.filled)
        (workspace / "known.txt").write_text(listed(0, given.filled))
    in_a_process(night, workspace, out, given.profile)
    publish(
        f"A night with nothing to do, {given.filled} films",
        json.loads(out.read_text()),
        given.json,
        load=round(os.getloadavg()[0], 1),
    )


if __name__ == "__main__":
    main()
