"""Starting children: each importing what its work needs, and forked from a process that has it imported.

    python -m benchmarks.starts --json starts.json

For each kind of work, children that do nothing but have its modules: started in both ways in turns, CPU
seconds as the kernel accounts them to the child. What the warm process itself uses, once, is its own column.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import psutil

from benchmarks.table import parser, publish
from sage_core.acquisition import fetch
from sage_core.assembly import shard
from sage_core.sandbox import Limits, call, metered
from sage_core.sfm import run as sfm
from tasks import curate

KINDS = {
    "acquire": fetch.IMPORTS,
    "curate": curate.IMPORTS,
    "reconstruct": sfm.IMPORTS,
    "assemble": shard.IMPORTS,
}


def row(kind: str, modules: tuple[str, ...], rounds: int) -> dict[str, Any]:
    """Median CPU seconds of a child of that kind, both ways."""
    _cpu_s(modules, modules)
    warm = _newest_with(modules)
    times = warm.cpu_times()
    pairs = [(_cpu_s(modules, ()), _cpu_s(modules, modules)) for _ in range(rounds)]
    alone, forked = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {
        "child": kind,
        "started": alone,
        "forked": forked,
        "ratio": statistics.median(a / b for a, b in pairs),
        "warm process, once": times.user + times.system,
        "its MiB": warm.memory_info().rss / 2**20,
    }


def _newest_with(modules: tuple[str, ...]) -> psutil.Process:
    """The warm process of these modules."""
    living = [
        process
        for process in psutil.Process().children()
        if process.status() != psutil.STATUS_ZOMBIE
        and process.cmdline()[-len(modules) :] == list(modules)
    ]
    return max(living, key=lambda process: process.create_time())


def _cpu_s(modules: tuple[str, ...], imports: tuple[str, ...]) -> float:
    with metered() as usage:
        call("benchmarks.importing:import_all", {"modules": modules}, Limits(600), imports=imports)
    return usage.cpu_s


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args(arguments)
    rows = [row(kind, modules, given.rounds) for kind, modules in KINDS.items()]
    publish("CPU seconds to start a child", rows, given.json)


if __name__ == "__main__":
    main()
