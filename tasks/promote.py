"""The gate: a measured model becomes ``latest``, or its evaluation is rejected with the figures that say why.

Nothing is measured here: the means that `evaluate` stored are judged by the thresholds of ``promote``. What
the gate says is one more event of the run at evaluate, like the one before it but for verdict and
figures. Killed between that and the pointer's move, the next run of evaluate finishes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog import StageEvent, Workspace
from sage_core.config import SageConfig
from sage_core.evaluation.gate import judge_promotion, lacking
from sage_core.types import Stage, Verdict
from tasks.latest import Promoted, history, make_latest, promotable


@dataclass(frozen=True)
class Decision:
    """What the gate said of one run; ``event`` is its evaluation as it stands now."""

    event: StageEvent
    promoted: bool
    why: str


@task(name="promote", cache_policy=NO_CACHE)
def promote(workspace: str, config: SageConfig, run: str) -> list[Decision]:
    """Judge the measured runs of the current settings; hold the lease of evaluate meanwhile.

    Returns:
        Decisions on runs that were not decided before, or are decided otherwise now.
    """
    ws = Workspace.open(workspace)
    if not config.promote.enabled:
        return []
    current = config.stage_hash(Stage.ADAPT)
    pairs = [pair for pair in promotable(ws) if pair[0].config_hash == current]
    decisions = []
    for at, (adapted, measured) in enumerate(pairs):
        if (told := lacking(measured.details.get("sets", []))) is not None:
            if at == len(pairs) - 1:  # of older ones it was said in their time
                decisions.append(Decision(measured, False, told))
            continue
        judged = _judged(ws, measured, config, run)
        first = not any(name.startswith("gate ") for name in measured.figures)
        promoted = judged.verdict == Verdict.ACCEPTED.value and _promoted(
            ws, adapted, judged, first
        )
        if promoted or judged.verdict != measured.verdict:
            decisions.append(Decision(judged, promoted, judged.message))
    return decisions


def _judged(ws: Workspace, measured: StageEvent, config: SageConfig, run: str) -> StageEvent:
    """The evaluation with the gate's verdict: the same event if it says so already, else a new one."""
    judgement = judge_promotion(measured.details["sets"], config.promote)
    kept = {name: f for name, f in measured.figures.items() if not name.startswith("gate ")}
    gate = {name: asdict(figure) for name, figure in judgement.figures.items()}
    reason = judgement.reason.value if judgement.reason else None
    said = replace(
        measured,
        verdict=judgement.verdict.value,
        reason=reason,
        message=judgement.message,
        figures={**kept, **gate},
    )
    if said == measured:
        return measured
    again = replace(
        said,
        attempt=measured.attempt + 1,
        sequence=0,  # given by the catalog
        seconds=0.0,
        cpu_seconds=0.0,
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        run=run,
    )
    return ws.catalog.append([again])[0]


def _promoted(ws: Workspace, adapted: StageEvent, judged: StageEvent, first: bool) -> bool:
    """Make the run latest, unless it was before or, where it is not judged ``first``, a younger one is."""
    entries = history(ws)
    if any(entry.sha256 == adapted.artifacts["checkpoint"].sha256 for entry in entries):
        return False
    head = ws.catalog.find(entries[0].run, Stage.ADAPT.value) if entries else None
    if not first and head is not None and head.time > adapted.time:
        return False
    figures = {name: f for name, f in judged.figures.items() if name.startswith("gate ")}
    make_latest(ws, Promoted.of(adapted, figures))
    return True


def said(decision: Decision) -> str:
    """A decision in one line."""
    run = decision.event.item
    if decision.promoted:
        return f"{run} is latest now"
    if decision.event.verdict == Verdict.REJECTED.value:
        return f"{run} is not latest: {decision.why}"
    if decision.why:
        return f"{run} cannot be judged: {decision.why}"
    return f"{run} passes, and a younger run is latest"


def gate_rows(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """What the gate compared, a row a run and figure."""
    return [
        {
            "run": decision.event.item,
            "figure": name.removeprefix("gate "),
            "adapted": figure["value"],
            "at most": figure["threshold"],
            "fits": "yes" if float(figure["value"]) <= float(figure["threshold"]) else "NO",
        }
        for decision in decisions
        for name, figure in decision.event.figures.items()
        if name.startswith("gate ")
    ]
