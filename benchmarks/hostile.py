"""Hostile videos: a thousand mutants through acquire's check and curate, in the real sandbox.

python -m benchmarks.hostile --videos 1000 --seed 0 --workspace hostile --resume

Each mutant becomes an item of a real workspace: copied, probed, decoded and, if it is accepted, curated,
with the same children and the same limits as on any night, and gets a verdict at each. Beside the workspace
stand a file and a listener on a loopback address that many mutants point at; both tell if they are touched.
With ``--resume`` items that have a verdict are not tried again.
"""

from __future__ import annotations

import resource
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from benchmarks.mutations import Bases, Mutant, Traps, mutant
from benchmarks.table import parser, publish
from benchmarks.traps import SetTraps
from data_catalog import StageEvent, Workspace
from sage_core.acquisition.hosts import HostGate
from sage_core.acquisition.sources import SourceItem, SourceKind
from sage_core.config import SageConfig, load_config
from sage_core.types import Reason, Stage
from tasks.acquire import Contents, fetch_item, record_item
from tasks.curate import curate_video

SETTINGS = (
    "acquire.max_duration_s=3600",
    "curate.min_duration_s=1",
    "curate.min_clip_s=1",
    "curate.min_short_side_px=64",
    "curate.time_limit_s=300",
)
"""Small films, as the bases are, are to reach the decoder of curate, too."""


@dataclass(frozen=True)
class Trial:
    """Where mutants are tried: workspace, settings, what the bases are, what must not be touched."""

    workspace: Path
    config: SageConfig
    bases: Bases
    traps: Traps
    seed: int

    def run(self, number: int, folder: Path) -> list[StageEvent]:
        """Try one mutant and return its verdicts."""
        made = mutant(number, self.seed, self.bases, self.traps)
        item = f"v{self.seed:04x}{number:012x}"
        source = self._written(item, made, folder)
        ws = Workspace.open(self.workspace)
        gate = HostGate()
        fetched = fetch_item.fn(str(self.workspace), source, self.config, gate)
        record_item(ws, source, fetched, Contents.of(ws), self.config, made.kind)
        if fetched.outcome.artifacts and ws.store.exists(f"videos/{item}"):
            curate_video.fn(str(self.workspace), item, self.config, made.kind)
        return ws.catalog.latest(item=item)

    def _written(self, item: str, made: Mutant, folder: Path) -> SourceItem:
        file = folder / made.name
        file.write_bytes(made.data)
        return SourceItem(item, f"{made.kind}/{made.name}", SourceKind.FILE, str(file))

    def is_done(self, number: int) -> bool:
        catalog = Workspace.open(self.workspace).catalog
        return catalog.find(f"v{self.seed:04x}{number:012x}", Stage.ACQUIRE.value) is not None


def rows(events: Sequence[StageEvent]) -> list[dict[str, Any]]:
    """One row a kind of mutant: verdicts and reasons at both stages, the longest time, the most memory."""
    kinds: dict[str, list[StageEvent]] = {}
    for event in events:
        if event.parent is None:
            kinds.setdefault(event.source.split("/")[0], []).append(event)
    return [
        {
            "mutant": kind,
            "files": sum(e.stage == Stage.ACQUIRE.value for e in found),
            "acquire": _counted(found, Stage.ACQUIRE),
            "curate": _counted(found, Stage.CURATE),
            "longest s": max(e.seconds for e in found),
            "most MiB": max(e.details.get("peak_mb", 0) for e in found),
        }
        for kind, found in kinds.items()
    ]


def _counted(events: Sequence[StageEvent], stage: Stage) -> str:
    found = Counter(e.reason or e.verdict for e in events if e.stage == stage.value)
    return ", ".join(f"{reason} {n}" for reason, n in found.most_common()) or "–"


def unforeseen(events: Sequence[StageEvent]) -> list[str]:
    """Verdicts that say that SAGE itself did not know what to do, or that a worker died: to be mended."""
    wrong = {Reason.INTERNAL_ERROR.value, Reason.CRASHED.value}
    return [f"{e.item} {e.source} {e.stage}: {e.message}" for e in events if e.reason in wrong]


def main(argv: Sequence[str] | None = None) -> None:
    options = parser(__doc__)
    options.add_argument("--videos", type=int, default=1000, help="how many mutants")
    options.add_argument("--first", type=int, default=0, help="number of the first")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--workspace", type=Path, default=Path("hostile"))
    options.add_argument("--resume", action="store_true", help="go on in the workspace")
    told = options.parse_args(argv)
    if told.workspace.exists() and not told.resume:
        options.error(f"{told.workspace} is there already: give --resume, or another --workspace")
    root = told.workspace.resolve()
    Workspace.open(root)
    numbers = range(told.first, told.first + told.videos)
    with tempfile.TemporaryDirectory() as beside, SetTraps(Path(beside, "outside")) as traps:
        bases = Bases(Path(beside))
        trial = Trial(root, load_config(overrides=SETTINGS), bases, traps.traps, told.seed)
        todo = [n for n in numbers if not trial.is_done(n)]
        touched = 0
        for number in track(todo, description="hostile"):
            folder = Path(tempfile.mkdtemp(dir=beside))
            trial.run(number, folder)
            shutil.rmtree(folder)
            touched += traps.opened + traps.called
            traps.called = 0
    wanted = {f"v{told.seed:04x}{n:012x}" for n in numbers}
    events = [e for e in Workspace.open(root).catalog.latest() if e.item in wanted]
    publish(
        f"{len(numbers)} hostile videos, seed {told.seed}",
        rows(events),
        told.json,
        tried_now=len(todo),
        traps_touched=touched,
        unforeseen=len(unforeseen(events)),
        peak_of_the_worker_MiB=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    for line in unforeseen(events):
        print(line)


if __name__ == "__main__":
    main()
