"""``sage replay``: one stage once more on saved inputs, beside what was stored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from data_catalog import CatalogError, Workspace
from flows._ending import MANY_FAILED, OK, usage
from flows._progress import literal, say
from flows._server import prepare_environment
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.types import Stage

console = Console()


def replayed(
    workspace: Path,
    stage: Stage,
    items: list[str],
    config: SageConfig,
    *,
    sample: int | None,
    scratch: Path | None,
    as_json: bool,
) -> bool:
    """Replay these items, or so many drawn by the seed, print how they compare; True if all are the same."""
    prepare_environment(workspace)
    from tasks.replay import sample as drawn

    ws = Workspace.open(workspace, create=False)
    chosen = [*items, *(drawn(ws, stage, sample, config.run.seed) if sample else ())]
    if not chosen:
        usage(f"name items of {stage.value}, or let some be drawn with --sample")
    results = [_replay(ws, stage, item, config, scratch) for item in chosen]
    if as_json:
        print(json.dumps(results, indent=2, default=str))
    elif len(results) == 1:
        _show(results[0])
    else:
        _summary(results)
    return all(result["same"] for result in results)


def ending(same: bool) -> typer.Exit:
    """0 if everything is the same, 1 if something differs or could not be replayed."""
    return typer.Exit(OK if same else MANY_FAILED)


def _replay(
    ws: Workspace, stage: Stage, item: str, config: SageConfig, scratch: Path | None
) -> dict[str, Any]:
    from tasks.replay import replay

    try:
        return {**replay(ws, stage, item, config, scratch).to_json(), "error": None}
    except (SageError, CatalogError) as error:
        return {"stage": stage.value, "item": item, "same": False, "error": str(error)}


def _show(result: dict[str, Any]) -> None:
    """Every row, what differs in red."""
    if result["error"]:
        say("sage:", result["error"])
        return
    table = Table(title=literal(f"{result['stage']} of {result['item']}"), title_justify="left")
    for name in ("", "stored", "replayed", "difference"):
        table.add_column(name, overflow="fold")
    for row in result["rows"]:
        cells = (row["name"], _shown(row["stored"]), _shown(row["replayed"]))
        table.add_row(*map(literal, cells), literal(row["difference"], "red"))
    console.print(table)
    console.print(_said(result))
    for note in result["notes"]:
        console.print(literal(f"note: {note}", "yellow"))


def _summary(results: list[dict[str, Any]]) -> None:
    """A line an item."""
    table = Table("item", "", "first difference")
    for result in results:
        first = result["error"] or next((_first(r) for r in result["rows"] if r["difference"]), "")
        table.add_row(literal(result["item"]), _said(result), literal(first))
    console.print(table)
    same = sum(result["same"] for result in results)
    console.print(f"{same} of {len(results)} are the same")


def _first(row: dict[str, Any]) -> str:
    shown = f"{row['name']}: {_shown(row['stored'])} → {_shown(row['replayed'])}"
    return f"{shown} ({row['difference']})"


def _said(result: dict[str, Any]) -> Any:
    if result["error"]:
        return literal("not replayed", "red")
    return literal("the same", "green") if result["same"] else literal("differs", "red")


def _shown(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, float):
        return f"{value:.6g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
