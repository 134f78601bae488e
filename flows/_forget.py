"""``sage forget``: remove a video, or all of an uploader's, for good; lists of removals to share."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_catalog import LeaseHeld, Workspace
from flows._ending import teach, usage
from flows._options import is_workspace, place
from flows._progress import say

if TYPE_CHECKING:
    from tasks.forget import Forgotten, Removed


def forget(
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
    named: Annotated[
        list[str] | None,
        typer.Argument(metavar="ITEM|URL…", help="Videos by id, URL or path.", show_default=False),
    ] = None,
    uploader: Annotated[
        str | None, typer.Option(help="All videos of this uploader or channel, now and later.")
    ] = None,
    from_: Annotated[
        Path | None, typer.Option("--from", help="The removals of a shared list (see --to).")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why, in words; kept with the tombstone.")] = "",
    to: Annotated[
        Path | None, typer.Option(help="Write this workspace's removals to a list to be shared.")
    ] = None,
    now: Annotated[
        bool,
        typer.Option("--now", help="Remove from the disk at once, not with the next assemble."),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Remove a video for good, with all that came of it, and keep it from being mined again.

    Lists the training runs that have seen it: their weights cannot unlearn it.
    """
    ways = [bool(named), uploader is not None, from_ is not None]
    if sum(ways) > 1 or not (any(ways) or to or now):
        usage("name what to forget: items or URLs, or --uploader, or --from a list")
    if (named or uploader) and not reason.strip():
        usage("say why: --reason 'asked for by its author'")
    if not is_workspace(workspace):
        usage(f"{workspace} is no workspace (it has no catalog)")
    ws = Workspace.open(workspace.resolve())
    done = teach(lambda: _put_up(ws, named or [], uploader, from_, reason.strip()))
    removed = teach(lambda: _removed(ws)) if now else None
    if to is not None:
        teach(lambda: _shared(ws, to))
    _tell(done, removed, as_json=json_)


def told(removed: Removed) -> str:
    """One line: what a removal took away."""
    rewritten = sum(new is not None for new in removed.shards.values())
    return (
        f"{len(removed.items)} items out of the catalog, {len(removed.paths)} files and folders, "
        f"{len(removed.shards)} shards, of which {rewritten} were written anew without them"
    )


def _shared(ws: Workspace, file: Path) -> None:
    from tasks.tombstones import Tombstones, write_list

    write_list(Tombstones.of(ws), file)


def _put_up(
    ws: Workspace, named: list[str], uploader: str | None, listed: Path | None, reason: str
) -> Forgotten:
    from tasks.forget import forget_listed, forget_uploader, forget_videos
    from tasks.tombstones import read_list

    if named:
        return forget_videos(ws, named, reason)
    if uploader is not None:
        return forget_uploader(ws, uploader, reason)
    return forget_listed(ws, read_list(listed) if listed else [])


def _removed(ws: Workspace) -> Removed | None:
    """What was removed, or None, said why, where a stage is running."""
    from flows.report import LATEST, write_report
    from tasks.forget import remove_forgotten

    had_report = ws.store.exists(LATEST)
    try:
        removed = remove_forgotten(ws, f"sage forget@{socket.gethostname()}:{os.getpid()}")
    except LeaseHeld as error:
        say("not removed yet:", str(error), "yellow")
        return None
    if had_report:
        write_report(ws.address)
    return removed


def _tell(done: Forgotten, removed: Removed | None, *, as_json: bool) -> None:
    if as_json:
        found: dict[str, Any] = {
            "tombstones": [asdict(stone) for stone in done.stones],
            "runs": done.runs,
            "removed": asdict(removed) if removed else None,
        }
        print(json.dumps(found, indent=2))
        return
    for stone in done.stones:
        say("forgotten", f"{stone.key} ({stone.kind.value}): {stone.reason}", "green")
    for run, checkpoint in done.runs.items():
        say("has seen it", f"{run} {checkpoint}: delete it, or train anew", "yellow")
    if removed is not None:
        say("removed", told(removed), "green")
    elif done.stones:
        say("on disk", "until the next assemble, or `sage forget --now`", "dim")
