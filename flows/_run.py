"""One run from the command line: a server, the nightly flow, a table and a report at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows import _show
from flows._progress import console
from flows._server import prefect_api
from sage_core.config import SageConfig
from sage_core.types import Stage
from tasks._plan import Retry


def run_in_workspace(
    workspace: Path,
    sources: list[str],
    stages: list[Stage],
    config: SageConfig,
    retry: Retry,
    items: list[str] | None,
) -> bool:
    """Run the stages and print what came of them; True when no more failed than the settings allow."""
    workspace.mkdir(parents=True, exist_ok=True)
    with prefect_api(workspace) as url:
        console.print(f"[dim]watch it at {url}[/]")
        # Prefect reads its settings when it is imported, so only now.
        from prefect.logging.handlers import APILogHandler

        from flows.nightly import nightly

        state: Any = nightly(
            workspace=str(workspace),
            sources=sources,
            config=config,
            stages=stages,
            retry=retry,
            items=items,
            return_state=True,
        )
        APILogHandler().flush()
    summaries: Any = state.result(raise_on_failure=False)
    if isinstance(summaries, list):
        nothing = all(not s.judged and not s.broken for s in summaries)
        console.print("[bold]nothing to do:[/] every item has its verdict" if nothing else "")
        for summary in summaries:
            for line in summary.broken:
                console.print(f"[red]{summary.stage}:[/] {line}", highlight=False)
    _show.status(workspace, as_json=False)
    console.print(f"[bold]report[/] {workspace / 'reports/latest/index.html'}", soft_wrap=True)
    if not state.is_completed():
        console.print(f"[red]sage:[/] {state.message}", highlight=False, soft_wrap=True)
    return bool(state.is_completed())
