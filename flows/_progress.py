"""Progress on the terminal: one bar a stage, a line for each verdict that is not an acceptance."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

console = Console(stderr=True)

STYLE = {"accepted": "green", "rejected": "yellow", "failed": "red"}


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
            style = STYLE[verdict]
            reason = f"[{style}]{verdict}: {result['reason']}[/]"
            self._bar.console.print(f"  {result['item']}  {reason}  {_first_line(result)}")
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
            style = STYLE[result["verdict"]]
            verdict = f"[{style}]{stage} {result['verdict']}: {result['reason']}[/]"
            console.print(f"  {result['item']}  {verdict}  {_first_line(result)}")


def _first_line(result: dict[str, Any]) -> str:
    from rich.markup import escape

    lines = str(result.get("message") or "").splitlines()
    return escape(lines[0][:160]) if lines else ""
