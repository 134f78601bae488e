"""``latest``: the adapted model of a workspace that nights begin from and people use, and those before it.

One file, replaced in one step, says which run's weights these are, and which they were before. Everything
else about a run is in the catalog.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from data_catalog import StageEvent, StoreError, Workspace
from sage_core.types import Stage, Verdict

FILE = "models/latest.json"
_VERSION = 1


@dataclass(frozen=True)
class Promoted:
    """A run whose weights are, or were, ``latest``.

    Attributes:
        run: the training run's id.
        weights: path of its weights, relative to the workspace.
        sha256: of that file.
        snapshot: id of the list of shards that it was trained on.
        base: what it began from.
        figures: what the gate judged it by, as in the catalog.
        time: when it became latest, for people.
    """

    run: str
    weights: str
    sha256: str
    snapshot: str
    base: str
    figures: dict[str, dict[str, Any]]
    time: str

    @classmethod
    def of(cls, adapted: StageEvent, figures: dict[str, dict[str, Any]]) -> Self:
        """The run of an event of adapt."""
        checkpoint = adapted.artifacts["checkpoint"]
        return cls(
            adapted.item,
            checkpoint.path,
            checkpoint.sha256,
            str(adapted.details.get("snapshot", "")),
            str(adapted.details.get("base") or adapted.source),
            figures,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )


def history(ws: Workspace) -> list[Promoted]:
    """All that were ever ``latest``, the present one first; empty if there is none yet.

    Raises:
        StoreError: the file was made by a newer SAGE, or is damaged.
    """
    if not ws.store.exists(FILE):
        return []
    data = ws.store.read_json(FILE)
    if data.get("version") != _VERSION:
        raise StoreError(f"{FILE} is of version {data.get('version')}, which this SAGE cannot read")
    return [Promoted(**entry) for entry in data["history"]]


def latest(ws: Workspace) -> Promoted | None:
    """The run whose weights are ``latest``."""
    return next(iter(history(ws)), None)


def make_latest(ws: Workspace, chosen: Promoted) -> None:
    """Put a run at the head of the history, in one step; hold the lease of evaluate meanwhile."""
    entries = [chosen, *history(ws)]
    ws.store.write_json(FILE, {"version": _VERSION, "history": [asdict(e) for e in entries]})


def trained_clips(ws: Workspace, promoted: Promoted) -> frozenset[str]:
    """The clips that a run was trained on, by its snapshot."""
    if not promoted.snapshot:
        return frozenset()
    query = ws.catalog.load_snapshot(promoted.snapshot).query
    return frozenset(clip for part in query["clips"].values() for clip in part)


def back_to(ws: Workspace, run: str) -> Promoted:
    """Make a run ``latest`` that was so before; what the gate said of it then stands.

    Raises:
        StoreError: it never was, or its weights are not there any more.
    """
    known = {entry.run: entry for entry in reversed(history(ws))}
    if run not in known:
        never = ", ".join(known) or "none yet"
        raise StoreError(f"{run} never was latest in {ws.root}; these were: {never}")
    if not ws.store.exists(known[run].weights):
        raise StoreError(f"the weights of {run}, {known[run].weights}, are not there any more")
    make_latest(ws, known[run])
    return known[run]


def promotable(ws: Workspace) -> Iterator[tuple[StageEvent, StageEvent]]:
    """Finished runs and their evaluations, in the order in which they were trained."""
    adapted = ws.catalog.latest(Stage.ADAPT.value, verdict=Verdict.ACCEPTED.value)
    for run in sorted(adapted, key=lambda event: (event.time, event.item)):
        measured = ws.catalog.find(run.item, Stage.EVALUATE.value)
        if measured is not None and measured.verdict != Verdict.FAILED.value:
            yield run, measured
