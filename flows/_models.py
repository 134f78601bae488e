"""``sage models``: published weights, what a weights file holds, and weights for others."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from data_catalog import Workspace
from flows._ending import teach, usage
from flows._options import place
from flows._progress import literal, say
from sage_core import hub
from sage_core.types import Stage
from tasks.latest import Promoted, history
from tasks.latest import back_to as make_latest_again

app = typer.Typer(no_args_is_help=True, help="Fetch, look into and export model weights.")
console = Console()

FileArgument = Annotated[
    str, typer.Argument(help="A weights file, mini, or the name of a model that was pulled.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


class Form(StrEnum):
    """What an export is for."""

    UPSTREAM = "upstream"
    SAFETENSORS = "safetensors"


WorkspaceOption = Annotated[
    Path,
    typer.Option("--workspace", "-w", envvar="SAGE_WORKSPACE", parser=place, help="The workspace."),
]


@app.command()
def latest(
    workspace: WorkspaceOption,
    back_to: Annotated[
        str | None, typer.Option(metavar="RUN", help="Make this run latest again.")
    ] = None,
    path: Annotated[
        bool, typer.Option("--path", help="Print only the path of the weights.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Show which adapted model is `latest` in a workspace, and which were before; or go back to one."""
    ws = teach(lambda: Workspace.open(workspace, create=False))
    if back_to is not None:
        teach(lambda: _go_back(ws, back_to))
    entries = teach(lambda: history(ws))
    if json_:
        print(json.dumps([asdict(entry) for entry in entries], indent=2))
    elif not entries:
        say("latest:", f"no model of {ws.root} has passed the gate yet", "yellow")
        raise typer.Exit(1)
    elif path:
        print(ws.store.fetch(entries[0].weights))
    else:
        console.print(_history_table(entries))


def _go_back(ws: Workspace, run: str) -> None:
    with ws.catalog.lease(Stage.EVALUATE.value, f"sage models latest --back-to {run}"):
        make_latest_again(ws, run)


def _history_table(entries: Sequence[Promoted]) -> Table:
    table = Table()
    for column in ("", "run", "since", "began from", "gate"):
        table.add_column(column, overflow="fold")
    for at, entry in enumerate(entries):
        gate = ", ".join(
            f"{name.removeprefix('gate ')} {float(f['value']):.4g} (at most {float(f['threshold']):.4g})"
            for name, f in entry.figures.items()
        )
        mark = "latest" if at == 0 else ""
        table.add_row(*map(literal, (mark, entry.run, entry.time, entry.base, gate)))
    return table


@app.command("list")
def list_models(json_: JsonOption = False) -> None:
    """List the published models that SAGE knows: architecture, size, licence, and whether they are here."""
    rows = [{**asdict(model), "here": str(hub.pulled(model.name) or "")} for model in hub.PUBLISHED]
    if json_:
        print(json.dumps(rows, indent=2))
        return
    table = Table()
    table.add_column("name", no_wrap=True)  # whole at any width, to be given to `pull`
    for column in ("kind", "size", "licence", "commercial", "here"):
        table.add_column(column, overflow="fold")
    for row in rows:
        size = f"{row['parameters_m']:,.0f} M" if row["parameters_m"] else "?"
        use = "yes" if row["commercial"] else "no"
        here = "yes" if row["here"] else ("needs a login" if row["gated"] else "no")
        cells = (row["name"], row["architecture"], size, row["licence"], use, here)
        table.add_row(*map(literal, cells))
    console.print(table)
    console.print(literal(f"Pulled weights are kept in {hub.models_folder()} (SAGE_MODELS)."))


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help="A name from `sage models list`.")],
    accept_licence: Annotated[
        bool, typer.Option("--accept-licence", help="Accept the licence without being asked.")
    ] = False,
    url: Annotated[str | None, typer.Option(help="A mirror of the weights file.")] = None,
) -> None:
    """Fetch a published model; cut off, the same command goes on. Use it then as adapt.base=NAME."""
    model = teach(lambda: hub.published(name))
    if not accept_licence:
        say("licence:", model.notice(), "yellow")
        if not sys.stdin.isatty():
            usage("nobody is there to accept the licence: give --accept-licence")
        typer.confirm("Do you accept it?", abort=True)
    record = teach(lambda: _pulled(name, url))
    say("pulled", f"{name}: {record.size_bytes:,} bytes, sha256 {record.sha256}", "green")
    if record.trusted_on_first_use:
        say(
            "note:",
            "its publisher names no checksum that SAGE knows; this one is trusted and remembered, and "
            "later downloads must match it",
            "yellow",
        )


def _pulled(name: str, url: str | None) -> hub.Record:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(
        *columns, TransferSpeedColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    ) as bar:
        task = bar.add_task(name, total=None, visible=False)  # until something comes

        def show(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total, visible=True)

        return hub.pull(name, licence_accepted=True, url=url, progress=show)


@app.command()
def info(file: FileArgument, json_: JsonOption = False) -> None:
    """Show what a weights file holds: architecture, widths, parameters by group, licence, origin."""
    facts = teach(lambda: _facts(file))
    if json_:
        print(json.dumps(facts, indent=2))
        return
    table = Table(title=literal(file), title_justify="left")
    table.add_column("fact", no_wrap=True)
    table.add_column("value", overflow="fold")
    for name, value in facts.items():
        rows = value.items() if isinstance(value, dict) else (("", value),)
        for part, one in rows:
            shown = f"{one:,}" if isinstance(one, int) and not isinstance(one, bool) else one
            table.add_row(literal(f"{name} {part}".strip()), literal(shown))
    console.print(table)


def _facts(file: str) -> dict[str, Any]:
    from sage_core.models import check_weights, read_info

    path = hub.weights_path(file)
    known = read_info(file)
    groups = check_weights(file).parameter_groups()
    return {
        "file": str(path),
        "bytes": path.stat().st_size,
        "sha256": hub.sha256_of(path),
        "architecture": known.architecture,
        "licence": known.licence,
        "parameters": {
            "in all": sum(p.numel() for group in groups.values() for _, p in group),
            **{f"in {name}": sum(p.numel() for _, p in group) for name, group in groups.items()},
        },
        "widths": known.config.to_json(),
        "provenance": known.provenance,
    }


@app.command()
def export(
    file: FileArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    form: Annotated[
        Form,
        typer.Option(
            "--format",
            help="upstream: as the model's own code reads it (.pth); safetensors: tensors alone.",
        ),
    ] = Form.UPSTREAM,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that is there.")] = False,
) -> None:
    """Write weights for who does not use SAGE: all of upstream's tensors, by upstream's names."""
    if out.is_dir():
        usage(f"{out} is a folder: name a file in it")
    if out.exists() and not overwrite:
        usage(f"{out} is there already: give --overwrite, or another name")
    teach(lambda: _exported(file, out, form))
    say("wrote", out, "green")


def _exported(file: str, out: Path, form: Form) -> None:
    from sage_core.models import export_model, load_model, read_info

    provenance = read_info(file).provenance
    out.parent.mkdir(parents=True, exist_ok=True)
    export_model(load_model(file), out, form.value, provenance=provenance)
