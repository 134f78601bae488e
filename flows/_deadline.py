"""When a run begins nothing more."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sage_core.config import SageConfig


@dataclass(frozen=True)
class Deadline:
    """A moment after which no further item is begun; ``at`` is None for never."""

    at: datetime | None = None

    @classmethod
    def of(cls, config: SageConfig, until: datetime | None = None) -> Deadline:
        """The earlier of ``until`` (in this machine's time zone if it has none) and the budget's end."""
        hours = config.run.time_budget_h
        ends = [until.astimezone(UTC)] if until is not None else []
        if hours is not None:
            ends.append(datetime.now(UTC) + timedelta(hours=hours))
        return cls(min(ends, default=None))

    @property
    def has_passed(self) -> bool:
        return self.at is not None and datetime.now(UTC) >= self.at
