"""``sage evaluate``: the stage in a workspace, or models by name on a data set, without one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from flows._ending import usage
from flows._progress import literal, say

if TYPE_CHECKING:
    from sage_core.evaluation.benchmark import Benchmark

console = Console()
_ALONE = {"rich_help_panel": "Stand-alone (without a workspace)"}

ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A weights file or a model's name, or LABEL=WEIGHTS. Repeatable: others are compared with the "
        "first.",
        **_ALONE,
    ),
]
ProtocolOption = Annotated[
    str | None,
    typer.Option(
        help="PROTOCOL/DATASET, e.g. sage-8/7scenes; `sage datasets protocols` lists them.",
        **_ALONE,
    ),
]
RootOption = Annotated[Path | None, typer.Option(help="Where the data set lies.", **_ALONE)]
OutOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of results (JSON, CSV, HTML); what is there is gone on with.", **_ALONE
    ),
]
TuplesOption = Annotated[int | None, typer.Option(help="At most so many tuples.", min=1, **_ALONE)]
PartialOption = Annotated[
    bool, typer.Option("--partial", help="Measure what is there of the data set.", **_ALONE)
]
UncheckedOption = Annotated[
    bool,
    typer.Option(
        "--unchecked", help="Measure also where the data set's own check fails.", **_ALONE
    ),
]
LpipsOption = Annotated[
    Path | None,
    typer.Option(help="Folder with AlexNet's and LPIPS's weights, for novel views.", **_ALONE),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.", **_ALONE)]
ThreadsOption = Annotated[int, typer.Option(help="CPU threads; -1 for all cores.", **_ALONE)]


@dataclass(frozen=True)
class Asked:
    """What the command line says of a stand-alone evaluation."""

    models: list[str]
    protocol: str | None
    root: Path | None
    out: Path | None
    tuples: int | None
    partial: bool
    unchecked: bool
    lpips: Path | None
    device: str
    threads: int


def labelled(models: list[str]) -> dict[str, str]:
    """Names for the models: ``LABEL=WEIGHTS`` as given, else the file's name, made unique by its folders."""
    found: dict[str, str] = {}
    for text in models:
        label, mark, weights = text.partition("=")
        if not mark:
            label, weights = _label(text), text
        if not label or not weights:
            usage(f"--model {text!r}: give weights, or LABEL=WEIGHTS")
        if label in found:
            usage(f"two models are called {label!r}: give them names, --model NAME=WEIGHTS")
        found[label] = weights
    return found


def _label(weights: str) -> str:
    path = Path(weights)
    if not path.suffix:
        return weights
    return path.parent.name if path.stem == "model" and path.parent.name else path.stem


def without_workspace(context: typer.Context) -> None:
    """Refuse a workspace that was given beside a model; the one of SAGE_WORKSPACE has no part in it."""
    source = context.get_parameter_source("workspace")
    if source is not None and source.name == "COMMANDLINE":
        usage(
            "--workspace is for the stage; --model, --protocol and --root are for evaluating without one"
        )


def stand_alone(asked: Asked) -> None:
    """Measure models on a data set, and show the figures."""
    job = _job(asked)
    report = _run(job)
    _show(report)
    say("wrote", f"{job.out / 'index.html'}, metrics.json, metrics.csv", "green")


def _job(asked: Asked) -> Benchmark:
    from sage_core.evaluation.benchmark import Benchmark
    from sage_core.evaluation.datasets import data_set
    from sage_core.evaluation.protocols import protocol_named

    if asked.protocol is None or asked.root is None or not asked.models:
        usage(
            "a stand-alone evaluation needs --model, --protocol and --root (`sage evaluate --help`)"
        )
    name, mark, sets = asked.protocol.partition("/")
    if not mark:
        usage(
            f"--protocol {asked.protocol!r} names no data set: give PROTOCOL/DATASET, e.g. {name}/7scenes"
        )
    where = "evaluation-" + asked.protocol.replace("/", "-").replace(":", "-")
    return Benchmark(
        labelled(asked.models),
        protocol_named(name),
        data_set(sets),
        asked.root,
        asked.out or Path(where),
        partial=asked.partial,
        most=asked.tuples,
        unchecked=asked.unchecked,
        perceptual="none" if asked.lpips is None else "alex",
        perceptual_weights=None if asked.lpips is None else str(asked.lpips),
        device=asked.device,
        threads=asked.threads,
    )


def _run(job: Benchmark) -> dict[str, Any]:
    from sage_core.evaluation.benchmark import run_benchmark

    columns = (TextColumn("[bold]evaluate  "), BarColumn(bar_width=24), MofNCompleteColumn())
    with Progress(
        *columns,
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
    ) as bar:
        task = bar.add_task("reading the data set", total=None)

        def show(what: str, done: int, total: int) -> None:
            bar.update(task, description=str(literal(what[:60])), completed=done, total=total)

        return run_benchmark(job, show)


def _show(report: dict[str, Any]) -> None:
    console.print(literal(f"{report['protocol']}, {report['tuples']} tuples"), soft_wrap=True)
    for note in report["notes"]:
        console.print(literal(f"  {note}"), soft_wrap=True)
    table = Table("figure")
    for model in report["total"]:
        table.add_column(literal(model), justify="right")
    for metric in next(iter(report["total"].values())):
        values = [means.get(metric) for means in report["total"].values()]
        table.add_row(metric, *("–" if v is None else f"{v:.4g}" for v in values))
    console.print(table)
