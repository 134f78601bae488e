"""curate: fetched videos → clips worth reconstructing."""

from __future__ import annotations

from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State

from data_catalog import Workspace
from flows._deadline import Deadline
from flows._duplicates import settled
from flows._kept import tell_kept
from flows._polite import refusing
from flows._stage import (
    TOGETHER,
    Job,
    conclude,
    flow_run_id,
    lease_owner,
    meant_by_retry,
    run_jobs,
    run_name,
)
from flows._summary import StageSummary
from sage_core.config import SageConfig
from sage_core.types import Stage
from tasks._plan import Retry, Selection, Selector, plan_curate
from tasks.curate import curate_video, redecide_video


@flow(name="curate", flow_run_name=run_name("curate"))
@refusing
def curate(
    workspace: str,
    config: SageConfig | None = None,
    retry: Retry = Retry.MISSING,
    items: list[str] | None = None,
    select: Selector | None = None,
    redecide: bool = False,
    until: datetime | None = None,
) -> State[StageSummary]:
    """Judge every fetched video that has no verdict yet, and cut the good ones into clips.

    In the end the clips of the whole workspace are compared, and of those that show the same one is kept.

    Args:
        workspace: the workspace's folder.
        config: settings; the defaults are the paper's.
        retry: `missing` does what is missing, `failed` also what failed (as a retry of this run does),
            `all` everything.
        items: only these items (ids).
        select: which of the finished items are done again, by verdict or snapshot; how many.
        redecide: judge stored scores under these settings and decode nothing. An item without the scores
            that it takes keeps the verdict that it has, and is named.
        until: begin no item after this moment; also the end of `run.time_budget_h` counts.
    """
    config = config or SageConfig()
    deadline = Deadline.of(config, until)
    ws = Workspace.open(workspace)
    with ws.catalog.lease(Stage.CURATE.value, lease_owner()):
        selection = Selection.of(ws, Stage.CURATE, meant_by_retry(retry), items, select)
        plan = plan_curate(ws, config, selection, stored=redecide)
        tell_kept(Stage.CURATE, plan)
        run = flow_run_id()
        unit = redecide_video if redecide else curate_video
        given = {"workspace": workspace, "config": config, "run": run}
        summary = run_jobs(
            Stage.CURATE,
            (Job(unit, {**given, "item": i.item}) for i in plan.missing),
            total=len(plan.missing),
            run=config.run,
            done_before=plan.done,
            deadline=deadline,
            together=TOGETHER,
        )
        summary = settled(ws, config, run, summary)
    return conclude(ws, summary, config)
