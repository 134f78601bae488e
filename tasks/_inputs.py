"""What a unit of work takes in: the events and artifacts of the stages before it, and their hash.

The hash decides, with the config hash, whether a verdict still holds: when an earlier stage is redone
and gives the same bytes, nothing after it is redone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from data_catalog import DROPPED, StageEvent, Workspace
from sage_core.errors import SageError
from sage_core.types import Artifact, Reason, Stage, Verdict


@dataclass(frozen=True)
class Inputs:
    """Inputs of one item at one stage.

    ``artifacts`` by the names that the stages before gave them (``video``, ``model``, …); ``details`` of
    the event that made the item ready (for a clip: ``details["clip"]``).
    """

    item: str
    source: str
    parent: str | None
    artifacts: dict[str, Artifact]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Sixteen hex digits over the artifacts' contents, the parts to use, the clip's frame plan."""
        text = json.dumps(
            [
                sorted(a.sha256 for a in self.artifacts.values()),
                self.details.get("clip"),
                self.details.get("sections", []),
            ],
            sort_keys=True,
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def curate_inputs(ws: Workspace, video: str) -> Inputs:
    """The fetched file of an accepted video: artifact ``video``."""
    acquired = _accepted(ws, video, Stage.ACQUIRE)
    artifacts = {"video": acquired.artifacts["video"]}
    return Inputs(video, acquired.source, None, artifacts, acquired.details)


def reconstruct_inputs(ws: Workspace, clip: str) -> Inputs:
    """An accepted clip and its video's file: artifact ``video``, ``details["clip"]``."""
    curated = _accepted(ws, clip, Stage.CURATE)
    video = curated.parent or clip
    artifacts = {"video": _accepted(ws, video, Stage.ACQUIRE).artifacts["video"]}
    return Inputs(clip, curated.source, curated.parent, artifacts, curated.details)


def assemble_inputs(ws: Workspace, item: str) -> Inputs:
    """A reconstructed clip, or a part of one: artifacts ``video`` and ``model``, ``details["clip"]``.

    The frame plan is that of the frames that were kept; the parent of a part is its clip's video.
    """
    model = _accepted(ws, item, Stage.RECONSTRUCT)
    before = reconstruct_inputs(ws, _whole_of(ws, model))
    artifacts = {**before.artifacts, "model": model.artifacts["model"]}
    details = {**before.details, "clip": model.details.get("clip", before.details["clip"])}
    return Inputs(item, before.source, before.parent, artifacts, details)


def _whole_of(ws: Workspace, model: StageEvent) -> str:
    """The clip that reconstruct cut a part from; a clip's own id otherwise."""
    parent = ws.catalog.find(model.parent, Stage.RECONSTRUCT.value) if model.parent else None
    return parent.item if parent else model.item


def gone(ws: Workspace, inputs: Inputs, *, on_purpose: bool = False) -> str | None:
    """What an item takes in and is not there, and how to get it again, in words; None if all is.

    With ``on_purpose`` only what retention dropped counts.
    """
    for name, artifact in inputs.artifacts.items():
        stage = _MADE_BY.get(name, Stage.ACQUIRE)
        maker = inputs.item if stage is Stage.RECONSTRUCT else inputs.parent or inputs.item
        event = ws.catalog.find(maker, stage.value)
        when = event.details.get(DROPPED, {}).get(name) if event else None
        if (on_purpose and not when) or ws.store.verify(artifact):
            continue
        how = f"was dropped by retention ({when})" if when else "is missing or not as recorded"
        if event and stage is Stage.RECONSTRUCT:
            maker = _whole_of(ws, event)
        again = f"`sage {stage.value} --retry all --item {maker}` brings it back"
        return f"its {name} ({artifact.path}) {how}: {again}"
    return None


def check_present(ws: Workspace, inputs: Inputs) -> None:
    """Go on if all that an item takes in is there.

    Raises:
        SageError: ``missing_input``, with what brings it back.
    """
    if missing := gone(ws, inputs):
        raise SageError(f"{inputs.item}: {missing}", reason=Reason.MISSING_INPUT)


_MADE_BY = {"video": Stage.ACQUIRE, "model": Stage.RECONSTRUCT}


def _accepted(ws: Workspace, item: str, stage: Stage) -> StageEvent:
    event = ws.catalog.find(item, stage.value)
    if event is None or event.verdict != Verdict.ACCEPTED.value:
        raise SageError(
            f"{item} has not been accepted by {stage.value}: run `sage {stage.value}` first",
            reason=Reason.MISSING_INPUT,
        )
    return event
