"""What a run says of itself: ``metrics.jsonl``, one JSON line a step; pictures; TensorBoard if asked for."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sage_core.training.files import write_bytes, write_text

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sage_core.training.board import Board

CIRCUMSTANCES = ("samples_per_s", "mfu", "data_wait_share", "memory_mb", "seconds")
"""Fields of a line that differ when the same step is run again."""
_TOLD_EVERY_S = 10.0
logger = logging.getLogger("sage.training")


class Journal:
    """All that is written while a run trains, besides checkpoints."""

    def __init__(self, folder: Path, next_step: int, *, tensorboard: bool = False) -> None:
        """Go on where a checkpoint stands; what was written of ``next_step`` and later will come again.

        Raises:
            ConfigError: TensorBoard asked for, but not installed.
        """
        self._renders = folder / "renders"
        self._log = MetricsLog(folder / "metrics.jsonl", next_step)
        self._board = _board(folder / "tensorboard", next_step) if tensorboard else None
        self._told = 0.0

    def write(self, line: Mapping[str, Any]) -> None:
        """Keep one step's metrics, and log what they come to now and then."""
        self._log.write(line)
        if self._board:
            self._board.write(line)
        if time.monotonic() - self._told > _TOLD_EVERY_S:
            self._told = time.monotonic()
            terms = ", ".join(f"{name} {value:.4g}" for name, value in line["terms"].items())
            logger.info("step %d of %d: %s", line["step"] + 1, line["steps"], terms or "skipped")

    def picture(self, steps: int, image: NDArray[np.uint8]) -> None:
        """Keep a picture, RGB [H, W, 3], of the model after so many steps."""
        import cv2

        done, png = cv2.imencode(".png", image[..., ::-1])
        assert done
        self._renders.mkdir(exist_ok=True)
        write_bytes(self._renders / f"step_{steps:08d}.png", png.tobytes())
        if self._board:
            self._board.picture(steps, image)

    def close(self) -> None:
        """Close the files."""
        self._log.close()
        if self._board:
            self._board.close()


def _board(folder: Path, next_step: int) -> Board:
    from sage_core.training.board import Board

    return Board(folder, next_step)


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
