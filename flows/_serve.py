"""The Prefect UI, a deployment a stage and ``nightly`` on a schedule: in one process, or for workers."""

from __future__ import annotations

import os
import socket
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_catalog import Workspace
from flows._http import LOOPBACK, served
from flows._progress import console, say
from flows._server import prefect_api
from sage_core.acquisition.credentials import redacted
from sage_core.acquisition.sources import spelled
from sage_core.config import SageConfig

if TYPE_CHECKING:
    from flows._deployments import Night


def serve_deployments(
    workspace: Path, sources: list[str], config: SageConfig, cron: str, timezone: str, port: int
) -> None:
    """Serve until interrupted. Runs started from the UI or the schedule run here, one at a time."""
    (workspace / "reports").mkdir(exist_ok=True)
    metrics = partial(_metrics, workspace)
    with (
        prefect_api(workspace, port=port) as url,
        served(workspace / "reports", _beside(port), {"/metrics": metrics}) as reports,
    ):
        from prefect import serve

        from flows._artifacts import REPORTS_URL

        os.environ[REPORTS_URL] = reports
        console.print(
            f"[bold]Prefect UI[/] {url}   [bold]reports[/] {reports} (and /metrics)", soft_wrap=True
        )
        console.print(f"[dim]nightly runs at {cron!r} ({timezone}); stop with Ctrl-C[/]")
        ready = _ready(workspace, sources, config, _night(cron, timezone), pools=False)
        serve(*ready, limit=1, print_starting_message=False)


def deploy(
    workspace: Path, sources: list[str], config: SageConfig, cron: str, timezone: str
) -> list[str]:
    """Make the deployments and their work pools on the server that PREFECT_API_URL names; the pools."""
    with prefect_api(workspace):
        from prefect.client.orchestration import get_client

        from flows._deployments import POOLS, make_pools

        with get_client(sync_client=True) as client:
            make_pools(client)
        for one in _ready(workspace, sources, config, _night(cron, timezone), pools=True):
            one.apply()
        return list(POOLS)


def notify(workspace: Path, block: str | None, silent_s: float, night_h: float) -> list[str]:
    """Make the automations on the workspace's server; their names."""
    with prefect_api(workspace):
        from flows._notify import Rules, make_automations

        return make_automations(block, Rules(silent_s, night_h))


def _ready(
    workspace: Path, sources: list[str], config: SageConfig, night: Night, *, pools: bool
) -> list[Any]:
    from flows._deployments import deployments

    settings = config.model_dump(mode="json")
    named = [redacted(spelled(source)) for source in sources]
    return deployments(Workspace.open(workspace).address, named, settings, night, pools=pools)


def _metrics(workspace: Path) -> tuple[str, str]:
    """The workspace's metrics as a page."""
    from tasks.metrics import CONTENT_TYPE, exposition

    return CONTENT_TYPE, exposition(Workspace.open(workspace))


def _night(cron: str, timezone: str) -> Night:
    from flows._deployments import Night

    return Night(cron, timezone)


def _beside(port: int) -> int:
    """The reports' port: beside the UI's, so that links of earlier nights hold, or any if that is taken."""
    if not port:
        return 0
    with socket.socket() as probe:
        if probe.connect_ex((LOOPBACK, port + 1)) != 0:
            return port + 1
    say("reports:", f"port {port + 1} is taken, so links of earlier nights do not work", "yellow")
    return 0
