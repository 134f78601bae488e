"""Prefect's history of a workspace: flow runs that ended long ago go, with all that the server has of them.

The catalog decides what is done, so nothing is lost but what the UI shows of those runs.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from data_catalog import Workspace
from flows._server import own_database, prefect_api
from sage_core.types import Stage

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

_FLOWS = ("nightly", *(stage.value for stage in Stage))
_ENDED = ("COMPLETED", "FAILED", "CANCELLED", "CRASHED")
_PAGE = 100
_LOGS_WITHIN_S, _LOOK_EVERY_S = 60.0, 0.2


def pruned_history(ws: Workspace, days: float | None, *, dry_run: bool = False) -> int:
    """:func:`prune_history` on the workspace's server, or on one of its own that is started for it.

    The file of a database that SAGE alone uses becomes smaller, too.
    """
    if days is None:
        return 0
    with prefect_api(ws.root):
        count = prune_history(ws, days, dry_run=dry_run)
    database = own_database(ws.root)
    if count and not dry_run and database is not None:
        shrink(database)
    return count


def prune_history(
    ws: Workspace, days: float | None, *, dry_run: bool = False, now: datetime | None = None
) -> int:
    """Delete the workspace's flow runs that ended more than ``days`` ago, if any are to go; how many went.

    With them go their task runs, states, logs and artifacts, from the server that Prefect's settings name.
    Runs of other workspaces and flows stay, and what has not ended. Events go by Prefect's own rule, after
    seven days. Killed in between, the next time does the rest.
    """
    if days is None:
        return 0
    from prefect.client.orchestration import get_client

    before = (now or datetime.now(UTC)) - timedelta(days=days)
    with get_client(sync_client=True) as client:
        runs = [run for run in _ended(client, before) if _is_of(run, ws)]
        if not dry_run:
            for run in runs:
                _delete(client, run.id)
            _await_logs(client, [run.id for run in runs])
    return len(runs)


def shrink(database: Path, patience_s: float = 1.0) -> None:
    """Give back to the disk what was deleted from an SQLite file; not if somebody is writing to it."""
    with (
        suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(database, timeout=patience_s)) as file,
    ):
        file.execute("VACUUM")


def _ended(client: SyncPrefectClient, before: datetime) -> Iterator[FlowRun]:
    """Runs of our flows that ended before then, oldest first."""
    from prefect.client.schemas.filters import FlowFilter, FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    ours = FlowFilter.model_validate({"name": {"any_": list(_FLOWS)}})
    ended = FlowRunFilter.model_validate(
        {"state": {"type": {"any_": list(_ENDED)}}, "end_time": {"before_": before}}
    )
    page, offset = _PAGE, 0
    while page == _PAGE:
        found = client.read_flow_runs(
            flow_filter=ours,
            flow_run_filter=ended,
            sort=FlowRunSort.START_TIME_ASC,
            limit=_PAGE,
            offset=offset,
        )
        yield from found
        page, offset = len(found), offset + len(found)


def _is_of(run: FlowRun, ws: Workspace) -> bool:
    """Whether a run was on this workspace, by its parameter."""
    named = str(run.parameters.get("workspace", ""))
    if "://" in named:
        return named.rstrip("/") in (ws.url, ws.root.as_uri())
    return bool(named) and Path(named).expanduser().resolve() == ws.root


def _delete(client: SyncPrefectClient, run: UUID) -> None:
    """Artifacts first: the server does not delete them with their run, and finds them by it."""
    from prefect.exceptions import ObjectNotFound

    while found := _artifacts(client, run):
        for artifact in found:
            with suppress(ObjectNotFound):  # another is at it, too
                client.delete_artifact(artifact)
    with suppress(ObjectNotFound):
        client.delete_flow_run(run)


def _artifacts(client: SyncPrefectClient, run: UUID) -> list[UUID]:
    wanted = {
        "artifacts": {"flow_run_id": {"any_": [str(run)]}},
        "limit": _PAGE,
        "sort": "CREATED_DESC",
    }
    answer = client.request("POST", "/artifacts/filter", json=wanted)
    return [UUID(one["id"]) for one in answer.json()]


def _await_logs(client: SyncPrefectClient, runs: list[UUID]) -> None:
    """Wait until the server has deleted their logs, which it does after it has answered.

    One that ends before leaves some; its own daily search for what belongs to no run finds those.
    """
    from prefect.client.schemas.filters import LogFilter

    end = time.monotonic() + _LOGS_WITHIN_S
    of_them = LogFilter.model_validate({"flow_run_id": {"any_": runs}})
    while runs and client.read_logs(of_them, limit=1, offset=0) and time.monotonic() < end:
        time.sleep(_LOOK_EVERY_S)
