"""Rows of figures as tables: by scene and in all, as JSON, CSV and a page."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sage_core.evaluation.compare import LOWER_IS_BETTER
from sage_core.training.files import write_json, write_text

Rows = Mapping[str, Sequence[Mapping[str, Any]]]
_HIGHER_PREFIXES = (
    *("dac", "pixels_within", "rra", "rta", "maa", "auc", "nc_knn30", "novel_psnr", "novel_ssim"),
)
_SHOWN = (
    *("cd", "cd_median", "nd", "dac@0.2", "dac@0.5", "pixels_within_normalised@0.2"),
    *("rre15", "rte15", "mae30", "novel_psnr", "novel_ssim", "novel_lpips_alex", "novel_lpips_vgg"),
    *("accuracy", "completeness", "nc_knn30", "accuracy_before_icp", "completeness_before_icp"),
    *("rra@15", "rta@15", "auc@5", "auc@15", "auc@30"),
)
"""What the page's first tables show; ``metrics.json`` and the CSV hold all."""


def tables(rows: Rows, scenes: Sequence[str]) -> dict[str, Any]:
    """Means by scene and in all, the change of each model against the first, and the rows.

    Args:
        rows: model -> one entry a tuple with ``name`` and ``figures``.
        scenes: the scene of each tuple.

    ``total`` is the mean over tuples (each scene is one tuple where a protocol takes one a scene);
    ``better`` the share of tuples in which a model beats the first, ``compared_with``; ``change`` the
    relative change of the mean.
    """
    first = next(iter(rows))
    by_scene = {
        scene: {
            model: _mean([row for row, s in zip(entries, scenes, strict=True) if s == scene])
            for model, entries in rows.items()
        }
        for scene in dict.fromkeys(scenes)
    }
    total = {model: _mean(entries) for model, entries in rows.items()}
    others = [model for model in rows if model != first]
    return {
        "tuples": len(scenes),
        "compared_with": first,
        "total": total,
        "scenes": by_scene,
        "change": {m: _change(total[first], total[m]) for m in others},
        "better": {m: _better(rows[first], rows[m]) for m in others},
        "rows": rows,
    }


def lower_is_better(metric: str) -> bool:
    """Which way a figure improves."""
    return metric in LOWER_IS_BETTER or not metric.startswith(_HIGHER_PREFIXES)


def write_tables(report: Mapping[str, Any], out: Path) -> None:
    """``metrics.json``, ``metrics.csv`` and ``index.html``, each whole or not at all."""
    write_json(out / "metrics.json", report)
    write_text(out / "metrics.csv", _csv(report))
    write_text(out / "index.html", _page(report, out))


def _mean(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    figures = [entry["figures"] for entry in entries]
    means = {name: float(np.mean([f[name] for f in figures if name in f])) for name in figures[0]}
    if "cd" in means:
        means["cd_median"] = float(np.median([f["cd"] for f in figures]))
    return means


def _change(first: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float | None]:
    return {
        name: (other[name] / first[name] - 1) if first[name] else None
        for name in first
        if name in other
    }


def _better(
    first: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]
) -> dict[str, float]:
    shares = {}
    for name in first[0]["figures"]:
        pairs = [
            (a["figures"].get(name), b["figures"].get(name))
            for a, b in zip(first, other, strict=True)
        ]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if known:
            wins = [(b < a) if lower_is_better(name) else (b > a) for a, b in known]
            shares[name] = float(np.mean(wins))
    return shares


def _csv(report: Mapping[str, Any]) -> str:
    """One figure a line, the protocol beside each."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "model", "scene", "tuple", "metric", "value"])
    for model, entries in report["rows"].items():
        for entry in entries:
            for metric, value in entry["figures"].items():
                line = (report["protocol"], model, entry["tuple"]["scene"], entry["name"])
                writer.writerow([*line, metric, value])
        for metric, value in report["total"][model].items():
            writer.writerow([report["protocol"], model, "all", "mean", metric, value])
    return text.getvalue()


def _page(report: Mapping[str, Any], out: Path) -> str:
    """A page that needs no network; pictures are inside it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("sage_core.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
    )
    metrics = dict.fromkeys(name for means in report["total"].values() for name in means)
    pictures = [
        {"file": file, "data": base64.b64encode((out / file).read_bytes()).decode()}
        for file in report["pictures"]
    ]
    return pages.get_template("benchmark.html.j2").render(
        report=report,
        metrics=list(metrics),
        shown=[name for name in _SHOWN if name in metrics],
        lower=lower_is_better,
        pictures=pictures,
    )
