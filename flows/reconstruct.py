"""reconstruct: clips → sparse models with a pose for every frame that may be sampled."""

from __future__ import annotations

from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State

from data_catalog import Workspace
from flows._deadline import Deadline
from flows._duplicates import settled_before
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
from sage_core.sfm.backends import recipe_of
from sage_core.types import Stage
from tasks._plan import Retry, Selection, Selector, plan_reconstruct
from tasks.reconstruct import reconstruct_clip, redecide_clip


@flow(name="reconstruct", flow_run_name=run_name("reconstruct"))
@refusing
def reconstruct(
    workspace: str,
    config: SageConfig | None = None,
    retry: Retry = Retry.MISSING,
    items: list[str] | None = None,
    select: Selector | None = None,
    redecide: bool = False,
    until: datetime | None = None,
) -> State[StageSummary]:
    """Run COLMAP and the gate on every accepted clip that has no verdict yet.

    Args:
        workspace: the workspace's folder.
        config: settings; the defaults are the paper's.
        retry: `missing` does what is missing, `failed` also what failed (as a retry of this run does),
            `all` everything.
        items: only these items (ids).
        select: which of the finished items are done again, by verdict or snapshot; how many.
        redecide: judge stored figures under these thresholds; decode and map nothing. A clip without the
            figures or the model that it takes keeps the verdict that it has, and is named.
        until: begin no item after this moment; also the end of `run.time_budget_h` counts.
    """
    config = config or SageConfig()
    deadline = Deadline.of(config, until)
    recipe_of(config.reconstruct)  # a detector that is not there is refused before any clip
    ws = Workspace.open(workspace)
    with ws.catalog.lease(Stage.RECONSTRUCT.value, lease_owner()):
        run = flow_run_id()
        settled_before(ws, config, run)
        selection = Selection.of(ws, Stage.RECONSTRUCT, meant_by_retry(retry), items, select)
        plan = plan_reconstruct(ws, config, selection, stored=redecide)
        tell_kept(Stage.RECONSTRUCT, plan)
        clips = [i.item for i in plan.missing]
        if redecide:
            clips = [clip for clip in clips if ws.catalog.find(clip, Stage.RECONSTRUCT.value)]
        unit = redecide_clip if redecide else reconstruct_clip
        given = {"workspace": workspace, "config": config, "run": run}
        summary = run_jobs(
            Stage.RECONSTRUCT,
            (Job(unit, {**given, "item": clip}) for clip in clips),
            total=len(clips),
            run=config.run,
            done_before=plan.done,
            deadline=deadline,
            together=TOGETHER,
        )
    return conclude(ws, summary, config)
