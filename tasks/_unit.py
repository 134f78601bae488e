"""A unit of work ends as a verdict in the catalog, whatever happens on the way."""

from __future__ import annotations

import errno
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from data_catalog import StageEvent, Workspace
from sage_core import __version__
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.sandbox import metered
from sage_core.types import Artifact, Judgement, Reason, Stage, Verdict

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

    A :class:`SageError` becomes the verdict *failed* with its own reason, a full disk ``disk_full``
    (retryable), anything else ``internal_error`` (retryable, traceback in the log). The children's ids
    are kept in the item's ``details["children"]``. Returns the item's event.
    """
    started = time.monotonic()
    with metered() as usage:
        outcome = _attempt(item, stage, work)
    details = dict(outcome.details)
    details["peak_mb"] = round(usage.peak_mb)
    if outcome.children:
        details["children"] = [child.item for child in outcome.children]
    common = {
        "stage": stage.value,
        "source": source,
        "config_hash": config.stage_hash(stage),
        "input_hash": input_hash,
        "code_version": __version__,
        "sequence": 0,  # given by the catalog
        "seconds": round(time.monotonic() - started, 3),
        "cpu_seconds": round(usage.cpu_s, 3),
        "host": socket.gethostname(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "run": run,
    }
    own = _event(ws, item, parent, outcome.judgement, outcome.artifacts, details, common)
    events = [own] + [
        _event(ws, c.item, item, c.judgement, c.artifacts, c.details, common)
        for c in outcome.children
    ]
    ws.catalog.append(events)
    return own


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
    except SageError as error:
        return Outcome(error.judgement())
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            message = f"{stage.value} of {item}: the disk is full; free some space and run again"
            return Outcome(Judgement.fail(Reason.DISK_FULL, message, retryable=True))
        return _unforeseen(item, stage, error)
    except Exception as error:  # noqa: BLE001  (one bad item never ends a run)
        return _unforeseen(item, stage, error)


def _unforeseen(item: str, stage: Stage, error: Exception) -> Outcome:
    logger.exception("%s of %s failed in a way that was not foreseen", stage.value, item)
    message = f"{type(error).__name__}: {error}"
    return Outcome(Judgement.fail(Reason.INTERNAL_ERROR, message, retryable=True))


def _event(
    ws: Workspace,
    item: str,
    parent: str | None,
    judgement: Judgement,
    artifacts: dict[str, Artifact],
    details: dict[str, Any],
    common: dict[str, Any],
) -> StageEvent:
    reason = judgement.reason.value if judgement.reason else None
    retryable = judgement.verdict is Verdict.FAILED and judgement.retryable
    return StageEvent(
        item=item,
        parent=parent,
        verdict=judgement.verdict.value,
        reason=reason,
        message=judgement.message,
        figures={name: asdict(figure) for name, figure in judgement.figures.items()},
        retryable=retryable,
        attempt=ws.catalog.next_attempt(item, common["stage"]),
        artifacts=artifacts,
        details=details,
        **common,
    )
