"""What a workspace has done, in Prometheus' text format: for node_exporter's textfile collector, and HTTP.

All of it comes from the catalog's latest view, so that every process that asks gets the same and none has
to keep count.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from data_catalog import StageEvent, Workspace
from sage_core.types import Artifact, Stage, Verdict
from tasks._plan import accepted_clips, accepted_videos, reconstructed_clips

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
    events = {stage: ws.catalog.latest(stage.value) for stage in Stage}
    metrics = [*_verdicts(events), *_pace(events, at), _bytes(events), *_queues(ws, events, at)]
    free: list[tuple[dict[str, str], float]] = [({}, float(shutil.disk_usage(ws.root).free))]
    metrics.append(Metric("sage_disk_free_bytes", "gauge", "Free on the workspace's disk.", free))
    return "".join(metric.text() for metric in metrics)


_Events = dict[Stage, list[StageEvent]]


def _verdicts(events: _Events) -> Iterator[Metric]:
    """Attempts count from 1 for each item and stage: their sum is the number of verdicts ever given."""
    given = [
        ({"stage": s.value}, float(sum(e.attempt for e in found))) for s, found in events.items()
    ]
    yield Metric("sage_verdicts_total", "counter", "Verdicts given since the beginning.", given)
    items = [
        ({"stage": stage.value, "verdict": verdict.value}, float(count))
        for stage, found in events.items()
        for verdict, count in _counted(found).items()
    ]
    yield Metric("sage_items", "gauge", "Items by the verdict that they have.", items)
    for verdict, name in ((Verdict.FAILED, "failures"), (Verdict.REJECTED, "rejections")):
        reasons = [
            ({"stage": stage.value, "reason": reason}, float(count))
            for stage, found in events.items()
            for reason, count in sorted(_reasons(found, verdict).items())
        ]
        yield Metric(
            f"sage_{name}", "gauge", f"Items that are {verdict.value}, by reason.", reasons
        )


def _counted(events: Iterable[StageEvent]) -> dict[Verdict, int]:
    counts = Counter(event.verdict for event in events)
    return {verdict: counts[verdict.value] for verdict in Verdict}


def _reasons(events: Iterable[StageEvent], verdict: Verdict) -> Counter[str]:
    return Counter(str(e.reason) for e in events if e.verdict == verdict.value)


def _pace(events: _Events, now: float) -> Iterator[Metric]:
    recent, seconds, last = [], [], []
    for stage, found in events.items():
        times = [_stamp(e) for e in found]
        recent.append(({"stage": stage.value}, float(sum(now - t <= _HOUR_S for t in times))))
        seconds.append(({"stage": stage.value}, sum(e.seconds for e in found)))
        last += [({"stage": stage.value}, max(times))] if times else []
    yield Metric("sage_items_last_hour", "gauge", "Items judged within the last hour.", recent)
    yield Metric(
        "sage_item_seconds", "gauge", "Seconds that the items' last attempts took.", seconds
    )
    yield Metric(
        "sage_last_verdict_timestamp_seconds", "gauge", "When the last one was given.", last
    )


def _bytes(events: _Events) -> Metric:
    """Each file once: a shard is an artifact of all its clips."""
    samples = []
    for stage, found in events.items():
        sizes = {a.path: a.bytes for e in found for a in e.artifacts.values()}
        samples.append(({"stage": stage.value}, float(sum(sizes.values()))))
    return Metric("sage_artifact_bytes", "gauge", "What the stage's verdicts name.", samples)


def _queues(ws: Workspace, events: _Events, now: float) -> Iterator[Metric]:
    """Items that a stage has not judged yet, and since when the oldest waits."""
    ready = (
        (Stage.CURATE, Stage.ACQUIRE, accepted_videos(ws)),
        (Stage.RECONSTRUCT, Stage.CURATE, accepted_clips(ws)),
        (Stage.ASSEMBLE, Stage.RECONSTRUCT, reconstructed_clips(ws)),
    )
    waiting, ages = [], []
    for stage, before, items in ready:
        judged = {e.item for e in events[stage]}
        since = {e.item: _stamp(e) for e in events[before]}
        queue = [since[item] for item in items if item not in judged]
        waiting.append(({"stage": stage.value}, float(len(queue))))
        ages.append(({"stage": stage.value}, max(0.0, now - min(queue)) if queue else 0.0))
    yield Metric("sage_queue_items", "gauge", "Items that wait for their first verdict.", waiting)
    yield Metric("sage_queue_age_seconds", "gauge", "How long the oldest of them waits.", ages)


def _stamp(event: StageEvent) -> float:
    return datetime.fromisoformat(event.time).timestamp() if event.time else 0.0


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return "{" + ",".join(pairs) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
