"""What every benchmark prints: a table for people, and the same rows as JSON for programs."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = Mapping[str, Any]


def parser(text: str | None) -> argparse.ArgumentParser:
    """A benchmark's command line: its own options are added to ``--json FILE``."""
    made = argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the rows here")
    return made


def publish(title: str, rows: Sequence[Row], json_file: Path | None, **facts: Any) -> None:
    """Print the rows, whose keys are the columns, and write them with the machine's description.

    ``facts`` are figures of the run as a whole (sizes, ratios, targets) and stand below the table.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(*columns, title=title)
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in columns))
    console = Console()
    if not console.is_terminal:  # a file has room for all columns
        console = Console(width=max(console.width, console.measure(table).maximum))
    console.print(table)
    for name, value in facts.items():
        console.print(f"{name.replace('_', ' ')}: {_cell(value)}", markup=False)
    if json_file:
        record = {"title": title, "machine": machine(), "rows": list(rows), **facts}
        json_file.write_text(json.dumps(record, indent=1) + "\n")


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "processor": platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "cuda_device": device,
    }


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
