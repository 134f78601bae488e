"""The Prefect UI, one deployment a stage and ``nightly`` on a schedule, in one process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from flows._progress import console
from flows._server import prefect_api
from sage_core.config import SageConfig


@contextmanager
def _reports_served(workspace: Path) -> Iterator[str]:
    """The workspace's reports over HTTP on loopback, so that a browser can follow the UI's links."""
    folder = workspace / "reports"
    folder.mkdir(exist_ok=True)
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def serve_deployments(
    workspace: Path, sources: list[str], config: SageConfig, cron: str, timezone: str, port: int
) -> None:
    """Serve until interrupted. Flow runs started from the UI or the schedule run on this machine."""
    workspace.mkdir(parents=True, exist_ok=True)
    with prefect_api(workspace, port=port) as url, _reports_served(workspace) as reports:
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
        nightly_parameters = {**common, "sources": sources}
        schedule = Cron(cron, timezone=timezone)
        deployments.append(
            nightly.to_deployment(
                name="nightly",
                parameters=nightly_parameters,
                schedule=schedule,
                entrypoint_type=kind,
            )
        )
        console.print(
            f"[bold]Prefect UI:[/] {url}\n[bold]Reports:[/]    {reports}/latest/index.html\nworkspace: {workspace}"
        )
        console.print(f"[dim]nightly runs at {cron!r} ({timezone}); stop with Ctrl-C[/]")
        serve(*deployments, limit=1, print_starting_message=False)
