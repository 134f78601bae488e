"""Many items in one task run, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task

from data_catalog import LeaseLost


@task(name="in-turn", task_run_name="{title}", cache_policy=NO_CACHE)
def in_turn(
    unit: Task[..., Any],
    calls: Sequence[dict[str, Any]],
    until: datetime | None,
    title: str,
) -> list[Any]:
    """What the task ``unit`` gives for each of these arguments, in order.

    In place of an answer there is the error that a call ended with, or None for one that was not begun since
    the moment ``until`` had come. ``title`` is what the run is called in the UI.

    Raises:
        LeaseLost: another runner has the stage by now; nothing more is begun.
    """
    return [_answer(unit, arguments, until) for arguments in calls]


def _answer(unit: Task[..., Any], arguments: dict[str, Any], until: datetime | None) -> Any:
    if until is not None and datetime.now(UTC) >= until:
        return None
    try:
        return unit.fn(**arguments)
    except LeaseLost:
        raise
    except Exception as error:  # noqa: BLE001  (its neighbours still get their verdicts)
        return error
