"""The Prefect UI, one deployment a stage and ``nightly`` on a schedule, in one process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flows._http import served
from flows._progress import console
from flows._server import prefect_api
from sage_core.acquisition.sources import spelled
from sage_core.config import SageConfig


def serve_deployments(
    workspace: Path, sources: list[str], config: SageConfig, cron: str, timezone: str, port: int
) -> None:
    """Serve until interrupted. Flow runs started from the UI or the schedule run on this machine."""
    workspace.mkdir(parents=True, exist_ok=True)
    (workspace / "reports").mkdir(exist_ok=True)
    with prefect_api(workspace, port=port) as url, served(workspace / "reports") as reports:
        from prefect import serve
        from prefect.schedules import Cron
        from prefect.types.entrypoint import EntrypointType

        from flows.nightly import FLOWS, REPORTS_URL, nightly

        os.environ[REPORTS_URL] = reports

        settings = config.model_dump(mode="json")
        common: dict[str, Any] = {"workspace": str(workspace), "config": settings}
        kind = EntrypointType.MODULE_PATH
        deployments = [
            flow.to_deployment(name=stage.value, parameters=common, entrypoint_type=kind)
            for stage, flow in FLOWS.items()
        ]
        nightly_parameters = {**common, "sources": [spelled(source) for source in sources]}
        schedule = Cron(cron, timezone=timezone)
        deployments.append(
            nightly.to_deployment(
                name="nightly",
                parameters=nightly_parameters,
                schedule=schedule,
                entrypoint_type=kind,
            )
        )
        console.print(f"[bold]Prefect UI[/] {url}   [bold]reports[/] {reports}", soft_wrap=True)
        console.print(f"[dim]nightly runs at {cron!r} ({timezone}); stop with Ctrl-C[/]")
        serve(*deployments, limit=1, print_starting_message=False)
