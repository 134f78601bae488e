"""How a stage ended, in figures and in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

COMPLETED, WITH_FAILURES, OUT_OF_TIME = "Completed", "CompletedWithFailures", "OutOfTime"
"""Names of the state of a flow run that completed; Prefect's events of it are called by them, too."""


@dataclass(frozen=True)
class StageSummary:
    """How a stage ended: verdicts given now by kind and reason, items that had theirs before."""

    stage: str
    verdicts: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)
    done_before: int = 0
    broken: list[str] = field(default_factory=list)
    """Work that ended without a verdict (the catalog could not be written, say), in words."""
    left: int = 0
    """Items that were not begun because the time was up."""
    notes: list[str] = field(default_factory=list)
    """What people should know of it: why nothing was begun, say."""
    snapshot: str | None = None
    """Id of the list of shards that assemble froze."""
    must_stop: bool = False
    """Whether another runner has taken this one's place, so that no further stage may begin."""

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


def describe(summary: StageSummary) -> str:
    """One line: what was judged, how, what was done before, what is left."""
    told = [f"{n} {verdict}" for verdict, n in sorted(summary.verdicts.items())]
    if summary.broken:
        told.append("broke off" if not told else f"{len(summary.broken)} WITHOUT A VERDICT")
    if summary.left:
        told.append(f"{summary.left} LEFT, the time is up")
    text = (
        f"{summary.stage}: {', '.join(told) or 'nothing to do'} ({summary.done_before} done before)"
    )
    return "; ".join([text, *summary.notes])
