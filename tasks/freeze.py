"""The shards of now, frozen: what a night has made is known by one name, whatever comes later."""

from __future__ import annotations

from data_catalog import Workspace
from sage_core.types import Artifact, Stage
from tasks._plan import assembled_clips


def freeze(ws: Workspace) -> str | None:
    """The id of the snapshot of all current clips in shards, held-out ones too; None if there are none.

    The same shards and clips have the same id, so that a night without news freezes nothing new.
    """
    parts: dict[str, list[str]] = {}
    shards: dict[str, Artifact] = {}
    for clip in assembled_clips(ws):
        event = ws.catalog.find(clip, Stage.ASSEMBLE.value)
        assert event is not None, "assembled_clips has found it"
        parts.setdefault(event.artifacts["frames"].path, []).append(clip)
        for name in ("frames", "clips"):
            shards[event.artifacts[name].path] = event.artifacts[name]
    if not shards:
        return None
    query: dict[str, object] = {"stage": Stage.ASSEMBLE.value, "clips": parts}
    return ws.catalog.snapshot(list(shards.values()), query).id
