"""How every stage runs: plan from the catalog, work in parallel, tell the UI, end in an honest state."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import Task
from prefect.utilities.annotations import quote

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
from tasks._turns import in_turn
from tasks.metrics import write_metrics

TOGETHER = 16
"""Items that one task run has at most: a task run costs the server 10 ms and 20 kB of its database."""
_STEPS = 50


@dataclass(frozen=True)
class Job:
    """One call of a stage's task: of one that gives a verdict on one item, or (``items``) on many."""

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


class Waiting:
    """Jobs that have not begun, made one by one: very many of them at once take much memory."""

    def __init__(self, jobs: Iterable[Job], items: int) -> None:
        self.items = items
        self._jobs = iter(jobs)

    def take(self, count: int) -> list[Job]:
        """The next ones, no more than so many."""
        taken = list(islice(self._jobs, count))
        self.items -= sum(job.items for job in taken)
        return taken


def run_jobs(
    stage: Stage,
    jobs: Iterable[Job],
    *,
    total: int,
    run: RunConfig,
    done_before: int,
    deadline: Deadline,
    together: int = 1,
) -> StageSummary:
    """Run the jobs, which have ``total`` items, ``run.workers`` at a time until the deadline; count verdicts.

    Where very many wait, up to ``together`` of them are one task run, one after the other
    (:func:`batch_size`). Not on a cluster: it does a task run again, whole, whose worker has died.
    """
    counts, waiting = Counts(), Waiting(jobs, total)
    most = together if run.task_runner == "threads" else 1
    with StageProgress(stage.value, total) as bar, task_runner(run) as runner:
        tell = ui_progress(stage, total)
        for future in _as_they_end(runner, waiting, run.workers, deadline, most):
            for result in outcomes(future):
                counts.add(result, bar)
            tell(counts.judged)
    return replace(counts.summary(stage, done_before), left=counts.left + waiting.items)


def _as_they_end(
    runner: TaskRunner[Any],
    waiting: Waiting,
    workers: int,
    deadline: Deadline,
    most: int,
) -> Iterator[PrefectFuture[Any]]:
    """Begin what waits while there is time and a worker is free; yield what has ended."""
    under_way: set[PrefectFuture[Any]] = set()
    while True:
        while waiting.items and len(under_way) < workers and not deadline.has_passed:
            batch = waiting.take(batch_size(waiting.items, workers, most))
            under_way.add(submit(runner, batch, deadline))
        if not under_way:
            return
        ended = next(as_completed(list(under_way)))
        under_way.remove(ended)
        yield ended


def batch_size(waiting: int, workers: int, most: int) -> int:
    """How many jobs the next task run gets: all workers together hold two percent of what waits at most.

    So progress in the UI, which goes in such steps, is as fine as with one job each, no worker is left with
    many in the end, and a run of a hundred items has a task run for each.
    """
    return max(1, min(most, waiting // (_STEPS * workers)))


def submit(runner: TaskRunner[Any], batch: Sequence[Job], deadline: Deadline) -> PrefectFuture[Any]:
    """Begin a task run of these calls of one task."""
    unit: Task[..., Any] = batch[0].task
    arguments = batch[0].arguments
    if len(batch) > 1:
        calls = [job.arguments for job in batch]
        title = f"{_run_name(batch[0])} and {len(batch) - 1} more"
        arguments = {"unit": unit, "calls": calls, "until": deadline.at, "title": title}
        unit = in_turn
    begun: PrefectFuture[Any] = runner.submit(unit, _unread(arguments, runner))
    return begun


def _run_name(job: Job) -> str:
    """What its task run would be called in the UI if it had one of its own."""
    name = job.task.task_run_name
    return name.format(**job.arguments) if isinstance(name, str) else job.task.name


def _unread(arguments: dict[str, Any], runner: TaskRunner[Any]) -> dict[str, Any]:
    """Arguments that Prefect does not search for other tasks' results: it would walk through all settings.

    A cluster's runner does its own search, and takes what is quoted for a tuple.
    """
    if not isinstance(runner, ThreadPoolTaskRunner):
        return arguments
    return {name: quote(value) for name, value in arguments.items()}


def summarised(
    stage: Stage, results: Sequence[dict[str, Any]], broken: list[str], done_before: int
) -> StageSummary:
    """Verdicts counted by kind and by reason."""
    counts = Counts(broken)
    for result in results:
        counts.add(result)
    return counts.summary(stage, done_before)


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


class Counts:
    """Verdicts as they come in, counted; nothing else of them is kept."""

    def __init__(self, broken: Sequence[str] = ()) -> None:
        self.left = 0
        self.broken = list(broken)
        self._verdicts, self._reasons = Counter[str](), Counter[str]()

    @property
    def judged(self) -> int:
        return self._verdicts.total()

    def add(self, result: Any, bar: StageProgress | None = None, what: str = "") -> None:
        """One item's: what its task returned, the error that it ended with, or None if it was not begun."""
        if result is None:
            self.left += 1
        elif isinstance(result, BaseException):
            self.broken.append(what + in_words(result))
        else:
            self._verdicts[str(result["verdict"])] += 1
            if result["reason"]:
                self._reasons[str(result["reason"])] += 1
            if bar is not None:
                bar.advance(result)

    def summary(self, stage: Stage, done_before: int) -> StageSummary:
        """So far."""
        verdicts, reasons = dict(self._verdicts), dict(self._reasons)
        return StageSummary(stage.value, verdicts, reasons, done_before, self.broken, self.left)


def outcomes(future: PrefectFuture[Any], count: int = 1) -> list[Any]:
    """What a task run returned, item by item; ``count`` times its error, if it ended with one.

    Raises:
        LeaseLost: that was it.
    """
    try:
        result = future.result(raise_on_failure=False)
    except Exception as error:  # noqa: BLE001  (the worker of a cluster that had it has died, say)
        result = error
    if context := FlowRunContext.get():
        context.run_results.clear()  # which task's result went into which other: it would be kept to the end
    if isinstance(result, LeaseLost):
        raise result
    return list(result) if isinstance(result, list) else [result] * count


def ui_progress(stage: Stage, total: int) -> Callable[[int], None]:
    """A progress artifact that is updated in steps of two percent: an update costs the server 10 ms."""
    artifact: object = None
    if total:
        with courtesy("progress in the UI"):
            artifact = create_progress_artifact(progress=0.0, key=f"{stage.value}-progress")
    step, told = max(1, total // _STEPS), 0

    def tell(done: int) -> None:
        nonlocal artifact, told
        if isinstance(artifact, UUID) and (done >= told + step or done == total):
            known, artifact, told = artifact, None, done
            with courtesy("progress in the UI"):
                update_progress_artifact(known, progress=100.0 * done / total)
                artifact = known

    return tell
