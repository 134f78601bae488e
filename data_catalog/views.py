"""What people and reports ask of a catalog."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any

from data_catalog import _schema
from data_catalog._schema import StageEvent
from data_catalog._workspace import Workspace
from sage_core.types import Artifact, Stage, Verdict

_ITEM_KEYS = (
    *("item", "parent", "source", "stage", "verdict", "reason", "message", "figures"),
    *("attempt", "seconds", "retryable", "artifacts", "details"),
)
_KIND_OF_WHOLE = {Stage.ADAPT.value: "run", Stage.EVALUATE.value: "run"}
_CIRCUMSTANCES = ("attempt", "sequence", "seconds", "cpu_seconds", "host", "time", "run")
_CIRCUMSTANTIAL_DETAILS = ("peak_mb", "cpu_s")

DROPPED = "dropped"
"""Key in an event's details: names of the artifacts that retention removed since, each with the date."""


def items(
    ws: Workspace, stage: str | None = None, verdict: str | None = None
) -> list[dict[str, Any]]:
    """The latest verdicts as plain dictionaries, ready for JSON, sorted by stage and item."""
    rows = _schema.plain(ws.catalog.latest(stage, verdict=verdict))
    return [{key: row[key] for key in _ITEM_KEYS} for row in rows]


def funnel(ws: Workspace) -> list[dict[str, Any]]:
    """What became of the items, stage by stage.

    Returns:
        One row for each stage and kind of item (``"video"``, ``"clip"`` if it has a parent, ``"run"`` of
        training) that there is: ``stage``, ``kind``, ``total``, a count for each verdict, and ``reasons``:
        reason -> count, most frequent first.
    """
    groups: dict[tuple[str, str], Counter[tuple[str, str | None]]] = {}
    for event in ws.catalog.each():
        kind = "clip" if event.parent else _KIND_OF_WHOLE.get(event.stage, "video")
        groups.setdefault((event.stage, kind), Counter())[event.verdict, event.reason] += 1
    order = list(Stage)
    return [
        {"stage": stage, "kind": kind, "total": counts.total()} | _by_verdict(counts)
        for (stage, kind), counts in sorted(
            groups.items(),
            key=lambda group: (order.index(Stage(group[0][0])), group[0][1] == "clip"),
        )
    ]


def done(
    ws: Workspace, item: str, stage: str, config_hash: str, input_hash: str
) -> StageEvent | None:
    """The latest verdict on an item, if it was reached under this config and from these inputs.

    It may be any verdict: whether a failure is tried again is the caller's choice. One whose artifacts
    are gone, or have another size than recorded, does not count, unless they were dropped on purpose.
    """
    event = ws.catalog.find(item, stage)
    if event is None or (event.config_hash, event.input_hash) != (config_hash, input_hash):
        return None
    gone = [name for name, artifact in event.artifacts.items() if not ws.store.verify(artifact)]
    return None if gone and not event.details.get(DROPPED, {}).keys() >= set(gone) else event


def input_hash_of(artifacts: Iterable[Artifact]) -> str:
    """Sixteen hex digits over paths and contents, whatever the order."""
    lines = sorted(f"{artifact.path}\0{artifact.sha256}\n" for artifact in artifacts)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def canonical(ws: Workspace) -> list[dict[str, Any]]:
    """The catalog's state without the circumstances: times, hosts, runs, attempts, memory used.

    Two workspaces in which the same was done have equal ones, however often either was interrupted.
    """
    rows = _schema.plain(ws.catalog.latest())
    for row in rows:
        for key in _CIRCUMSTANCES:
            del row[key]
        row["details"] = {
            key: value
            for key, value in row["details"].items()
            if key not in _CIRCUMSTANTIAL_DETAILS
        }
    return rows


def _by_verdict(counts: Counter[tuple[str, str | None]]) -> dict[str, Any]:
    verdicts, reasons = Counter[str](), Counter[str]()
    for (verdict, reason), count in counts.items():
        verdicts[verdict] += count
        if reason:
            reasons[reason] += count
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return {verdict.value: verdicts[verdict.value] for verdict in Verdict} | {
        "reasons": dict(ordered)
    }
