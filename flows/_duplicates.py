"""When copies are told apart: after curate has judged, and before reconstruct, lest curate was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from data_catalog import CatalogError, LeaseHeld, StageEvent, Workspace
from flows._progress import say
from flows._stage import lease_owner
from flows._summary import StageSummary
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.types import Stage, Verdict
from tasks.duplicates import settle_duplicates


def settled(ws: Workspace, config: SageConfig, run: str, summary: StageSummary) -> StageSummary:
    """Settle the duplicates at the end of curate, whose lease is held; a failure counts as work undone."""
    try:
        _tell(settle_duplicates(ws, config.curate.duplicates, run))
    except (SageError, CatalogError, OSError) as error:
        return replace(summary, broken=[*summary.broken, f"duplicates: {error}"])
    return summary


def settled_before(ws: Workspace, config: SageConfig, run: str) -> None:
    """Settle the duplicates unless curate is under way, which will do it in its end.

    What is reconstructed in vain until then is left out of the shards.
    """
    try:
        with ws.catalog.lease(Stage.CURATE.value, lease_owner()):
            _tell(settle_duplicates(ws, config.curate.duplicates, run))
    except LeaseHeld:
        say("duplicates:", "left to the run of curate that is under way", "dim")
    except SageError as error:
        say("duplicates:", f"not settled: {error}", "yellow")


def _tell(changed: Sequence[StageEvent]) -> None:
    rejected = sum(event.verdict == Verdict.REJECTED.value for event in changed)
    if rejected:
        say(
            "duplicates:",
            f"{rejected} clips show what others show: sage items --reason duplicate",
            "cyan",
        )
    if taken_back := len(changed) - rejected:
        say("duplicates:", f"{taken_back} clips are no copies any more", "cyan")
