"""A unit of work ends as a verdict in the catalog, whatever happens on the way."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from data_catalog import CatalogError, StageEvent, Workspace
from sage_core import __version__
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.sandbox import metered
from sage_core.types import Artifact, Figure, Judgement, Reason, Stage, Verdict
from tasks._log import set_up, tell_verdict

set_up()
logger = logging.getLogger("sage.tasks")


@dataclass(frozen=True)
class ChildOutcome:
    """What became of a part of the item, such as one clip of a video."""

    item: str
    judgement: Judgement
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """What became of an item: judgement, what was written, small facts for the next stage, its parts."""

    judgement: Judgement
    artifacts: dict[str, Artifact] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    children: list[ChildOutcome] = field(default_factory=list)


@dataclass(frozen=True)
class Subject:
    """Whom a verdict is on, and from which inputs it was reached."""

    item: str
    source: str
    parent: str | None
    input_hash: str


@dataclass(frozen=True)
class Attempt:
    """What became of an item, and what it took to find out."""

    outcome: Outcome
    seconds: float
    cpu_seconds: float
    peak_mb: float


def judge(
    ws: Workspace,
    *,
    item: str,
    stage: Stage,
    source: str,
    parent: str | None,
    config: SageConfig,
    input_hash: str,
    run: str,
    work: Callable[[], Outcome],
) -> StageEvent:
    """Do the work and append its verdict, with those of its children, to the catalog in one commit.

    The children's ids are kept in the item's ``details["children"]``. Returns the item's event.
    """
    done = attempt(item, stage, work)
    subject = Subject(item, source, parent, input_hash)
    return record(ws, [(subject, done)], stage=stage, config=config, run=run)[0]


def attempt(item: str, stage: Stage, work: Callable[[], Outcome]) -> Attempt:
    """Do the work, whatever happens on the way, and measure what it used.

    A :class:`SageError` becomes the verdict *failed* with its own reason, a full disk ``disk_full``
    (retryable), anything else ``internal_error`` (retryable, traceback in the log).
    """
    started = time.monotonic()
    with metered() as usage:
        outcome = _attempt(item, stage, work)
    seconds = round(time.monotonic() - started, 3)
    return Attempt(outcome, seconds, round(usage.cpu_s, 3), usage.peak_mb)


def record(
    ws: Workspace,
    attempts: Sequence[tuple[Subject, Attempt]],
    *,
    stage: Stage,
    config: SageConfig,
    run: str,
) -> list[StageEvent]:
    """Append the verdicts on items that were done together, and on their children, in one commit.

    Returns the items' own events, in order.
    """
    common = {
        "stage": stage.value,
        "config_hash": config.stage_hash(stage),
        "code_version": __version__,
        "sequence": 0,  # given by the catalog
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run,
    }
    own, children = [], []
    for subject, done in attempts:
        shared = {
            **common,
            "source": subject.source,
            "input_hash": subject.input_hash,
            "seconds": done.seconds,
            "cpu_seconds": done.cpu_seconds,
        }
        outcome = done.outcome
        details = {**outcome.details, "peak_mb": round(done.peak_mb)}
        if outcome.children:
            details["children"] = [child.item for child in outcome.children]
        whole = ChildOutcome(subject.item, outcome.judgement, outcome.artifacts, details)
        own.append(_event(ws, whole, subject.parent, shared))
        children += [_event(ws, child, subject.item, shared) for child in outcome.children]
    recorded = ws.catalog.append([*own, *children])
    for event in recorded:
        tell_verdict(event)
    return recorded[: len(own)]


def judgement_of(event: StageEvent) -> Judgement:
    """The judgement that an event records."""
    return Judgement(
        Verdict(event.verdict),
        Reason(event.reason) if event.reason else None,
        event.message,
        {name: Figure(**figure) for name, figure in event.figures.items()},
        event.retryable,
    )


def brief(event: StageEvent) -> dict[str, Any]:
    """What a task returns to its flow: small, and enough for a line of progress."""
    return {
        "item": event.item,
        "verdict": event.verdict,
        "reason": event.reason,
        "message": event.message,
        "seconds": event.seconds,
    }


def _attempt(item: str, stage: Stage, work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except (SageError, CatalogError) as error:
        return Outcome(error.judgement())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = (
                f"{stage.value} of {item}: the disk is full (its last 4 MiB are kept for verdicts); "
                "free some space and run again with --retry failed"
            )
            return Outcome(Judgement.fail(Reason.DISK_FULL, message, retryable=True))
        return _unforeseen(item, stage, error)
    except Exception as error:  # noqa: BLE001  (one bad item never ends a run)
        return _unforeseen(item, stage, error)


def _unforeseen(item: str, stage: Stage, error: Exception) -> Outcome:
    logger.exception("%s of %s failed in a way that was not foreseen", stage.value, item)
    message = f"{type(error).__name__}: {error}"
    return Outcome(Judgement.fail(Reason.INTERNAL_ERROR, message, retryable=True))


def _event(
    ws: Workspace, what: ChildOutcome, parent: str | None, common: dict[str, Any]
) -> StageEvent:
    judgement = what.judgement
    reason = judgement.reason.value if judgement.reason else None
    retryable = judgement.verdict is Verdict.FAILED and judgement.retryable
    return StageEvent(
        item=what.item,
        parent=parent,
        verdict=judgement.verdict.value,
        reason=reason,
        message=judgement.message,
        figures={name: asdict(figure) for name, figure in judgement.figures.items()},
        retryable=retryable,
        attempt=ws.catalog.next_attempt(what.item, common["stage"]),
        artifacts=what.artifacts,
        details=what.details,
        **common,
    )
