"""How every stage runs: plan from the catalog, work in parallel, tell the UI, end in an honest state."""

from __future__ import annotations

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner
from prefect.tasks import Task

from data_catalog import LeaseLost, Workspace
from flows._artifacts import publish_stage
from flows._deadline import Deadline
from flows._progress import StageProgress, in_words, say
from flows._runners import task_runner
from flows._summary import (
    COMPLETED,
    OUT_OF_TIME,
    WITH_FAILURES,
    StagesFailedError,
    StageSummary,
    describe,
)
from sage_core.config import RunConfig, SageConfig
from sage_core.types import Stage
from tasks._plan import Retry
from tasks.metrics import write_metrics


@dataclass(frozen=True)
class Job:
    """One call of a stage's task."""

    task: Task[..., Any]
    arguments: dict[str, Any]
    items: int = 1


def flow_run_id() -> str:
    """The id of the flow run that is under way; kept with every event."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    return str(run.id) if run else "no-flow"


def meant_by_retry(retry: Retry) -> Retry:
    """What to do again: a flow run that is retried as a whole (the UI's button) tries what failed, too."""
    context = FlowRunContext.get()
    run = context.flow_run if context else None
    again = run is not None and run.run_count > 1
    return Retry.FAILED if again and retry is Retry.MISSING else retry


def lease_owner() -> str:
    """Who holds a stage's lease: flow run, host and process."""
    return f"{flow_run_id()}@{socket.gethostname()}:{os.getpid()}"


def run_name(stage: str) -> Callable[[], str]:
    """Names a flow run by stage and time, as people look for it in the UI."""
    return lambda: f"{stage}-{datetime.now():%Y-%m-%d-%H%M%S}"


@contextmanager
def courtesy(what: str) -> Iterator[None]:
    """What is told to the UI decides nothing: if it cannot be told (a full disk, say), the work goes on."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  (whatever it is, no verdict may be lost for it)
        say(f"{what}:", f"not written: {in_words(error)}", "dim")


def run_jobs(
    stage: Stage, jobs: Sequence[Job], *, run: RunConfig, done_before: int, deadline: Deadline
) -> StageSummary:
    """Run the jobs, ``run.workers`` at a time, until the deadline; count the verdicts as they come in."""
    total = sum(job.items for job in jobs)
    results: list[dict[str, Any]] = []
    broken: list[str] = []
    waiting = deque(jobs)
    with StageProgress(stage.value, total) as bar, task_runner(run) as runner:
        tell = ui_progress(stage, total)
        for future in _as_they_end(runner, waiting, run.workers, deadline):
            for result in _results(future, broken):
                results.append(result)
                bar.advance(result)
            tell(len(results))
    left = sum(job.items for job in waiting)
    return replace(summarised(stage, results, broken, done_before), left=left)


def _as_they_end(
    runner: TaskRunner[Any], waiting: deque[Job], workers: int, deadline: Deadline
) -> Iterator[PrefectFuture[Any]]:
    """Begin jobs from ``waiting``'s left while there is time and a worker is free; yield what has ended."""
    under_way: set[PrefectFuture[Any]] = set()
    while True:
        while waiting and len(under_way) < workers and not deadline.has_passed:
            job = waiting.popleft()
            under_way.add(runner.submit(job.task, job.arguments))
        if not under_way:
            return
        ended = next(as_completed(list(under_way)))
        under_way.remove(ended)
        yield ended


def summarised(
    stage: Stage, results: Sequence[dict[str, Any]], broken: list[str], done_before: int
) -> StageSummary:
    """Verdicts counted by kind and by reason."""
    return StageSummary(
        stage=stage.value,
        verdicts=dict(Counter(str(r["verdict"]) for r in results)),
        reasons=dict(Counter(str(r["reason"]) for r in results if r["reason"])),
        done_before=done_before,
        broken=broken,
    )


def conclude(ws: Workspace, summary: StageSummary, config: SageConfig) -> State[StageSummary]:
    """Write the stage's artifacts for the UI and turn its summary into the flow run's final state."""
    with courtesy(f"summary of {summary.stage} in the UI"):
        publish_stage(ws, summary, config, flow_run_id())
    with courtesy("metrics"):
        write_metrics(ws)
    text = describe(summary)
    if summary.within(config.run.max_failed_share):
        return Completed(name=honest_name([summary]), message=text, data=summary)
    return Failed(message=text, data=StagesFailedError(text, [summary]))


def honest_name(summaries: Sequence[StageSummary]) -> str:
    """What a completed run is called in the UI: not all of them completed everything."""
    if any(s.left for s in summaries):
        return OUT_OF_TIME
    return WITH_FAILURES if any(s.verdicts.get("failed") for s in summaries) else COMPLETED


def _results(future: PrefectFuture[Any], broken: list[str]) -> list[dict[str, Any]]:
    try:
        result = future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001  (the worker of a cluster that had it has died, say)
        result = error
    if isinstance(result, LeaseLost):
        raise result
    if isinstance(result, BaseException):
        broken.append(in_words(result))
        return []
    return list(result) if isinstance(result, list) else [result]


def ui_progress(stage: Stage, total: int) -> Callable[[int], None]:
    """A progress artifact that is updated in steps of two percent: an update costs the server 10 ms."""
    artifact: object = None
    if total:
        with courtesy("progress in the UI"):
            artifact = create_progress_artifact(progress=0.0, key=f"{stage.value}-progress")
    step = max(1, total // 50)

    def tell(done: int) -> None:
        nonlocal artifact
        if isinstance(artifact, UUID) and (done % step == 0 or done == total):
            known, artifact = artifact, None
            with courtesy("progress in the UI"):
                update_progress_artifact(known, progress=100.0 * done / total)
                artifact = known

    return tell
