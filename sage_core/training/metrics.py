"""What a run says of itself: one JSON line a step in ``metrics.jsonl``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sage_core.training.ranks import Ranks


@dataclass
class TermSums:
    """Loss terms summed over the samples of a step, each with the number of samples that had it."""

    names: tuple[str, ...]
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, terms: Mapping[str, float]) -> None:
        """Count one sample's terms."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self, ranks: Ranks) -> dict[str, float]:
        """Mean of each term over the samples of all ranks that had it."""
        sums = ranks.sums([self.sums.get(name, 0.0) for name in self.names])
        counts = ranks.sums([float(self.counts.get(name, 0)) for name in self.names])
        return {
            name: total / count
            for name, total, count in zip(self.names, sums, counts, strict=True)
            if count
        }


class MetricsLog:
    """An append-only file of JSON lines that a resumed run continues where its checkpoint stands."""

    def __init__(self, path: Path, next_step: int) -> None:
        """Open ``path`` and drop the lines from ``next_step`` on: those steps will run again."""
        kept = [line for line in read_metrics(path) if line["step"] < next_step]
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        partial.rename(path)
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


def memory_mb(device: torch.device) -> float:
    """Peak memory: of the device on CUDA, of this process (resident) on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
