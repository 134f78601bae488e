"""assemble: reconstructed clips → Parquet shards."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from prefect import flow
from prefect.client.schemas.objects import State

from data_catalog import LeaseHeld, Workspace
from flows._deadline import Deadline
from flows._kept import tell_kept
from flows._polite import refusing
from flows._progress import say
from flows._stage import Job, conclude, flow_run_id, lease_owner, meant_by_retry, run_jobs, run_name
from flows._summary import StageSummary
from sage_core.config import SageConfig
from sage_core.types import Stage
from tasks._plan import Retry, Selection, Selector, plan_assemble
from tasks.assemble import assemble_shard
from tasks.compact import leave_shards
from tasks.forget import remove_forgotten
from tasks.freeze import freeze


@flow(name="assemble", flow_run_name=run_name("assemble"))
@refusing
def assemble(
    workspace: str,
    config: SageConfig | None = None,
    retry: Retry = Retry.MISSING,
    items: list[str] | None = None,
    select: Selector | None = None,
    until: datetime | None = None,
) -> State[StageSummary]:
    """Write every reconstructed clip that is not in a shard yet into new shards, in order of ids.

    Clips that an earlier stage rejects since then leave theirs: what is left of a shard is copied. In the
    end the list of all shards is frozen as a snapshot.

    Args:
        workspace: the workspace's folder.
        config: settings; the defaults are the paper's.
        retry: `missing` does what is missing, `failed` also what failed (as a retry of this run does),
            `all` everything.
        items: only these clips, or the clips of these videos (ids).
        select: which of the finished items are done again, by verdict or snapshot; how many.
        until: begin no item after this moment; also the end of `run.time_budget_h` counts.
    """
    config = config or SageConfig()
    deadline = Deadline.of(config, until)
    ws = Workspace.open(workspace)
    try:
        remove_forgotten(ws, lease_owner())
    except LeaseHeld as error:
        say("assemble:", f"what was forgotten is removed next time: {error}", "dim")
    with ws.catalog.lease(Stage.ASSEMBLE.value, lease_owner()):
        plan = plan_assemble(
            ws, config, Selection.of(ws, Stage.ASSEMBLE, meant_by_retry(retry), items, select)
        )
        tell_kept(Stage.ASSEMBLE, plan)
        run = flow_run_id()
        clips = [i.item for i in plan.missing]
        given = {"workspace": workspace, "config": config, "run": run}
        groups = _groups(clips, config.assemble.clips_per_shard)
        summary = run_jobs(
            Stage.ASSEMBLE,
            (Job(assemble_shard, {**given, "clips": group}, len(group)) for group in groups),
            total=len(clips),
            run=config.run,
            done_before=plan.done,
            deadline=deadline,
        )
        gone = leave_shards(ws, run).left
        summary = replace(summary, snapshot=freeze(ws))
    if gone:
        say(
            "assemble:",
            f"{len(gone)} clips left their shards: sage items --reason superseded",
            "cyan",
        )
    return conclude(ws, summary, config)


def _groups(clips: list[str], size: int) -> list[list[str]]:
    return [clips[start : start + size] for start in range(0, len(clips), size)]
