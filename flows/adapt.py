"""adapt: shards → an adapted model."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State

from data_catalog import CatalogError, Workspace
from flows._deadline import Deadline
from flows._polite import refusing
from flows._progress import TrainingProgress, say
from flows._stage import conclude, flow_run_id, lease_owner, meant_by_retry, run_name, summarised
from flows._summary import StageSummary
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.types import Stage
from tasks._plan import Retry, Selection, Selector, wanted
from tasks.adapt import absent_held_out, adapt_inputs, adapt_model, run_note, too_few_new


@flow(name="adapt", flow_run_name=run_name("adapt"))
@refusing
def adapt(
    workspace: str,
    config: SageConfig | None = None,
    retry: Retry = Retry.MISSING,
    items: list[str] | None = None,
    select: Selector | None = None,
    until: datetime | None = None,
) -> State[StageSummary]:
    """Fine-tune the base model on the current shards, or go on where a killed run stopped.

    Nothing is begun below `adapt.min_new_clips`, unless `retry` is `all` or the run is named.

    Args:
        workspace: the workspace's folder.
        config: settings; the defaults are the paper's.
        retry: `missing` does what is missing, `failed` also what failed (as a retry of this run does),
            `all` everything.
        items: only this run (id).
        select: which of the finished items are done again, by verdict or snapshot; how many.
        until: begin no item after this moment; also the end of `run.time_budget_h` counts.
    """
    config = config or SageConfig()
    deadline = Deadline.of(config, until)
    ws = Workspace.open(workspace)
    with ws.catalog.lease(Stage.ADAPT.value, lease_owner()):
        selection = Selection.of(ws, Stage.ADAPT, meant_by_retry(retry), items, select)
        summary = _adapt(ws, config, selection, deadline)
    return conclude(ws, summary, config)


def _at_rest(
    ws: Workspace,
    config: SageConfig,
    selection: Selection,
    item: str,
    input_hash: str,
    few: str | None,
) -> StageSummary | None:
    """How adapt ends if it does not train this run; None if it does. ``few``: why it would be too early."""
    if not selection.names(item, None):
        return summarised(Stage.ADAPT, [], [], 0)
    current = config.stage_hash(Stage.ADAPT)
    if not wanted(ws, item, Stage.ADAPT, current, input_hash, selection):
        return summarised(Stage.ADAPT, [], [], 1)
    if few and selection.retry is not Retry.ALL and not selection.scopes:
        say("adapt:", few, "cyan")
        return replace(summarised(Stage.ADAPT, [], [], 0), notes=[few])
    return None


def _adapt(
    ws: Workspace, config: SageConfig, selection: Selection, deadline: Deadline
) -> StageSummary:
    try:
        note = run_note(ws, config, selection.selector.snapshot)
        if note.value and (rest := _at_rest(ws, config, selection, *note.value)):
            return rest
        inputs = adapt_inputs(ws, config, selection.selector.snapshot)
    except (SageError, CatalogError) as error:
        return summarised(Stage.ADAPT, [], [str(error)], 0)
    if absent := absent_held_out(ws, config):
        say(
            "note:",
            f"adapt.held_out names {', '.join(absent)}, and no clip is called that",
            "yellow",
        )
    known = inputs.item, inputs.hash, too_few_new(inputs, ws, config)
    if rest := _at_rest(ws, config, selection, *known):
        note.keep(known)
        return rest
    if deadline.has_passed:
        return replace(summarised(Stage.ADAPT, [], [], 0), left=1 if inputs.parts else 0)
    with TrainingProgress() as progress:
        result = adapt_model(ws.address, inputs, config, flow_run_id(), progress.step)
    progress.tell(Stage.ADAPT.value, result)
    return summarised(Stage.ADAPT, [result], [], 0)
