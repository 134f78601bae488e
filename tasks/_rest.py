"""A stage at rest: what its plan found when nothing was missing holds until something changes.

So a night without news asks the disk for the files that it is about, and does not read the catalog.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_catalog import Note, Workspace
from sage_core import __version__
from sage_core.types import Artifact, Stage

_ORDER = list(Stage)


def noted(
    ws: Workspace, name: str, last: Stage, given: Any = None, first: Stage = _ORDER[0]
) -> Note:
    """The note of what follows from the verdicts of some stages in a row, ``last`` among them."""
    stages = _ORDER[_ORDER.index(first) : _ORDER.index(last) + 1]
    return ws.catalog.note(name, [stage.value for stage in stages], [__version__, given])


def rest_of(ws: Workspace, note: Note) -> tuple[int, list[str]] | None:
    """How many items are done, and which are kept as they are; None if a plan has to be made.

    It has to be made, too, if a file is not there that was when the note was written.
    """
    if note.value is None or not all_there(ws, note.value):
        return None
    return note.value["done"], note.value["kept"]


def all_there(ws: Workspace, value: dict[str, Any]) -> bool:
    """Whether the files that a note names are there, of the sizes that they had."""
    with ws.store.still():
        return all(ws.store.verify(Artifact(path, "", size)) for path, size in value["files"])


def keep_rest(
    ws: Workspace, note: Note, stage: Stage, items: Sequence[str], kept: list[str]
) -> None:
    """Note that these items of the stage are done, and nothing is missing."""
    files: dict[str, int] = {}
    with ws.still():
        for item in items:
            event = ws.catalog.find(item, stage.value)
            for artifact in event.artifacts.values() if event else ():
                if ws.store.verify(artifact):  # others were dropped on purpose
                    files[artifact.path] = artifact.bytes
    note.keep({"done": len(items), "kept": kept, "files": sorted(files.items())})
