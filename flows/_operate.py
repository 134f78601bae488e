"""``sage deploy`` and ``sage notify``: what a server is told, so that nights happen and are watched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from data_catalog import Workspace
from flows._ending import teach
from flows._options import place
from flows._progress import console
from sage_core.config import load_config

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", "-w", envvar="SAGE_WORKSPACE", parser=place, help="As every worker sees it."
    ),
]
ConfigOption = Annotated[
    str | None, typer.Option("--config", "-c", help="A YAML file, or a preset, as for `sage run`.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", "-s", help="One setting. Repeatable.")
]


def deploy(
    workspace: WorkspaceOption,
    sources: Annotated[
        list[str] | None, typer.Argument(help="What `nightly` fetches.", show_default=False)
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    cron: Annotated[str, typer.Option(help="When `nightly` runs, as a cron line.")] = "0 2 * * *",
    timezone: Annotated[str, typer.Option(help="Time zone of the cron line.")] = "UTC",
) -> None:
    """Make the deployments and work pools on the server that PREFECT_API_URL names, for workers to run.

    Workers: `prefect worker start --pool mining`, and `--pool gpu` on one machine with a GPU.
    """
    from flows._serve import deploy as tell

    settings = teach(lambda: load_config(config, set_ or ()))
    root = teach(lambda: Workspace.open(workspace).root)
    pools = teach(lambda: tell(root, sources or [], settings, cron, timezone))
    for pool in pools:
        console.print(f"prefect worker start --pool {pool}", highlight=False)


def notify(
    workspace: WorkspaceOption,
    block: Annotated[
        str | None,
        typer.Option(
            help="A notification block of the server, TYPE/NAME. Without: the address in SAGE_NOTIFY_URL."
        ),
    ] = None,
    silent_s: Annotated[
        float,
        typer.Option(min=10, help="Silence, in seconds, after which a run counts as crashed."),
    ] = 600.0,
    night_h: Annotated[
        float,
        typer.Option(min=0.01, help="Hours without a night that begins, before you are told."),
    ] = 25.0,
) -> None:
    """Be told when a run fails, when one goes silent, and when a night does not happen.

    Makes three automations on the server, in place of those of an earlier call. A run gives a sign of life
    every 180 s (PREFECT_FLOWS_HEARTBEAT_FREQUENCY): --silent-s should be three times that at least.
    """
    from flows._serve import notify as tell

    root = teach(lambda: Workspace.open(workspace, create=False).root)
    for name in teach(lambda: tell(root, block, silent_s, night_h)):
        console.print(name, highlight=False)
