"""nightly: the six stages in order, each as a flow of its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect import flow, tags
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed

from data_catalog import WHOLE_NIGHT, LeaseHeld, LeaseLost, Workspace
from flows._artifacts import publish_night
from flows._deadline import Deadline
from flows._history import prune_history
from flows._housekeeping import pruned
from flows._polite import refusing
from flows._progress import in_words
from flows._stage import courtesy, honest_name, lease_owner, meant_by_retry, run_name
from flows._summary import StagesFailedError, StageSummary, describe
from flows.acquire import acquire
from flows.adapt import adapt
from flows.assemble import assemble
from flows.curate import curate
from flows.evaluate import evaluate
from flows.reconstruct import reconstruct
from flows.report import fresh_report
from sage_core.config import SageConfig
from sage_core.types import Stage
from tasks._plan import Descent, Retry, Selector

NIGHT = "sage-night"
"""Tag of the runs of stages within a night: it, and not each of them, is told of when they fail."""

FLOWS: dict[Stage, Any] = {
    Stage.ACQUIRE: acquire,
    Stage.CURATE: curate,
    Stage.RECONSTRUCT: reconstruct,
    Stage.ASSEMBLE: assemble,
    Stage.ADAPT: adapt,
    Stage.EVALUATE: evaluate,
}


@flow(name="nightly", flow_run_name=run_name("nightly"))
@refusing
def nightly(
    workspace: str,
    sources: list[str] | None = None,
    config: SageConfig | None = None,
    stages: list[Stage] | None = None,
    retry: Retry = Retry.MISSING,
    items: list[str] | None = None,
    redecide: bool = False,
    select: Selector | None = None,
    until: datetime | None = None,
) -> State[list[StageSummary]]:
    """Run the stages in order; a stage with failures does not stop the next from taking what is good.

    Args:
        workspace: the workspace's folder.
        sources: URLs, playlists, files, folders, source lists; none: what the workspace has.
        config: settings; the defaults are the paper's.
        stages: only these; none: all six.
        retry: `missing` does what is missing, `failed` also what failed (as a retry of this run does),
            `all` everything.
        items: only these items (ids).
        redecide: curate and reconstruct judge what they stored, and decode nothing.
        select: which of the finished items are done again, by verdict or snapshot; how many. Without `items`
            only those, and what follows from them at the later stages.
        until: begin no item after this moment; also the end of `run.time_budget_h` counts.
    """
    config = config or SageConfig()
    ws = Workspace.open(workspace)
    orders = Orders(
        ws,
        {"workspace": workspace, "config": config},
        Deadline.of(config, until),
        sources or [],
        meant_by_retry(retry),
        Descent(ws, items, select),
        select or Selector(),
        redecide,
    )
    whole = ws.catalog.turn(WHOLE_NIGHT, lease_owner()) if stages is None else nullcontext()
    with whole, tags(NIGHT):
        summaries, refused = _run_stages(list(Stage) if stages is None else stages, orders)
        if config.retention.nightly and refused is None:
            with courtesy("retention"):
                pruned(ws, config)
            with courtesy("retention of Prefect's history"):
                prune_history(ws, config.retention.history_days)
    with courtesy("report"):
        publish_night(ws, summaries, fresh_report(ws))
    return _ended(summaries, refused, config)


@dataclass(frozen=True)
class Orders:
    """What a night was asked to do: the arguments of its stages."""

    ws: Workspace
    common: dict[str, Any]
    deadline: Deadline
    sources: list[str]
    retry: Retry
    descent: Descent
    select: Selector
    redecide: bool

    def of(self, stage: Stage, snapshot: str | None) -> dict[str, Any]:
        """The arguments of a stage's flow; adapt is given what assemble has frozen in this night."""
        arguments = {**self.common, "retry": self.retry, "items": self.descent.at(stage)}
        arguments |= {"select": self.select, "until": self.deadline.at}
        if stage is Stage.ACQUIRE:
            arguments["sources"] = self.sources
        if stage in (Stage.CURATE, Stage.RECONSTRUCT):
            arguments["redecide"] = self.redecide
        if stage is Stage.ADAPT and self.select.snapshot is None:
            arguments["select"] = self.select.model_copy(update={"snapshot": snapshot})
        return arguments


def _run_stages(
    stages: Sequence[Stage], orders: Orders
) -> tuple[list[StageSummary], LeaseHeld | None]:
    """How the stages ended, in order, and who was found at work on the one after them."""
    summaries: list[StageSummary] = []
    snapshot = None
    for stage in stages:
        outcome = _run_stage(stage, orders.of(stage, snapshot))
        if isinstance(outcome, LeaseHeld):
            return summaries, outcome
        summaries.append(outcome)
        snapshot = outcome.snapshot or snapshot
        if outcome.must_stop:
            break
    return summaries, None


def _ended(
    summaries: list[StageSummary], refused: LeaseHeld | None, config: SageConfig
) -> State[list[StageSummary]]:
    """The night's final state."""
    if not all(s.within(config.run.max_failed_share) for s in summaries):
        message = _what_went_wrong(summaries, config)
        return Failed(message=message, data=StagesFailedError(message, summaries))
    if refused is not None:
        done = f"after {summaries[-1].stage}" if summaries else "nothing was done"
        return Cancelled(message=f"refused, {done}: {refused}", data=refused)
    left = sum(s.left for s in summaries)
    failed = sum(s.verdicts.get("failed", 0) for s in summaries)
    message = (
        f"the time is up with {left} items not begun: {'; '.join(describe(s) for s in summaries if s.left)}"
        if left
        else "every item has a verdict" + (f", and {failed} of them failed" if failed else "")
    )
    return Completed(name=honest_name(summaries), message=message, data=summaries)


def _run_stage(stage: Stage, arguments: dict[str, Any]) -> StageSummary | LeaseHeld:
    """How the stage ended, or who else is running it."""
    try:
        state: State[Any] = FLOWS[stage](**arguments, return_state=True)
        result = state.result(raise_on_failure=False)
        if isinstance(result, StageSummary | LeaseHeld):
            return result
        if isinstance(result, StagesFailedError):
            return result.summaries[0]
        problem = in_words(result) if result is not None else str(state.message)
    except Exception as error:  # noqa: BLE001  (Prefect's server may be what fails)
        result, problem = error, in_words(error)
    return StageSummary(stage.value, broken=[problem], must_stop=isinstance(result, LeaseLost))


def _what_went_wrong(summaries: Sequence[StageSummary], config: SageConfig) -> str:
    limit = config.run.max_failed_share
    bad = "; ".join(describe(s) for s in summaries if not s.within(limit))
    if any(s.broken for s in summaries):
        return f"not every item has a verdict, run again: {bad}"
    return f"more failed than run.max_failed_share = {limit:g} allows: {bad}"
