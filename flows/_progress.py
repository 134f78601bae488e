"""Progress on the terminal: one bar a stage, a line for each verdict that is not an acceptance."""

from __future__ import annotations

import errno
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from data_catalog import CatalogError
from sage_core.errors import SageError

console = Console(stderr=True)

STYLE = {"accepted": "green", "rejected": "yellow", "failed": "red"}


def literal(text: object, style: str = "") -> Text:
    """Text that a terminal shows and does not obey: no markup, no escape sequence, one line."""
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return Text("".join(shown), style)


def in_words(error: BaseException) -> str:
    """What an error that left no verdict says to people."""
    if isinstance(error, SageError | CatalogError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full: free some space and run again"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    # Prefect puts the server's whole answer behind this.
    return f"{type(error).__name__}: {str(error).partition(' - Response')[0]}"


def say(head: str, text: object, style: str = "red") -> None:
    """Print ``head`` in a colour, and a text of any origin after it, as it is."""
    lines = Text("\n").join(literal(line) for line in str(text).splitlines())
    console.print(Text.assemble((head, style), " ", lines), soft_wrap=True)


class StageProgress:
    """Counts verdicts as they come; use as a context manager."""

    def __init__(self, stage: str, total: int) -> None:
        self.counts = dict.fromkeys(STYLE, 0)
        self._bar = Progress(
            TextColumn("[bold]{task.description:<11}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[verdicts]}"),
            TimeElapsedColumn(),
            console=console,
            disable=total == 0,
        )
        self._task = self._bar.add_task(stage, total=total, verdicts="")

    def __enter__(self) -> StageProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def advance(self, result: dict[str, Any]) -> None:
        """Count one verdict (``item``, ``verdict``, ``reason``, ``message``)."""
        verdict = str(result["verdict"])
        self.counts[verdict] += 1
        if verdict != "accepted":
            self._bar.console.print(_told(result))
        shown = [f"[{STYLE[v]}]{n} {v}[/]" for v, n in self.counts.items() if n]
        self._bar.update(self._task, advance=1, verdicts=" ".join(shown))


class TrainingProgress:
    """Steps and losses of a training run as they come; use as a context manager."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("[bold]adapt      "),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[losses]}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("adapt", total=None, losses="starting the trainer")

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def step(self, line: dict[str, Any]) -> None:
        """Show one line of the run's metrics: ``step``, ``steps`` and ``terms``."""
        losses = " ".join(f"{name} {value:.3g}" for name, value in line["terms"].items())
        self._bar.update(self._task, completed=line["step"] + 1, total=line["steps"], losses=losses)

    def tell(self, stage: str, result: dict[str, Any]) -> None:
        """Say how the run ended, if not well."""
        if result["verdict"] != "accepted":
            console.print(_told(result, f"{stage} "))


def _told(result: dict[str, Any], stage: str = "") -> Text:
    verdict = f"{stage}{result['verdict']}: {result['reason']}"
    lines = str(result.get("message") or "").splitlines()
    first = literal(lines[0] if lines else "")
    return Text.assemble(f"  {result['item']}  ", (verdict, STYLE[result["verdict"]]), "  ", first)
