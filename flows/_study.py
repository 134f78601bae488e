"""The command ``sage study``: the grid of variants and seeds, its rows, its table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows._ending import MANY_FAILED
from flows._ending import teach as _teach
from flows._progress import console, literal, say


def study(
    settings: Annotated[
        Path,
        typer.Argument(
            help="A YAML file (shards, variants, seeds, adapt, evaluate), or the preset mini."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The study's folder.")] = Path("study"),
    jobs: Annotated[int, typer.Option(help="Runs at a time, one core each.", min=1)] = 1,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Only this variant (and the base). Repeatable."),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Run nothing; write the table anew.")
    ] = False,
) -> None:
    """Show which part of the method helps: variants × seeds, each trained and measured alike.

    What has its row is not run again; killed at any moment, the same command goes on. Writes study.md,
    rows.csv, cd.svg. Ends with 1 where a run failed.
    """
    if not _teach(lambda: _run(settings, out.resolve(), jobs, only, run=not table)):
        raise typer.Exit(MANY_FAILED)


def _run(settings: Path, out: Path, jobs: int, only: list[str] | None, *, run: bool) -> bool:
    from sage_core.study import Study, StudySettings, write_tables
    from sage_core.study.variants import BASE

    read = StudySettings.read(settings)
    chosen = read
    if only:
        tree = read.model_dump() | {"variants": tuple(dict.fromkeys((BASE, *only)))}
        chosen = StudySettings.model_validate(tree)
    problems = []
    if run:
        grid = Study(chosen, out)
        problems = grid.run(
            jobs, lambda cell, state: console.print(f"{cell} {state}", highlight=False)
        )
    path = write_tables(Study(read, out))
    console.print("[bold]table[/]", literal(path), soft_wrap=True)
    for problem in problems:
        say("study:", problem)
    return not problems
