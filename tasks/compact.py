"""Shards without dead rows: what the stages before no longer accept leaves them; nothing is decoded.

A shard is never changed: what is left of it is copied into a new one, the verdicts then name that, and the
old files go, unless a snapshot holds them. Killed in between, the next time does what is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from data_catalog import StageEvent, Workspace
from sage_core.assembly import shard_name
from sage_core.shards import ShardReader, join_shards
from sage_core.shards.write import clips_name, frames_name
from sage_core.types import Artifact, Reason, Stage, Verdict
from tasks._plan import assembled_clips
from tasks._rest import noted

_FOLDER = "shards"


@dataclass(frozen=True)
class Compacted:
    """What a compaction did: clips that left, shards written anew, files removed and their bytes."""

    left: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    freed_bytes: int = 0


def leave_shards(ws: Workspace, run: str) -> Compacted:
    """Let clips leave their shards that a stage before rejects now, or that are no clips any more.

    Call it with the lease of assemble held. A clip that could not be judged anew (a failure) stays.
    """
    note = noted(ws, "fallen", Stage.ASSEMBLE)
    if note.value == 0:
        return Compacted()
    fallen = _fallen(ws)
    _append(ws, [_superseded(ws, event) for event in fallen], run)
    if not fallen:
        note.keep(0)
        return Compacted()
    done = _rewritten(ws, {event.artifacts["frames"].path for event in fallen}, run)
    return replace(done, left=[event.item for event in fallen])


def compact_shards(ws: Workspace, run: str) -> Compacted:
    """:func:`leave_shards`, then the same for rows that were assembled again elsewhere, and files of no use.

    Call it with the leases of assemble and evaluate held.
    """
    first = leave_shards(ws, run)
    second = _rewritten(ws, {e.artifacts["frames"].path for e in _held(ws)}, run)
    third = _remove(ws, _unused(ws))
    return Compacted(
        first.left,
        first.rewritten + second.rewritten,
        first.removed + second.removed + third.removed,
        first.freed_bytes + second.freed_bytes + third.freed_bytes,
    )


def _held(ws: Workspace) -> list[StageEvent]:
    """The verdicts that put clips into shards."""
    accepted = ws.catalog.latest(Stage.ASSEMBLE.value, verdict=Verdict.ACCEPTED.value)
    return [event for event in accepted if "frames" in event.artifacts]


def _fallen(ws: Workspace) -> list[StageEvent]:
    """Events of clips in shards whose clip or model has been rejected since, or cut anew."""
    sound = set(assembled_clips(ws))
    return [e for e in _held(ws) if e.item not in sound and not _unjudged(ws, e)]


def _unjudged(ws: Workspace, event: StageEvent) -> bool:
    """Whether the clip is out only for a failure of its video at an earlier stage."""
    stages = (Stage.ACQUIRE.value, Stage.CURATE.value)
    before = (ws.catalog.find(event.parent or event.item, stage) for stage in stages)
    return any(e is not None and e.verdict == Verdict.FAILED.value for e in before)


def _superseded(ws: Workspace, event: StageEvent) -> StageEvent:
    """The verdict on a clip that leaves; without an input hash: should it come back, it is missing."""
    return replace(
        event,
        verdict=Verdict.REJECTED.value,
        reason=Reason.SUPERSEDED.value,
        message=f"it left its shard: {_why(ws, event)}",
        artifacts={},
        input_hash="",
    )


def _why(ws: Workspace, event: StageEvent) -> str:
    for stage in (Stage.CURATE, Stage.RECONSTRUCT):
        before = ws.catalog.find(event.item, stage.value)
        if before is not None and before.verdict == Verdict.REJECTED.value:
            return f"{stage.value} rejects it now ({before.reason})"
    return "its video was cut into other clips, or is wanted no more"


def _rewritten(ws: Workspace, paths: Iterable[str], run: str) -> Compacted:
    """The shards (frames files) that hold more than their live clips, each copied without the rest."""
    live: dict[str, list[StageEvent]] = {}
    for event in _held(ws):
        live.setdefault(event.artifacts["frames"].path, []).append(event)
    done = []
    for path in sorted(paths):
        events = live.get(path, [])
        if not events or not ws.store.exists(path):
            continue
        file = ws.store.fetch(events[0].artifacts["frames"], events[0].artifacts["clips"])
        if ShardReader([file]).names != [event.item for event in events]:
            done.append(_copied(ws, file, events, run))
    removed = _remove(ws, _unused(ws) & _pairs(paths))
    return Compacted([], done, removed.removed, removed.freed_bytes)


def _copied(ws: Workspace, file: Path, events: list[StageEvent], run: str) -> str:
    """Copy the rows of these clips into a shard of their own and record that they lie there."""
    name = shard_name({e.item: e.input_hash for e in events}, events[0].config_hash)
    old = file.stem.removeprefix("frames-")
    with ws.store.scratch() as area:
        join_shards([(file.parent, old)], area, name, clips={e.item for e in events})
        files = {
            kind: ws.store.publish(area / file, f"{_FOLDER}/{file}")
            for kind, file in (("frames", frames_name(name)), ("clips", clips_name(name)))
        }
    _append(ws, [replace(event, artifacts=files) for event in events], run)
    return files["frames"].path


def _append(ws: Workspace, events: list[StageEvent], run: str) -> None:
    """Record events that repeat the ones before them but for what changed; they cost nothing."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    changed = [
        replace(e, attempt=e.attempt + 1, seconds=0.0, cpu_seconds=0.0, time=now, run=run)
        for e in events
    ]
    if changed:
        ws.catalog.append(changed)


def _unused(ws: Workspace) -> set[str]:
    """Shard files that neither a clip's verdict nor a snapshot names."""
    there = {path for path in ws.store.sizes(_FOLDER) if path.endswith(".parquet")}
    named = {a.path for event in _held(ws) for a in event.artifacts.values()}
    return there - named - {shard.path for shard in frozen_shards(ws)}


def frozen_shards(ws: Workspace) -> list[Artifact]:
    """The shard files of all snapshots."""
    snapshots = (ws.catalog.load_snapshot(name) for name in ws.catalog.snapshots())
    return [shard for snapshot in snapshots for shard in snapshot.shards]


def _pairs(paths: Iterable[str]) -> set[str]:
    """Both files of each shard, by its frames file."""
    return {p for path in paths for p in (path, path.replace("/frames-", "/clips-"))}


def _remove(ws: Workspace, paths: Iterable[str]) -> Compacted:
    removed, freed, sizes = [], 0, ws.store.sizes(_FOLDER)
    for path in sorted(paths):
        freed += sizes.get(path, 0)
        ws.store.remove(path)
        removed.append(path)
    return Compacted(removed=removed, freed_bytes=freed)
