"""What a workspace has done, in Prometheus' text format: for node_exporter's textfile collector, and HTTP.

All of it comes from the catalog's latest view, so that every process that asks gets the same and none has
to keep count.
"""

from __future__ import annotations

import shutil
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import fsum

from data_catalog import StageEvent, Workspace
from sage_core.types import Artifact, Stage, Verdict
from tasks._plan import accepted_clips, accepted_videos, reconstructed_clips
from tasks._rest import noted

METRICS_FILE = "metrics/sage.prom"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_HOUR_S = 3600.0


@dataclass(frozen=True)
class Metric:
    """One metric with its samples: labels and value."""

    name: str
    kind: str
    help: str
    samples: list[tuple[dict[str, str], float]] = field(default_factory=list)

    def text(self) -> str:
        head = f"# HELP {self.name} {self.help}\n# TYPE {self.name} {self.kind}\n"
        return head + "".join(
            f"{self.name}{_labels(on)} {value:.15g}\n" for on, value in self.samples
        )


def write_metrics(ws: Workspace) -> Artifact:
    """Write ``metrics/sage.prom`` in one step: a collector never reads half of it."""
    return ws.store.write_bytes(METRICS_FILE, exposition(ws).encode())


def exposition(ws: Workspace, now: float | None = None) -> str:
    """The workspace's metrics as text."""
    at = time.time() if now is None else now
    tallies = {stage: _tally(ws, stage) for stage in Stage}
    metrics = [*_verdicts(tallies), *_pace(tallies, at), _bytes(tallies), *_queues(ws, at)]
    free: list[tuple[dict[str, str], float]] = [({}, float(shutil.disk_usage(ws.root).free))]
    metrics.append(Metric("sage_disk_free_bytes", "gauge", "Free on the workspace's disk.", free))
    return "".join(metric.text() for metric in metrics)


@dataclass(frozen=True)
class _Tally:
    """A stage's latest verdicts, counted.

    Attributes:
        attempts: of all items. They count from 1 for each: that many verdicts were ever given.
        verdicts: how many items have which.
        reasons: how often each reason, by verdict.
        seconds: that the last attempts took.
        times: of the newest verdict and those in the hour before it, in seconds of Unix time, sorted.
        bytes: of the files that they name, each once: a shard is an artifact of all its clips.
    """

    attempts: int
    verdicts: dict[str, int]
    reasons: dict[str, dict[str, int]]
    seconds: float
    times: list[float]
    bytes: int


def _tally(ws: Workspace, stage: Stage) -> _Tally:
    """Counted anew when the stage has given a verdict since: each stage of a night asks for all of them."""
    note = noted(ws, f"metrics-{stage.value}", stage, first=stage)
    if note.value is None:
        tally = _counted(ws.catalog.each(stage.value))
        note.keep(asdict(tally))
        return tally
    return _Tally(**note.value)


def _counted(events: Iterable[StageEvent]) -> _Tally:
    attempts, verdicts, reasons = 0, Counter[str](), Counter[tuple[str, str]]()
    seconds, times = array("d"), array("d")
    known, size = set[int](), 0
    for event in events:
        attempts += event.attempt
        verdicts[event.verdict] += 1
        reasons[event.verdict, str(event.reason)] += 1
        seconds.append(event.seconds)
        times.append(_stamp(event))
        for artifact in event.artifacts.values():
            name = hash(artifact.path)  # of a million paths the hashes are enough
            size += 0 if name in known else artifact.bytes
            known.add(name)
    latest = sorted(times)
    return _Tally(
        attempts,
        dict(verdicts),
        {
            verdict.value: {reason: n for (v, reason), n in reasons.items() if v == verdict.value}
            for verdict in Verdict
        },
        fsum(seconds),
        latest[bisect_left(latest, latest[-1] - _HOUR_S) :] if latest else [],
        size,
    )


_Tallies = dict[Stage, _Tally]


def _verdicts(tallies: _Tallies) -> Iterator[Metric]:
    given = [({"stage": stage.value}, float(one.attempts)) for stage, one in tallies.items()]
    yield Metric("sage_verdicts_total", "counter", "Verdicts given since the beginning.", given)
    items = [
        (
            {"stage": stage.value, "verdict": verdict.value},
            float(one.verdicts.get(verdict.value, 0)),
        )
        for stage, one in tallies.items()
        for verdict in Verdict
    ]
    yield Metric("sage_items", "gauge", "Items by the verdict that they have.", items)
    for verdict, name in ((Verdict.FAILED, "failures"), (Verdict.REJECTED, "rejections")):
        reasons = [
            ({"stage": stage.value, "reason": reason}, float(count))
            for stage, one in tallies.items()
            for reason, count in sorted(one.reasons[verdict.value].items())
        ]
        yield Metric(
            f"sage_{name}", "gauge", f"Items that are {verdict.value}, by reason.", reasons
        )


def _pace(tallies: _Tallies, now: float) -> Iterator[Metric]:
    recent, seconds, last = [], [], []
    for stage, one in tallies.items():
        before = bisect_left(one.times, now - _HOUR_S)
        recent.append(({"stage": stage.value}, float(len(one.times) - before)))
        seconds.append(({"stage": stage.value}, one.seconds))
        last += [({"stage": stage.value}, one.times[-1])] if one.times else []
    yield Metric("sage_items_last_hour", "gauge", "Items judged within the last hour.", recent)
    yield Metric(
        "sage_item_seconds", "gauge", "Seconds that the items' last attempts took.", seconds
    )
    yield Metric(
        "sage_last_verdict_timestamp_seconds", "gauge", "When the last one was given.", last
    )


def _bytes(tallies: _Tallies) -> Metric:
    samples = [({"stage": stage.value}, float(one.bytes)) for stage, one in tallies.items()]
    return Metric("sage_artifact_bytes", "gauge", "What the stage's verdicts name.", samples)


def _queues(ws: Workspace, now: float) -> Iterator[Metric]:
    """Items that a stage has not judged yet, and since when the oldest waits."""
    ready = (
        (Stage.CURATE, Stage.ACQUIRE, accepted_videos),
        (Stage.RECONSTRUCT, Stage.CURATE, accepted_clips),
        (Stage.ASSEMBLE, Stage.RECONSTRUCT, reconstructed_clips),
    )
    waiting, ages = [], []
    for stage, before, items in ready:
        count, oldest = _queue(ws, stage, before, items)
        waiting.append(({"stage": stage.value}, float(count)))
        ages.append(({"stage": stage.value}, max(0.0, now - oldest) if count else 0.0))
    yield Metric("sage_queue_items", "gauge", "Items that wait for their first verdict.", waiting)
    yield Metric("sage_queue_age_seconds", "gauge", "How long the oldest of them waits.", ages)


def _queue(
    ws: Workspace, stage: Stage, before: Stage, items: Callable[[Workspace], list[str]]
) -> tuple[int, float]:
    """How many wait for a stage, and when the oldest was made ready, in seconds of Unix time."""
    note = noted(ws, f"queue-{stage.value}", stage)
    if note.value is not None:
        count, oldest = note.value
        return count, oldest
    with ws.catalog.still():
        queue = [i for i in items(ws) if ws.catalog.find(i, stage.value) is None]
        made = (ws.catalog.find(item, before.value) for item in queue)
        oldest = min((_stamp(event) for event in made if event), default=0.0)
    note.keep([len(queue), oldest])
    return len(queue), oldest


def _stamp(event: StageEvent) -> float:
    when = event.time
    return datetime.fromisoformat(when).timestamp() if when else 0.0


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
