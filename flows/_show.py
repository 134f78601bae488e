"""What the catalog, the settings and the shards say, as tables for people or JSON for programs."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from data_catalog import Workspace, views
from flows._progress import STYLE, literal
from flows._progress import console as progress
from sage_core.config import SageConfig
from sage_core.types import REASON_TEXT, Reason, Stage, Verdict

if TYPE_CHECKING:
    from sage_core.shards.overlap import Overlap

console = Console()
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}


def status(workspace: Path, *, as_json: bool) -> None:
    """The funnel: a row a stage, verdict and reason."""
    rows = views.funnel(Workspace.open(workspace))
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(title=literal(f"workspace {workspace}"), title_justify="left")
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
    reason: Reason | None,
    *,
    as_json: bool,
) -> None:
    """Items with their latest verdict."""
    rows = views.items(
        Workspace.open(workspace),
        stage=stage.value if stage else None,
        verdict=verdict.value if verdict else None,
    )
    rows = [row for row in rows if reason is None or row["reason"] == reason.value]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    if not rows:
        console.print("no such item")
    for row in rows:
        said = literal(row["verdict"], STYLE[row["verdict"]])
        why = f": {row['reason']}" if row["reason"] else ""
        head = Text.assemble((row["item"], "bold"), f"  {row['stage']}  ", said, why)
        console.print(head, soft_wrap=True)
        for text in filter(None, (_why(row), row["source"])):
            console.print(Padding(literal(text), (0, 0, 0, 4)))


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
    for name, default, bounds, meaning in _settings(SageConfig, ""):
        # A line of its own, never broken, so that it can be searched for and copied into --set.
        head = Text.assemble(
            (name, "bold"), f" = {default}", (f"  {bounds}" if bounds else "", "cyan")
        )
        console.print(head, soft_wrap=True)
        console.print(Padding(literal(meaning), (0, 0, 0, 4)))


def training_plan(workspace: Path, settings: SageConfig, timed_steps: int) -> None:
    """What a training run would take."""
    from tasks.adapt import dry_run

    waiting = f"timing {timed_steps} steps" if timed_steps else "opening weights and shards"
    with progress.status(waiting):
        plan = dry_run(str(workspace), settings, timed_steps)
    table = Table("", "value", show_header=False)
    for name, value in plan.items():
        table.add_row(name.replace("_", " "), literal(_planned(value)))
    console.print(table)


def _planned(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_planned(part)}" for name, part in value.items())
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else _number(value)


def shards_validate(paths: list[Path]) -> bool:
    """Print each shard's problems; True when there are none."""
    from sage_core.shards.validate import validate

    problems = validate(paths)
    for problem in problems:
        console.print(literal(problem, "red"))
    if not problems:
        console.print("[green]every shard is sound[/]")
    return not problems


def shards_inspect(paths: list[Path], draw: Path | None) -> None:
    """Print what shards hold and draw a frame with its anchors."""
    from sage_core.shards.inspect import inspect

    inspect(paths, draw=draw, console=console)


def shards_overlap(paths: list[Path], against: list[Path], *, as_json: bool) -> bool:
    """Print which frames are in an evaluation set, too; True when there are none."""
    from sage_core.shards.overlap import find_overlap

    with progress.status("reading") as status:
        told = {
            "evaluation": "reading the evaluation sets",
            "shards": "comparing the shards' frames",
        }
        found = find_overlap(
            paths, against, lambda what, count: status.update(f"{told[what]}: {count}")
        )
    if as_json:
        print(json.dumps([asdict(overlap) for overlap in found], indent=2))
        return not found
    if not found:
        console.print("[green]no frame of these shards is in these evaluation sets[/]")
        return True
    console.print(_overlap_table(found))
    return False


def shards_difficulty(paths: list[Path], settings: SageConfig, *, as_json: bool) -> None:
    """Measure how hard the clips are, store it beside them, and print it, hardest first."""
    from sage_core.training.difficulty import measure_shards

    with progress.status("loading the base model") as status:
        found = measure_shards(
            paths,
            settings.adapt,
            settings.run.seed,
            lambda clip, _: status.update(f"measured {clip}"),
        )
    if as_json:
        print(json.dumps({clip: asdict(one) for clip, one in sorted(found.items())}, indent=2))
        return
    table = Table(title=f"difficulty by {settings.adapt.base}", title_justify="left")
    table.add_column("clip", overflow="fold")
    for name in ("loss", "covisibility"):
        table.add_column(name, justify="right", no_wrap=True)
    measured = [(clip, one) for clip, one in found.items() if one.loss is not None]
    without = [(clip, one) for clip, one in found.items() if one.loss is None]
    for clip, one in [*sorted(measured, key=lambda m: (-(m[1].loss or 0.0), m[0])), *without]:
        table.add_row(literal(clip), *map(_planned, (one.loss, one.covisibility)))
    console.print(table)


def _overlap_table(found: Sequence[Overlap]) -> Table:
    """A line for each clip and evaluation set, with the pair that is most alike."""
    groups: dict[tuple[str, str], list[Overlap]] = {}
    for overlap in found:
        groups.setdefault((overlap.clip, overlap.source), []).append(overlap)
    table = Table(title=f"{len(found)} frames are in evaluation sets", title_justify="left")
    for name in ("clip", "evaluation set", "most alike"):
        table.add_column(name, overflow="fold")
    for name in ("frames", "correlation"):
        table.add_column(name, justify="right", no_wrap=True)
    for (clip, source), overlaps in groups.items():
        most = max(overlaps, key=lambda o: o.correlation)
        pair = f"frame {most.frame} = {most.picture}{', mirrored' if most.mirrored else ''}"
        cells = (literal(text) for text in (clip, source, pair))
        table.add_row(*cells, str(len(overlaps)), f"{most.correlation:.2f}")
    return table


def _why(row: dict[str, Any]) -> str:
    """What decided: the figures that fail their threshold, else what the message says first."""
    if row["verdict"] == Verdict.ACCEPTED.value:
        return ""
    first, _, _ = row["message"].partition("\n")
    return _decisive(row["figures"]) or first


def _decisive(figures: dict[str, dict[str, Any]]) -> str:
    """The figures that fail their threshold."""
    shown = [
        f"{name} {_number(f['value'])}, not {f['rule']} {_number(f['threshold'])}"
        for name, f in figures.items()
        if f.get("rule") in _COMPARE and not _holds(f)
    ]
    return "; ".join(shown)


def _holds(figure: dict[str, Any]) -> bool:
    try:
        # JSON has no NaN and no infinity: the catalog keeps them as words, which float() reads.
        value, threshold = float(figure["value"]), float(figure["threshold"])
    except (TypeError, ValueError):
        return True
    return _COMPARE[figure["rule"]](value, threshold)


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _settings(model: type[BaseModel], prefix: str) -> list[tuple[str, str, str, str]]:
    """Name, default, bounds and meaning of each."""
    rows = []
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            rows += _settings(kind, f"{prefix}{name}.")
            continue
        default = json.dumps(info.get_default(call_default_factory=True))
        rows.append((prefix + name, default, _bounds(info), info.description or ""))
    return rows


def _bounds(info: FieldInfo) -> str:
    """What values a setting may have, as far as its type and numbers say."""
    if get_origin(info.annotation) is Literal:
        return " | ".join(map(str, get_args(info.annotation)))
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    found = [
        f"{sign} {getattr(bound, key)}"
        for bound in info.metadata
        for key, sign in signs.items()
        if hasattr(bound, key)
    ]
    return ", ".join(found)
