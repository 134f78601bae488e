"""nightly: the six stages in order, each as a flow of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from data_catalog import LeaseHeld, LeaseLost, Workspace
from flows._housekeeping import pruned
from flows._progress import in_words
from flows._stage import (
    StagesFailedError,
    StageSummary,
    courtesy,
    describe,
    meant_by_retry,
    run_name,
)
from flows.acquire import acquire
from flows.adapt import adapt
from flows.assemble import assemble
from flows.curate import curate
from flows.evaluate import evaluate
from flows.reconstruct import reconstruct
from flows.report import write_report
from sage_core.config import SageConfig
from sage_core.types import Stage
from tasks._plan import Descent, Retry, Selector

REPORTS_URL = "SAGE_REPORTS_URL"
"""Environment variable: where the workspace's reports are served, if they are."""

FLOWS: dict[Stage, Any] = {
    Stage.ACQUIRE: acquire,
    Stage.CURATE: curate,
    Stage.RECONSTRUCT: reconstruct,
    Stage.ASSEMBLE: assemble,
    Stage.ADAPT: adapt,
    Stage.EVALUATE: evaluate,
}


@flow(name="nightly", flow_run_name=run_name("nightly"))
def nightly(
    workspace: str,
    sources: list[str] | None = None,
    config: SageConfig | None = None,
    stages: list[Stage] | None = None,
    retry: Retry = Retry.NONE,
    items: list[str] | None = None,
    redecide: bool = False,
    select: Selector | None = None,
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
    """
    config = config or SageConfig()
    descent = Descent(Workspace.open(workspace), items, select)
    summaries: list[StageSummary] = []
    for stage in list(Stage) if stages is None else stages:
        arguments: dict[str, Any] = {
            "workspace": workspace,
            "config": config,
            "retry": meant_by_retry(retry),
            "items": descent.at(stage),
            "select": select,
        }
        if stage is Stage.ACQUIRE:
            arguments["sources"] = sources or []
        if stage in (Stage.CURATE, Stage.RECONSTRUCT):
            arguments["redecide"] = redecide
        summary, goes_on = _run_stage(stage, arguments)
        summaries.append(summary)
        if not goes_on:
            break
    if config.retention.nightly:
        with courtesy("retention"):
            pruned(Workspace.open(workspace), config)
    with courtesy("report"):
        _tell_the_ui(workspace, summaries)
    if all(s.within(config.run.max_failed_share) for s in summaries):
        return Completed(message="every item has a verdict", data=summaries)
    message = _what_went_wrong(summaries, config)
    return Failed(message=message, data=StagesFailedError(message, summaries))


def _tell_the_ui(workspace: str, summaries: Sequence[StageSummary]) -> None:
    """The night's summary as an artifact, and the report, linked."""
    report = write_report(Path(workspace))
    base = os.environ.get(REPORTS_URL)
    link = f"{base}/{report.parent.name}/{report.name}" if base else report.as_uri()
    text = "\n".join(f"- {describe(s)}" for s in summaries)
    create_markdown_artifact(f"# Night\n\n{text}\n\n[Report]({link})", key="night-summary")
    create_link_artifact(link, link_text="Report", key="report")


def _run_stage(stage: Stage, arguments: dict[str, Any]) -> tuple[StageSummary, bool]:
    """How the stage ended, and whether the next may begin: not beside another runner of this workspace."""
    try:
        state: State[Any] = FLOWS[stage](**arguments, return_state=True)
        result = state.result(raise_on_failure=False)
        if isinstance(result, StageSummary):
            return result, True
        if isinstance(result, StagesFailedError):
            return result.summaries[0], True
        problem = in_words(result) if result is not None else str(state.message)
    except Exception as error:  # noqa: BLE001  (Prefect's server may be what fails)
        result, problem = error, in_words(error)
    goes_on = not isinstance(result, LeaseHeld | LeaseLost)
    return StageSummary(stage=stage.value, broken=[problem]), goes_on


def _what_went_wrong(summaries: Sequence[StageSummary], config: SageConfig) -> str:
    limit = config.run.max_failed_share
    bad = "; ".join(describe(s) for s in summaries if not s.within(limit))
    if any(s.broken for s in summaries):
        return f"not every item has a verdict, run again: {bad}"
    return f"more failed than run.max_failed_share = {limit:g} allows: {bad}"
