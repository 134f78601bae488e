"""Many items in one task run, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed
from prefect.tasks import Task

from data_catalog import LeaseLost

logger = logging.getLogger("sage.tasks")


@task(name="in-turn", task_run_name="{title}", cache_policy=NO_CACHE)
def in_turn(
    unit: Task[..., Any],
    calls: Sequence[dict[str, Any]],
    until: datetime | None,
    title: str,
) -> list[Any] | State[list[Any]]:
    """What the task ``unit`` gives for each of these arguments, in order.

    In place of an answer there is the error that a call ended with, or None for one that was not begun since
    the moment ``until`` had come. With an error among them the task run ends as Failed. ``title`` is what
    the run is called in the UI.

    Raises:
        LeaseLost: another runner has the stage by now; nothing more is begun.
    """
    answers = [_answer(unit, arguments, until) for arguments in calls]
    broken = sum(isinstance(answer, Exception) for answer in answers)
    if broken:
        return Failed(message=f"{broken} of {len(answers)} without a verdict", data=answers)
    return answers


def _answer(unit: Task[..., Any], arguments: dict[str, Any], until: datetime | None) -> Any:
    if until is not None and datetime.now(UTC) >= until:
        return None
    try:
        return unit.fn(**arguments)
    except LeaseLost:
        raise
    except Exception as error:
        logger.exception("%s broke off with %s", unit.name, arguments.get("item", "an item"))
        return error
