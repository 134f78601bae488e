"""``sage export``: the current clips in forms that others read."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_catalog import Workspace
from flows._ending import teach, usage
from flows._options import is_workspace, place
from flows._progress import say

if TYPE_CHECKING:
    from sage_core.exports import Export


class Form(StrEnum):
    """What an export is for."""

    RE10K = "re10k"
    COLMAP = "colmap"
    NERFSTUDIO = "nerfstudio"
    WEBDATASET = "webdataset"
    HUGGINGFACE = "huggingface"


def export(
    form: Annotated[
        Form,
        typer.Argument(
            help=(
                "re10k: camera files without pixels; colmap: a model a clip; nerfstudio: transforms.json; "
                "webdataset: tar files; huggingface: Parquet."
            )
        ),
    ],
    workspace: Annotated[
        Path,
        typer.Option(
            "--workspace",
            "-w",
            envvar="SAGE_WORKSPACE",
            parser=place,
            help="A folder or URL.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder to make.")],
    item: Annotated[
        list[str] | None,
        typer.Option("--item", "-i", help="Only this clip, or this video's. Repeatable."),
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Write the clips that are in shards now, with who made them, into a folder that appears whole.

    Killed, it goes on where it was when it is given again. What was forgotten, or a stage no longer accepts,
    is not in it.
    """
    if not is_workspace(workspace):
        usage(f"{workspace} is no workspace (it has no catalog)")
    done = teach(lambda: _exported(Workspace.open(workspace.resolve()), form, out.resolve(), item))
    if json_:
        print(json.dumps({"out": str(out), **asdict(done)}, indent=2))
        return
    say("wrote", f"{out}: {done.clips} clips, {done.frames} frames", "green")
    for clip, why in done.left_out.items():
        say("left out", f"{clip}: {why}", "yellow")


def _exported(ws: Workspace, form: Form, out: Path, items: list[str] | None) -> Export:
    from sage_core.exports import export as write

    columns = (
        TextColumn(f"[bold]{form.value}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=None)
        return write(
            _current(ws, items),
            form.value,
            out,
            lambda done, all_: bar.update(task, completed=done, total=all_),
        )


def _current(ws: Workspace, items: list[str] | None) -> dict[Path, list[str]]:
    """The current clips by frames file: all, or those of these clips and videos."""
    from sage_core.types import Stage
    from tasks._plan import assembled_clips

    found: dict[Path, list[str]] = {}
    for clip in assembled_clips(ws):
        event = ws.catalog.find(clip, Stage.ASSEMBLE.value)
        if event is not None and (items is None or {event.item, event.parent} & set(items)):
            found.setdefault(
                ws.store.fetch(event.artifacts["frames"], event.artifacts["clips"]), []
            ).append(clip)
    return found
