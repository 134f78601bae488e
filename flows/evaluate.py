"""evaluate: adapted models → measured beside their base."""

from __future__ import annotations

from prefect import flow
from prefect.client.schemas.objects import State

from data_catalog import Workspace
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
from sage_core.types import Stage
from tasks._plan import Retry, Selection, Selector, wanted
from tasks.evaluate import evaluate_inputs, evaluate_run


@flow(name="evaluate", flow_run_name=run_name("evaluate"))
def evaluate(
    workspace: str,
    config: SageConfig | None = None,
    retry: Retry = Retry.NONE,
    items: list[str] | None = None,
    select: Selector | None = None,
) -> State[StageSummary]:
    """Measure every adapted model that has no verdict yet side by side with its base.

    Args:
        workspace: the workspace's folder.
        config: settings; the defaults are the paper's.
        retry: `missing` does what is missing, `failed` also what failed (as a retry of this run does),
            `all` everything.
        items: only these training runs (ids).
        select: which of the finished items are done again, by verdict or snapshot; how many.
    """
    config = config or SageConfig()
    ws = Workspace.open(workspace)
    with ws.catalog.lease(Stage.EVALUATE.value, lease_owner()):
        missing, done = _plan(
            ws, config, Selection.of(ws, Stage.EVALUATE, meant_by_retry(retry), items, select)
        )
        run = flow_run_id()
        jobs = [
            Job(
                evaluate_run,
                {"workspace": workspace, "run_item": item, "config": config, "run": run},
            )
            for item in missing
        ]
        summary = run_jobs(Stage.EVALUATE, jobs, workers=1, done_before=done)
    return conclude(ws, summary, config.run.max_failed_share)


def _plan(ws: Workspace, config: SageConfig, selection: Selection) -> tuple[list[str], int]:
    """Runs to evaluate, and how many of the chosen ones have been already.

    Only runs of the current settings of adapt: older ones keep the verdict that they have.
    """
    adapted = ws.catalog.latest(Stage.ADAPT.value, verdict="accepted")
    current = config.stage_hash(Stage.ADAPT)
    chosen = [e.item for e in adapted if e.config_hash == current and selection.names(e.item, None)]
    missing = [
        item
        for item in chosen
        if wanted(
            ws,
            item,
            Stage.EVALUATE,
            config,
            evaluate_inputs(ws, item, config).hash,
            selection,
        )
    ]
    return missing, len(chosen) - len(missing)
