"""Retention: what nobody needs any more goes; verdicts stay, and what is gone is marked in the catalog.

A dropped artifact counts as there when it is asked whether a verdict still holds, so that nothing is fetched
or mapped again only because it was dropped. The mark is written before the file goes: killed in between,
the next time removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from data_catalog import DROPPED, StageEvent, Workspace
from sage_core.config import SageConfig
from sage_core.types import Stage, Verdict
from tasks._plan import (
    Plan,
    Selection,
    accepted_clips,
    plan_assemble,
    plan_curate,
    plan_reconstruct,
)


@dataclass(frozen=True)
class Spare:
    """Something that may go: a path in the workspace, its bytes, and whose artifact it is, if anyone's."""

    path: str
    bytes: int
    stage: Stage
    item: str
    artifact: str | None

    @property
    def what(self) -> str:
        """In words."""
        return self.artifact or "checkpoints"


def spare(ws: Workspace, config: SageConfig) -> list[Spare]:
    """What the settings of retention let go now, in the order of the stages."""
    retention = config.retention
    found: list[Spare] = []
    if retention.videos == "assembled" or retention.models == "assembled":
        clips, videos = _settled(ws, config)
        if retention.videos == "assembled":
            found += _artifacts(ws, Stage.ACQUIRE, "video", videos)
        if retention.models == "assembled":
            found += _artifacts(ws, Stage.RECONSTRUCT, "model", clips)
    if retention.checkpoints == "finished":
        found += _checkpoints(ws)
    return found


def prune(ws: Workspace, spares: list[Spare], run: str) -> int:
    """Mark and remove these; returns the bytes that are free then."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    marked = [_marked(ws, one, now, run) for one in spares if one.artifact is not None]
    ws.catalog.append([event for event in marked if event is not None])
    for one in spares:
        ws.store.remove(one.path)
    return sum(one.bytes for one in spares)


def _settled(ws: Workspace, config: SageConfig) -> tuple[set[str], set[str]]:
    """Clips and videos with which nothing is left to do under these settings, nothing having failed."""
    everything = Selection()
    busy = _names(plan_curate(ws, config, everything))
    busy |= _names(plan_reconstruct(ws, config, everything))
    busy |= _names(plan_assemble(ws, config, everything))
    busy |= _failed(ws)
    current = set(accepted_clips(ws))
    clips = {clip for clip in current if clip not in busy}
    curated = [e for e in ws.catalog.latest(Stage.CURATE.value) if e.parent is None]
    return clips | _rejected_clips(ws, current, busy), {
        e.item
        for e in curated
        if e.item not in busy and not busy & set(e.details.get("children", []))
    }


def _names(plan: Plan) -> set[str]:
    return {name for one in plan.missing for name in (one.item, one.parent or one.item)}


def _failed(ws: Workspace) -> set[str]:
    """Items that failed at a stage before training, and the videos of those: they may be tried again."""
    stages = (Stage.CURATE, Stage.RECONSTRUCT, Stage.ASSEMBLE)
    failed = Verdict.FAILED.value
    events = [e for stage in stages for e in ws.catalog.latest(stage.value, verdict=failed)]
    return {name for e in events for name in (e.item, e.parent or e.item)}


def _rejected_clips(ws: Workspace, current: set[str], busy: set[str]) -> set[str]:
    """Clips with a model that fell at the gate since, or that are no clips of the latest curation."""
    held = ws.catalog.latest(Stage.RECONSTRUCT.value)
    still = [e for e in held if not busy & {e.item, e.parent}]
    rejected = Verdict.REJECTED.value
    return {e.item for e in still if e.verdict == rejected or e.item not in current}


def _artifacts(ws: Workspace, stage: Stage, name: str, items: set[str]) -> Iterator[Spare]:
    for event in ws.catalog.latest(stage.value):
        artifact = event.artifacts.get(name)
        if event.item in items and artifact is not None and ws.store.exists(artifact.path):
            yield Spare(artifact.path, artifact.bytes, stage, event.item, name)


def _checkpoints(ws: Workspace) -> Iterator[Spare]:
    for event in ws.catalog.latest(Stage.ADAPT.value, verdict=Verdict.ACCEPTED.value):
        path = f"runs/{event.item}/checkpoints"
        if ws.store.exists(path):
            size = sum(ws.store.sizes(path).values())
            yield Spare(path, size, Stage.ADAPT, event.item, None)


def _marked(ws: Workspace, one: Spare, now: str, run: str) -> StageEvent | None:
    """The item's event again, with the artifact marked as dropped; None if it is already."""
    event = ws.catalog.find(one.item, one.stage.value)
    assert event is not None, "spare() has found it"
    before = event.details.get(DROPPED, {})
    if one.artifact in before:
        return None
    details = {**event.details, DROPPED: {**before, one.artifact: now[:10]}}
    again = replace(event, details=details, attempt=event.attempt + 1, time=now, run=run)
    return replace(again, seconds=0.0, cpu_seconds=0.0)
