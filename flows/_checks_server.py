"""What ``sage doctor`` looks at on the Prefect server: version, clock, runs of the dead, leaked slots."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from data_catalog import WHOLE_NIGHT, Workspace
from flows._checks import Check, Level
from flows._progress import in_words
from flows._server import running_server
from sage_core.types import Stage

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun, State

SILENT_S = 540.0
"""Three heartbeats of a flow run (180 s each): silent for longer, a run is taken for dead."""
_CLOCK_S = 5.0
_MOST = 200


def server_checks(ws: Workspace | None, silent_s: float = SILENT_S) -> Iterator[Check]:
    """The server that PREFECT_API_URL names, else the one that serves the workspace now."""
    given = os.environ.get("PREFECT_API_URL")
    running = running_server(ws.root) if ws is not None and not given else None
    api = given or (f"{running}/api" if running else None)
    if api is None:
        text = "none runs now: each command starts one of its own, and `sage serve` one that stays"
        yield Check("server", Level.OK, text)
        return
    from prefect.client.orchestration import SyncPrefectClient

    try:
        with SyncPrefectClient(api) as client:
            yield from _looked_at(client, api, ws, silent_s)
    except Exception as error:  # noqa: BLE001  (a server can fail in every way)
        fix = f"start it (`sage serve`, `prefect server start`), or unset PREFECT_API_URL={api}"
        yield Check("server", Level.FAIL, f"{api} does not answer: {in_words(error)}", fix)


def _looked_at(
    client: SyncPrefectClient, api: str, ws: Workspace | None, silent_s: float
) -> Iterator[Check]:
    import prefect

    there, here = client.api_version(), prefect.__version__
    if there.split(".")[:2] == here.split(".")[:2]:
        yield Check("server", Level.OK, f"{api} is Prefect {there}")
    else:
        text = f"{api} is Prefect {there}, this is {here}"
        yield Check(
            "server", Level.WARN, text, f"pip install prefect=={there}, or upgrade the server"
        )
    yield _clock(client)
    silent = _silent_runs(client, ws, silent_s)
    yield from (_stuck(api, run) for run in silent)
    alive = [run for run in _running(client) if run.id not in {one.id for one in silent}]
    yield from _slots(client, api, len(alive))


def _clock(client: SyncPrefectClient) -> Check:
    answer = client.request("GET", "/health")
    off = time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp()
    text = f"{off:+.0f} s off the server's"
    if abs(off) <= _CLOCK_S:
        return Check("server's clock", Level.OK, text)
    return Check("server's clock", Level.WARN, text, "set both machines' clocks by NTP")


def _running(client: SyncPrefectClient) -> list[FlowRun]:
    from prefect.client.schemas.filters import FlowRunFilter
    from prefect.client.schemas.sorting import FlowRunSort

    running = FlowRunFilter.model_validate({"state": {"type": {"any_": ["RUNNING"]}}})
    order = FlowRunSort.START_TIME_ASC
    return client.read_flow_runs(flow_run_filter=running, sort=order, limit=_MOST, offset=0)


def _silent_runs(client: SyncPrefectClient, ws: Workspace | None, silent_s: float) -> list[FlowRun]:
    """Runs that began long ago, have not shown a heartbeat since, and hold no living lease here."""
    before = datetime.now(UTC) - timedelta(seconds=silent_s)
    old = [run for run in _running(client) if _began(run) <= before]
    living = _living_owners(ws)
    return [
        run for run in old if str(run.id) not in living and not _has_beaten(client, run.id, before)
    ]


def _began(run: FlowRun) -> datetime:
    return run.start_time or run.created or datetime.now(UTC)


def _living_owners(ws: Workspace | None) -> set[str]:
    """Flow run ids of those who hold a stage of the workspace, or its night, and are alive."""
    if ws is None:
        return set()
    held = [ws.catalog.holder(stage.value) for stage in Stage]
    held.append(ws.catalog.at_turn(WHOLE_NIGHT))
    return {one.who.partition("@")[0] for one in held if one is not None and not one.is_gone}


def _has_beaten(client: SyncPrefectClient, run: UUID, since: datetime) -> bool:
    wanted = {
        "filter": {
            "event": {"name": ["prefect.flow-run.heartbeat"]},
            "resource": {"id": [f"prefect.flow-run.{run}"]},
            "occurred": {"since": since.isoformat()},
        },
        "limit": 1,
    }
    answer: dict[str, Any] = client.request("POST", "/events/filter", json=wanted).json()
    return bool(answer["events"])


def _stuck(api: str, run: FlowRun) -> Check:
    text = f"{run.name} ({run.id}) is said to run since {_began(run):%Y-%m-%d %H:%M} UTC, without a heartbeat"
    fix = "sage doctor --fix has it end as Crashed"
    return Check("run", Level.WARN, text, fix, lambda: _crash(api, run.id))


def _crash(api: str, run: UUID) -> None:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.states import Crashed

    with SyncPrefectClient(api) as client:
        state: State[Any] = Crashed(message="it has shown no heartbeat: sage doctor")
        client.set_flow_run_state(run, state, force=True)


def _slots(client: SyncPrefectClient, api: str, running: int) -> Iterator[Check]:
    """Slots of global concurrency limits that are taken though no flow runs: their holders were killed."""
    for limit in client.read_global_concurrency_limits(limit=_MOST, offset=0):
        if limit.active_slots == 0:
            continue
        text = f"{limit.active_slots} of {limit.limit} slots are taken, {running} flows run"
        if running:
            yield Check(f"limit {limit.name}", Level.OK, text)
            continue
        fix = "sage doctor --fix frees them"
        yield Check(f"limit {limit.name}", Level.WARN, text, fix, partial(_free, api, limit.name))


def _free(api: str, name: str) -> None:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate

    with SyncPrefectClient(api) as client:
        client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(active_slots=0))
