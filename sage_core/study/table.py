"""What a study came to: a table in Markdown, raw rows as CSV, and plots."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sage_core.study.run import Cell, Study
from sage_core.study.variants import BASE, VARIANTS

_SHOWN = ("cd", "nd", "dac@0.5", "pixels_within_normalised@0.2", "rra15", "rta15", "maa30")


@dataclass(frozen=True)
class Cellful:
    """A variant on a test set: one value for each seed that has run, and of how many."""

    values: tuple[float, ...]
    wanted: int

    def __str__(self) -> str:
        if not self.values:
            return "not run"
        spread = f" ± {np.std(self.values, ddof=1):.3g}" if len(self.values) > 1 else ""
        part = f" ({len(self.values)} of {self.wanted})" if len(self.values) < self.wanted else ""
        return f"{np.mean(self.values):.3g}{spread}{part}"


def write_tables(study: Study) -> Path:
    """Write ``study.md``, ``rows.csv`` and ``cd.svg`` into the study's folder; returns the first."""
    rows = {cell: study.row(cell) for cell in study.cells()}
    known = {cell: row for cell, row in rows.items() if row is not None}
    sets = _sets(known.values())
    text = [
        _head(study, rows),
        *(_table(study, rows, metric, sets) for metric in _SHOWN),
        _paired(rows, sets),
    ]
    path = study.out / "study.md"
    path.write_text("\n\n".join(filter(None, text)) + "\n")
    _write_rows(study.out / "rows.csv", known)
    if sets:
        _draw(study, rows, sets, study.out / "cd.svg")
    return path


def _sets(rows: Any) -> list[str]:
    names: dict[str, None] = {}
    for row in rows:
        names |= {one["name"]: None for one in row["sets"]}
    return list(names)


def _head(study: Study, rows: dict[Cell, Any]) -> str:
    done = sum(row is not None for row in rows.values())
    hours = sum(row["trained"]["seconds"] for row in rows.values() if row and row["trained"]) / 3600
    return (
        f"# Study\n\n{done} of {len(rows)} runs, {hours:.2g} hours of training, {len(study.clips)} clips. "
        "Mean ± standard deviation over seeds; in brackets the change against the base."
    )


def values(rows: dict[Cell, Any], variant: str, tests: str, metric: str) -> Cellful:
    """A metric's means over a test set's tuples, one for each seed."""
    cells = [cell for cell in rows if cell.variant.name == variant]
    scored = [one for cell in cells if rows[cell] for one in rows[cell]["sets"]]
    found = [float(s["mean"][metric]) for s in scored if s["name"] == tests and metric in s["mean"]]
    return Cellful(tuple(found), len(cells))


def _table(study: Study, rows: dict[Cell, Any], metric: str, sets: Sequence[str]) -> str:
    if not any(
        values(rows, name, s, metric).values for name in study.settings.variants for s in sets
    ):
        return ""
    lines = [
        f"## {metric}",
        "",
        f"| variant | {' | '.join(sets)} |",
        f"| --- |{' ---: |' * len(sets)}",
    ]
    for name in study.settings.variants:
        entries = [_entry(rows, name, tests, metric) for tests in sets]
        lines.append(f"| {name}: {VARIANTS[name].about} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _entry(rows: dict[Cell, Any], variant: str, tests: str, metric: str) -> str:
    found, base = values(rows, variant, tests, metric), values(rows, BASE, tests, metric)
    if variant == BASE or not found.values or not base.values or not base.values[0]:
        return str(found)
    return f"{found} ({np.mean(found.values) / base.values[0] - 1:+.0%})"


def _paired(rows: dict[Cell, Any], sets: Sequence[str]) -> str:
    """Share of tuples in which a variant beats the base, over all seeds, by CD."""
    base = {s["name"]: s["rows"] for cell, row in rows.items() if cell.variant.name == BASE and row
            for s in row["sets"]}  # fmt: skip
    lines = []
    for name in dict.fromkeys(cell.variant.name for cell in rows if cell.variant.name != BASE):
        shares = []
        for tests in sets:
            wins = [
                mine["cd"] < theirs["cd"]
                for cell, row in rows.items() if cell.variant.name == name and row
                for one in row["sets"] if one["name"] == tests and tests in base
                for mine, theirs in zip(one["rows"], base[tests], strict=True)
            ]  # fmt: skip
            shares.append(f"{np.mean(wins):.0%}" if wins else "not run")
        lines.append(f"| {name} | {' | '.join(shares)} |")
    if not lines or not base:
        return ""
    head = [f"| variant | {' | '.join(sets)} |", f"| --- |{' ---: |' * len(sets)}"]
    return "\n".join(["## Tuples better than the base, by CD", "", *head, *lines])


def _write_rows(path: Path, rows: dict[Cell, dict[str, Any]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("variant", "seed", "lr", "set", "protocol", "tuple", "metric", "value"))
        for cell, row in rows.items():
            for one in row["sets"]:
                for number, figures in enumerate(one["rows"]):
                    for metric, value in figures.items():
                        writer.writerow(
                            (cell.variant.name, row["seed"], row["lr"], one["name"], one["protocol"],
                             number, metric, value)
                        )  # fmt: skip


def _draw(study: Study, rows: dict[Cell, Any], sets: Sequence[str], out: Path) -> None:
    """A panel for each test set: CD of each variant over the base's, a dot for each seed."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "sage"
    from matplotlib import pyplot as plt

    names = [n for n in study.settings.variants if n != BASE]
    figure, axes = plt.subplots(
        1,
        len(sets),
        figsize=(2.6 * len(sets) + 1.2, 0.34 * len(names) + 1.2),
        sharey=True,
        squeeze=False,
    )
    for axis, tests in zip(axes[0], sets, strict=True):
        base = values(rows, BASE, tests, "cd").values
        for place, name in enumerate(names):
            found = np.array(values(rows, name, tests, "cd").values) / (base[0] if base else np.nan)
            if len(found):
                axis.barh(place, found.mean(), color="#9db8d3", height=0.6)
                axis.plot(found, [place] * len(found), "o", color="#1f3b57", markersize=3)
        axis.axvline(1, color="#888888", linewidth=0.8)
        axis.set_title(tests, fontsize=9)
        axis.set_xlabel("CD / base", fontsize=8)
        axis.tick_params(labelsize=8)
    axes[0][0].set_yticks(range(len(names)), names)
    axes[0][0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)
