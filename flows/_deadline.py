"""When a run begins nothing more."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sage_core.config import SageConfig


@dataclass(frozen=True)
class Deadline:
    """A moment after which no further item is begun: the earlier of two, where there are any.

    Attributes:
        until: a moment by the wall clock.
        budget_end_s: the end of a budget, in seconds of a clock that nobody sets.
    """

    until: datetime | None = None
    budget_end_s: float | None = None

    @classmethod
    def of(cls, config: SageConfig, until: datetime | None = None) -> Deadline:
        """``until`` (in this machine's time zone if it has none), and the budget, which begins now."""
        hours = config.run.time_budget_h
        end = None if hours is None else _now_s() + hours * 3600
        return cls(until.astimezone(UTC) if until is not None else None, end)

    @property
    def at(self) -> datetime | None:
        """The moment by the wall clock as it is set now; None for never."""
        ends = [] if self.until is None else [self.until]
        if self.budget_end_s is not None:
            ends.append(datetime.now(UTC) + timedelta(seconds=self.budget_end_s - _now_s()))
        return min(ends, default=None)

    @property
    def has_passed(self) -> bool:
        return (self.until is not None and datetime.now(UTC) >= self.until) or (
            self.budget_end_s is not None and _now_s() >= self.budget_end_s
        )


def _now_s() -> float:
    """By a clock that goes on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
