"""What the catalog, the settings and the shards say, as tables for people or JSON for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from data_catalog import Workspace, views
from flows._progress import STYLE
from sage_core.config import SageConfig
from sage_core.types import REASON_TEXT, Stage, Verdict

console = Console()


def status(workspace: Path, *, as_json: bool) -> None:
    """The funnel: a row a stage, verdict and reason."""
    rows = views.funnel(Workspace.open(workspace))
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title=f"workspace {workspace}", title_justify="left")
    for name in ("stage", "items", *STYLE, "reasons"):
        table.add_column(name, justify="right" if name in ("items", *STYLE) else "left")
    for row in rows:
        counts = [f"[{style}]{row[v]}[/]" if row[v] else "" for v, style in STYLE.items()]
        reasons = ", ".join(f"{reason} {n}" for reason, n in row["reasons"].items())
        table.add_row(f"{row['stage']} ({row['kind']}s)", str(row["total"]), *counts, reasons)
    console.print(table)


def items(
    workspace: Path,
    stage: Stage | None,
    verdict: Verdict | None,
    reason: str | None,
    *,
    as_json: bool,
) -> None:
    """Items with their latest verdict."""
    rows = views.items(
        Workspace.open(workspace),
        stage=stage.value if stage else None,
        verdict=verdict.value if verdict else None,
    )
    rows = [row for row in rows if reason is None or row["reason"] == reason]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table("item", "stage", "verdict", "reason", "figures", "source")
    for row in rows:
        style = STYLE[row["verdict"]]
        table.add_row(
            row["item"],
            row["stage"],
            f"[{style}]{row['verdict']}[/]",
            row["reason"] or "",
            escape(_decisive(row["figures"])),
            escape(_short(row["source"])),
        )
    console.print(table)


def reasons() -> None:
    """The reason codes."""
    table = Table("reason", "meaning")
    for reason, text in REASON_TEXT.items():
        table.add_row(reason.value, text)
    console.print(table)


def config(settings: SageConfig) -> None:
    """The whole tree as YAML, with each stage's config hash as a comment."""
    import yaml

    for stage in Stage:
        print(f"# {stage.value}: config hash {settings.stage_hash(stage)}")
    print(yaml.safe_dump(settings.model_dump(mode="json"), sort_keys=False), end="")


def schema(*, as_json: bool) -> None:
    """What may be set."""
    if as_json:
        print(json.dumps(SageConfig.model_json_schema(), indent=2))
        return
    table = Table("setting", "default", "bounds", "meaning")
    for row in _settings(SageConfig, ""):
        table.add_row(*[escape(cell) for cell in row])
    console.print(table)


def training_plan(workspace: Path, settings: SageConfig) -> None:
    """What a training run would take."""
    from tasks.adapt import dry_run

    table = Table("", "value", show_header=False)
    for name, value in dry_run(str(workspace), settings).items():
        table.add_row(name.replace("_", " "), _number(value))
    console.print(table)


def shards_validate(paths: list[Path]) -> bool:
    """Print each shard's problems; True when there are none."""
    from sage_core.shards.validate import validate

    problems = validate(paths)
    for problem in problems:
        console.print(f"[red]{escape(str(problem))}[/]")
    if not problems:
        console.print("[green]every shard is sound[/]")
    return not problems


def shards_inspect(paths: list[Path], draw: Path | None) -> None:
    """Print what shards hold and draw a frame with its anchors."""
    from sage_core.shards.inspect import inspect

    inspect(paths, draw=draw, console=console)


def _decisive(figures: dict[str, dict[str, Any]]) -> str:
    """The figures that have a threshold, failed ones first."""
    shown = [
        f"{name} {_number(f['value'])} {f['rule']} {_number(f['threshold'])}"
        for name, f in figures.items()
        if f.get("rule") and not _holds(f)
    ]
    return ", ".join(shown)


def _holds(figure: dict[str, Any]) -> bool:
    value, threshold = figure["value"], figure["threshold"]
    if value is None or threshold is None:
        return True
    compare = {
        ">=": lambda: value >= threshold,
        "<=": lambda: value <= threshold,
        ">": lambda: value > threshold,
        "<": lambda: value < threshold,
    }
    return bool(compare.get(figure["rule"], lambda: True)())


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"…{text[-59:]}"


def _settings(model: Any, prefix: str) -> list[tuple[str, str, str, str]]:
    from pydantic import BaseModel

    rows = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            rows += _settings(kind, f"{prefix}{name}.")
            continue
        bounds = " ".join(str(m) for m in info.metadata)
        default = info.get_default(call_default_factory=True)
        rows.append((prefix + name, str(default), bounds, info.description or ""))
    return rows
