"""The shards of now, frozen: what a night has made is known by one name, whatever comes later."""

from __future__ import annotations

from data_catalog import Workspace
from sage_core.types import Artifact, Stage
from tasks._plan import assembled_clips
from tasks._rest import all_there, noted


def freeze(ws: Workspace) -> str | None:
    """The id of the snapshot of all current clips in shards, held-out ones too; None if there are none.

    The same shards and clips have the same id, so that a night without news freezes nothing new.
    """
    note = noted(ws, "snapshot", Stage.ASSEMBLE)
    if note.value and note.value["id"] in ws.catalog.snapshots() and all_there(ws, note.value):
        return str(note.value["id"])
    parts: dict[str, list[str]] = {}
    shards: dict[str, Artifact] = {}
    with ws.catalog.still():
        for clip in assembled_clips(ws):
            event = ws.catalog.find(clip, Stage.ASSEMBLE.value)
            assert event is not None, "assembled_clips has found it"
            files = event.artifacts
            parts.setdefault(files["frames"].path, []).append(clip)
            for name in ("frames", "clips"):
                shards[files[name].path] = files[name]
    if not shards:
        return None
    query: dict[str, object] = {"stage": Stage.ASSEMBLE.value, "clips": parts}
    frozen = ws.catalog.snapshot(list(shards.values()), query).id
    note.keep({"id": frozen, "files": [(path, shard.bytes) for path, shard in shards.items()]})
    return frozen
