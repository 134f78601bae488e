"""evaluate: adapted models → measured beside their base."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State

from data_catalog import CatalogError, Workspace
from flows._artifacts import publish_gate
from flows._deadline import Deadline
from flows._polite import refusing
from flows._progress import in_words, say
from flows._stage import (
    Job,
    conclude,
    courtesy,
    flow_run_id,
    lease_owner,
    meant_by_retry,
    run_jobs,
    run_name,
)
from flows._summary import StageSummary
from sage_core.config import RunConfig, SageConfig
from sage_core.errors import SageError
from sage_core.types import Stage
from tasks._plan import Retry, Selection, Selector, wanted
from tasks.evaluate import evaluate_inputs, evaluate_run
from tasks.promote import gate_rows, promote, said

_ONE_AT_A_TIME = RunConfig(workers=1)
"""Two models are enough for a GPU, and for the memory beside it."""


@flow(name="evaluate", flow_run_name=run_name("evaluate"))
@refusing
def evaluate(
    workspace: str,
    config: SageConfig | None = None,
    retry: Retry = Retry.MISSING,
    items: list[str] | None = None,
    select: Selector | None = None,
    until: datetime | None = None,
) -> State[StageSummary]:
    """Measure every adapted model that has no verdict yet side by side with its base; let the gate judge it.

    Args:
        workspace: the workspace's folder.
        config: settings; the defaults are the paper's.
        retry: `missing` does what is missing, `failed` also what failed (as a retry of this run does),
            `all` everything.
        items: only these training runs (ids).
        select: which of the finished items are done again, by verdict or snapshot; how many.
        until: begin no item after this moment; also the end of `run.time_budget_h` counts.
    """
    config = config or SageConfig()
    deadline = Deadline.of(config, until)
    ws = Workspace.open(workspace)
    with ws.catalog.lease(Stage.EVALUATE.value, lease_owner()):
        missing, done = _plan(
            ws, config, Selection.of(ws, Stage.EVALUATE, meant_by_retry(retry), items, select)
        )
        run = flow_run_id()
        given = {"workspace": workspace, "config": config, "run": run}
        summary = run_jobs(
            Stage.EVALUATE,
            (Job(evaluate_run, {**given, "run_item": item}) for item in missing),
            total=len(missing),
            run=_ONE_AT_A_TIME,
            done_before=done,
            deadline=deadline,
        )
        summary = _gated(ws, config, run, summary)
    return conclude(ws, summary, config)


def _gated(ws: Workspace, config: SageConfig, run: str, summary: StageSummary) -> StageSummary:
    """Let the gate decide who is latest, and tell it; a failure counts as work undone."""
    try:
        decisions = promote(ws.address, config, run)
    except (SageError, CatalogError, OSError) as error:
        return replace(summary, broken=[*summary.broken, f"latest: {in_words(error)}"])
    notes = [said(decision) for decision in decisions]
    if decisions:
        with courtesy("gate in the UI"):
            publish_gate(
                gate_rows(decisions), "\n".join(["# Gate", "", *(f"- {n}" for n in notes)])
            )
    for note in notes:
        say("latest:", note, "cyan")
    return replace(summary, notes=notes)


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
            config.stage_hash(Stage.EVALUATE),
            evaluate_inputs(ws, item, config).hash,
            selection,
        )
    ]
    return missing, len(chosen) - len(missing)
