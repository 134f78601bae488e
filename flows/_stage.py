"""How every stage runs: plan from the catalog, work in parallel, tell the UI, end in an honest state."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture, as_completed
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task

from data_catalog import LeaseLost, Workspace
from flows._progress import StageProgress, in_words, say
from sage_core.types import Stage
from tasks._plan import Retry


@dataclass(frozen=True)
class Job:
    """One call of a stage's task."""

    task: Task[..., Any]
    arguments: dict[str, Any]
    items: int = 1


@dataclass(frozen=True)
class StageSummary:
    """How a stage ended: verdicts given now by kind and reason, items that had theirs before."""

    stage: str
    verdicts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    done_before: int = 0
    broken: list[str] = field(default_factory=list)
    """Work that ended without a verdict (the catalog could not be written, say), in words."""

    @property
    def judged(self) -> int:
        return sum(self.verdicts.values())

    @property
    def failed_share(self) -> float:
        return self.verdicts.get("failed", 0) / self.judged if self.judged else 0.0

    def within(self, max_failed_share: float) -> bool:
        return not self.broken and self.failed_share <= max_failed_share

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class StagesFailedError(Exception):
    """The result of a flow run that ends as Failed: how its stages ended, in words and figures."""

    def __init__(self, message: str, summaries: Sequence[StageSummary]) -> None:
        super().__init__(message)
        self.summaries = list(summaries)


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
    return Retry.FAILED if again and retry is Retry.NONE else retry


def lease_owner() -> str:
    """Who holds a stage's lease: flow run, host and process."""
    return f"{flow_run_id()}@{socket.gethostname()}:{os.getpid()}"


def task_runner(workers: int) -> ThreadPoolTaskRunner[Any]:
    """Threads are enough: the heavy work is in child processes."""
    return ThreadPoolTaskRunner(max_workers=workers)


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


def run_jobs(stage: Stage, jobs: Sequence[Job], *, workers: int, done_before: int) -> StageSummary:
    """Submit every job, at most ``workers`` at a time, and count the verdicts as they come in."""
    total = sum(job.items for job in jobs)
    results: list[dict[str, Any]] = []
    broken: list[str] = []
    with StageProgress(stage.value, total) as bar:
        tell = ui_progress(stage, total)
        with task_runner(workers) as runner:
            futures: list[PrefectFuture[Any]] = [
                runner.submit(job.task, job.arguments) for job in jobs
            ]
            for future in as_completed(futures):
                for result in _results(future, broken):
                    results.append(result)
                    bar.advance(result)
                tell(len(results))
    return summarised(stage, results, broken, done_before)


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


def conclude(ws: Workspace, summary: StageSummary, max_failed_share: float) -> State[StageSummary]:
    """Write the stage's artifacts for the UI and turn its summary into the flow run's final state."""
    with courtesy(f"summary of {summary.stage} in the UI"):
        _publish_artifacts(ws, summary)
    text = describe(summary)
    if summary.within(max_failed_share):
        return Completed(message=text, data=summary)
    return Failed(message=text, data=StagesFailedError(text, [summary]))


def describe(summary: StageSummary) -> str:
    """One line: what was judged, how, and what was done before."""
    if not summary.judged and not summary.broken:
        return f"{summary.stage}: nothing to do ({summary.done_before} done before)"
    told = [f"{n} {verdict}" for verdict, n in sorted(summary.verdicts.items())]
    if summary.broken:
        told.append("broke off" if not told else f"{len(summary.broken)} WITHOUT A VERDICT")
    return f"{summary.stage}: {', '.join(told)} ({summary.done_before} done before)"


def _results(future: PrefectFuture[Any], broken: list[str]) -> list[dict[str, Any]]:
    result = future.result(raise_on_failure=False)
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


def _publish_artifacts(ws: Workspace, summary: StageSummary) -> None:
    lines = [f"# {summary.stage}", "", describe(summary), ""]
    if summary.reasons:
        lines += ["| reason | items |", "| --- | ---: |"]
        lines += [f"| {reason} | {n} |" for reason, n in sorted(summary.reasons.items())]
    lines += [f"- {line}" for line in summary.broken]
    create_markdown_artifact("\n".join(lines), key=f"{summary.stage}-summary")
    failures = ws.catalog.latest(summary.stage, verdict="failed")
    if failures:
        rows = [
            {
                "item": e.item,
                "source": e.source,
                "reason": e.reason,
                "attempt": e.attempt,
                "message": e.message.split("\n")[0][:300],
                "again": f"sage {summary.stage} --workspace {ws.root} --retry failed --item {e.item}",
            }
            for e in failures[:500]
        ]
        create_table_artifact(rows, key=f"{summary.stage}-failures")
