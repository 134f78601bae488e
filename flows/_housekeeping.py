"""``sage prune``, ``compact``, ``doctor``, ``metrics``: keep a workspace and its machine in order."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from data_catalog import Workspace
from flows._checks import Check, Level, machine_checks, repaired, workspace_checks
from flows._checks_server import server_checks
from flows._ending import MANY_FAILED, teach
from flows._history import pruned_history
from flows._options import (
    ConfigOption,
    JsonOption,
    SetOption,
    WorkspaceOption,
    existing,
    settings_of,
)
from flows._progress import literal
from flows._server import prepare_environment
from sage_core.config import SageConfig
from sage_core.types import Stage

if TYPE_CHECKING:
    from tasks.compact import Compacted
    from tasks.prune import Spare

app = typer.Typer()
console = Console()
_MIB = 1 << 20
_TRAINED = (Stage.ACQUIRE, Stage.CURATE, Stage.RECONSTRUCT, Stage.ASSEMBLE, Stage.ADAPT)


@app.command()
def prune(
    workspace: WorkspaceOption,
    config: ConfigOption = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json_: JsonOption = False,
) -> None:
    """Remove what the settings of retention let go: files of finished videos, models, checkpoints, old runs.

    The last are flow runs in Prefect's database; for them a server is started if none runs.
    """
    root, settings = existing(workspace), settings_of(config, set_)
    prepare_environment(root)
    ws = teach(lambda: Workspace.open(root))
    found = teach(lambda: pruned(ws, settings, dry_run=dry_run))
    days = settings.retention.history_days
    runs = teach(lambda: pruned_history(ws, days, dry_run=dry_run))
    if json_:
        history = [] if days is None else [{"flow_runs": runs}]
        print(json.dumps([*map(asdict, found), *history], indent=2))
        return
    said = "would be free" if dry_run else "are free"
    if found:
        console.print(_table(found))
        console.print(f"{sum(one.bytes for one in found) / _MIB:,.1f} MiB {said}")
    elif not runs:
        console.print(_nothing(settings))
    if runs:
        console.print(
            f"{runs} flow runs {'would go' if dry_run else 'are gone'} from Prefect's database"
        )


def _table(found: Sequence[Spare]) -> Table:
    table = Table("stage", "item", "what", "MiB")
    for one in found:
        cells = (one.stage.value, one.item, one.what, f"{one.bytes / _MIB:,.1f}")
        table.add_row(*map(literal, cells))
    return table


def pruned(ws: Workspace, config: SageConfig, *, dry_run: bool = False) -> list[Spare]:
    """What retention lets go, removed unless ``dry_run``.

    Raises:
        LeaseHeld: a stage is being run, which may need it.
    """
    from tasks.prune import prune, spare

    with held(ws, _TRAINED, "prune"):
        found = spare(ws, config)
        if not dry_run:
            prune(ws, found, "prune")
    return found


@app.command()
def compact(workspace: WorkspaceOption, json_: JsonOption = False) -> None:
    """Merge the catalog's logs, and write shards with dead rows anew without them."""
    root = existing(workspace)
    prepare_environment(root)
    done = teach(lambda: compacted(Workspace.open(root)))
    if json_:
        print(json.dumps(asdict(done), indent=2))
        return
    console.print(f"{len(done.left)} clips left their shards")
    console.print(f"{len(done.rewritten)} shards were written anew")
    console.print(f"{len(done.removed)} files removed, {done.freed_bytes / _MIB:,.1f} MiB")


def compacted(ws: Workspace) -> Compacted:
    """What was forgotten removed; shards without dead rows, no files of no use, each stage's log in one file.

    Raises:
        LeaseHeld: shards are being written, trained on or evaluated; or any stage runs, and there is
            something to forget.
    """
    from tasks.compact import compact_shards
    from tasks.forget import remove_forgotten

    remove_forgotten(ws, "compact")
    with held(ws, (Stage.ASSEMBLE, Stage.ADAPT, Stage.EVALUATE), "compact"):
        done = compact_shards(ws, "compact")
        ws.catalog.compact()
    return done


@app.command()
def metrics(
    workspace: WorkspaceOption,
    out: Annotated[
        Path | None, typer.Option(help="Write it there in one step, e.g. for node_exporter.")
    ] = None,
) -> None:
    """Print a workspace's metrics in Prometheus' text format; each stage leaves them in metrics/sage.prom."""
    root = existing(workspace)
    prepare_environment(root)
    from tasks.metrics import exposition

    text = teach(lambda: exposition(Workspace.open(root)))
    if out is None:
        print(text, end="")
        return
    part = out.with_name(f".{out.name}.{os.getpid()}")
    teach(lambda: part.write_text(text))
    part.replace(out)


@app.command()
def doctor(
    workspace: Annotated[
        Path | None,
        typer.Option("--workspace", "-w", envvar="SAGE_WORKSPACE", help="A workspace, too."),
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    fix: Annotated[
        bool,
        typer.Option("--fix", help="Free what the dead hold: leases, scratch, runs, slots."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Look at programs, libraries, GPU, weights, server, clock, disk and what dead runs left behind.

    Ends with 0, or with 1 where something fails; a warning alone does not count.
    """
    settings = settings_of(config, set_)
    root = None if workspace is None else existing(workspace)
    found = teach(lambda: examined(root, settings, fix=fix, tell=None if json_ else _tell))
    if json_:
        shown = ({k: getattr(c, k) for k in ("name", "level", "found", "fix")} for c in found)
        print(json.dumps(list(shown), indent=2))
    if any(check.level is Level.FAIL for check in found):
        raise typer.Exit(MANY_FAILED)


def examined(
    root: Path | None,
    config: SageConfig,
    *,
    fix: bool,
    tell: Callable[[Check], None] | None = None,
) -> list[Check]:
    """Every check, mended where asked for and safe; ``tell`` is given each as it comes."""
    if root is not None:
        prepare_environment(root)
    ws = None if root is None else Workspace.open(root, create=False)
    checks = chain(
        machine_checks(config),
        workspace_checks(ws, config) if ws is not None else (),
        server_checks(ws),
    )
    found = []
    for check in checks:
        last = repaired(check) if fix and check.repair is not None else check
        found.append(last)
        if tell is not None:
            tell(last)
    return found


_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}


def _tell(check: Check) -> None:
    head = Text.assemble((f"{check.level.value:<5}", _STYLES[check.level]), (check.name, "bold"))
    console.print(Text.assemble(head, "  ", literal(check.found)), soft_wrap=True)
    if check.fix:
        console.print(Padding(literal(f"→ {check.fix}"), (0, 0, 0, 5)))


@contextmanager
def held(ws: Workspace, stages: Sequence[Stage], owner: str) -> Iterator[None]:
    """Hold the leases of these stages.

    Raises:
        LeaseHeld: one of them is being run.
    """
    with ExitStack() as leases:
        for stage in stages:
            leases.enter_context(ws.catalog.lease(stage.value, owner))
        yield


def _nothing(config: SageConfig) -> str:
    keeps = config.retention
    kept = {keeps.videos, keeps.models, keeps.checkpoints} == {"keep"}
    if kept and keeps.history_days is None:
        return "nothing to prune: retention keeps everything. Try --set retention.videos=assembled"
    return "nothing to prune"
