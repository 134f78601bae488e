"""reconstruct: clips → sparse models with a pose for every frame that may be sampled."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from data_catalog import Workspace
from flows._duplicates import settled_before
from flows._stage import (
    Job,
    StageSummary,
    conclude,
    flow_run_id,
    lease_owner,
    meant_by_retry,
    run_jobs,
    run_name,
)
from sage_core.config import SageConfig
from sage_core.sfm.backends import recipe_of
from sage_core.types import Stage
from tasks._plan import Retry, Selection, plan_reconstruct
from tasks.reconstruct import reconstruct_clip


@flow(name="reconstruct", flow_run_name=run_name("reconstruct"))
def reconstruct(
    workspace: str,
    config: SageConfig | None = None,
    retry: Retry = Retry.NONE,
    items: list[str] | None = None,
) -> State[StageSummary]:
    """Run COLMAP and the gate on every accepted clip that has no verdict yet.

    Args:
        workspace: the workspace's folder.
        config: settings; the defaults are the paper's.
        retry: `none` does what is missing, `failed` also what failed (as a retry of this run does),
            `all` everything.
        items: only these items (ids).
    """
    config = config or SageConfig()
    recipe_of(config.reconstruct)  # a detector that is not there is refused before any clip
    ws = Workspace.open(workspace)
    with ws.catalog.lease(Stage.RECONSTRUCT.value, lease_owner()):
        run = flow_run_id()
        settled_before(ws, config, run)
        plan = plan_reconstruct(ws, config, Selection.of(meant_by_retry(retry), items))
        jobs = [
            Job(
                reconstruct_clip,
                {"workspace": workspace, "item": i.item, "config": config, "run": run},
            )
            for i in plan.missing
        ]
        summary = run_jobs(
            Stage.RECONSTRUCT, jobs, workers=config.run.workers, done_before=plan.done
        )
    return conclude(ws, summary, config.run.max_failed_share)
