"""A second runner of the same work ends at once, as Cancelled and in words: that is no failure."""

from __future__ import annotations

import functools
import inspect
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

    # Prefect looks the names of types up in the module of the function that it is given: give it the types.
    signature = inspect.signature(flow, eval_str=True)
    polite.__signature__ = signature  # type: ignore[attr-defined]
    polite.__annotations__ = inspect.get_annotations(flow, eval_str=True)
    return polite
