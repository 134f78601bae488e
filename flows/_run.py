"""One run from the command line: a server, the nightly flow, a table and a report at the end."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from data_catalog import Workspace
from flows import _show
from flows._progress import console, in_words, literal, say
from flows._runners import check_runner
from flows._server import prefect_api
from sage_core.acquisition.credentials import redacted
from sage_core.acquisition.sources import spelled
from sage_core.config import SageConfig
from sage_core.types import Reason, Stage
from tasks._plan import Retry, Selector

_NO_ROOM_BYTES = 5 << 20


def run_in_workspace(
    workspace: Path,
    sources: list[str],
    stages: list[Stage],
    config: SageConfig,
    retry: Retry,
    items: list[str] | None,
    select: Selector | None = None,
    redecide: bool = False,
) -> bool:
    """Run the stages and print what came of them; True when no more failed than the settings allow."""
    logging.raiseExceptions = False
    check_runner(config.run)
    with prefect_api(workspace) as url:
        console.print(f"[dim]watch it at {url}[/]")
        # Prefect reads its settings when it is imported, so only now.
        from prefect.logging.handlers import APILogHandler

        from flows.nightly import nightly

        try:
            state: Any = nightly(
                workspace=Workspace.open(workspace).address,
                sources=[
                    redacted(spelled(source)) for source in sources
                ],  # Prefect writes them down
                config=config,
                stages=stages,
                retry=retry,
                items=items,
                redecide=redecide,
                select=select,
                return_state=True,
            )
            APILogHandler().flush()
        except Exception as error:  # noqa: BLE001  (verdicts stand without the orchestrator)
            state = error
    return _conclude(workspace, state)


def _conclude(workspace: Path, state: Any) -> bool:
    """Print how the night ended; True if it ended well."""
    summaries, good, message = _ending(state)
    for summary in summaries:
        for line in summary.broken:
            say(f"{summary.stage}:", line)
    if summaries and all(not s.judged and not s.broken for s in summaries):
        why = (
            "every item has its verdict"
            if any(s.done_before for s in summaries)
            else "these stages have no item (a trained run is one under the settings of adapt that it had)"
        )
        console.print("[bold]nothing to do:[/]", why)
    _show.status(workspace, as_json=False)
    report = workspace / "reports/latest/index.html"
    if report.exists():
        console.print("[bold]report[/]", literal(report), soft_wrap=True)
    if not good or any(s.left for s in summaries):
        say("sage:", message)
    if any(Reason.DISK_FULL in s.reasons for s in summaries) or _is_full(workspace):
        say("sage:", f"the disk of {workspace} is full: free some space, then --retry failed")
    return good


def _ending(state: Any) -> tuple[list[Any], bool, str]:
    """Stages' summaries, whether all went well, and the night's message."""
    if isinstance(state, Exception):
        return [], False, f"Prefect broke off: {in_words(state)}"
    from flows._summary import StagesFailedError

    result = state.result(raise_on_failure=False)
    summaries = result.summaries if isinstance(result, StagesFailedError) else result
    known = summaries if isinstance(summaries, list) else []
    return known, bool(state.is_completed()), str(state.message)


def _is_full(workspace: Path) -> bool:
    return shutil.disk_usage(workspace).free < _NO_ROOM_BYTES
