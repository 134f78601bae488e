"""``metrics.jsonl``: what a run says of itself, one JSON line a step."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sage_core.training.files import write_text

CIRCUMSTANCES = ("samples_per_s", "data_wait_share", "memory_mb", "seconds")
"""Fields of a line that differ when the same step is run again."""


class MetricsLog:
    """An append-only file of JSON lines that a resumed run continues where its checkpoint stands."""

    def __init__(self, path: Path, next_step: int) -> None:
        """Open ``path`` and drop the lines from ``next_step`` on: those steps will run again."""
        kept = [line for line in read_metrics(path) if line["step"] < next_step]
        write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
        self._file = path.open("a")

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line, seen by readers at once."""
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a ``metrics.jsonl``; a line that a kill cut short is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def write_losses(metrics: Path, losses: Path) -> None:
    """A copy of a ``metrics.jsonl`` without speed and memory: equal for equal runs."""
    lines = [
        {name: value for name, value in line.items() if name not in CIRCUMSTANCES}
        for line in read_metrics(metrics)
    ]
    write_text(losses, "".join(json.dumps(line) + "\n" for line in lines))


def loss_figures(lines: Iterable[Mapping[str, Any]], window: int = 10) -> dict[str, Any]:
    """First and last value of each loss term: means over the first and last ``window`` that had it."""
    series: dict[str, list[float]] = {}
    for line in lines:
        for name, value in line["terms"].items():
            series.setdefault(name, []).append(value)
    return {
        name: {
            "first": sum(values[:window]) / len(values[:window]),
            "last": sum(values[-window:]) / len(values[-window:]),
        }
        for name, values in series.items()
    }
