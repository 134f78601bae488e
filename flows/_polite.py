"""A second runner of the same work ends at once, as Cancelled and in words: that is no failure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from data_catalog import LeaseHeld

P = ParamSpec("P")
R = TypeVar("R")


def refusing(flow: Callable[P, State[R]]) -> Callable[P, State[R]]:
    """Where another runner holds the lease, the flow run ends as Cancelled; its message names it."""

    @functools.wraps(flow)
    def polite(*args: P.args, **kwargs: P.kwargs) -> State[R]:
        try:
            return flow(*args, **kwargs)
        except LeaseHeld as held:
            return Cancelled(message=f"refused, nothing was done: {held}", data=held)

    return polite
