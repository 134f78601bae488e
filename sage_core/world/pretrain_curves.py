"""Curves of a pretraining: ``python -m sage_core.world.pretrain_curves FOLDER/log.jsonl --out FILE.svg``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sage_core.world.pretrain import GAUSSIANS, PHASES

_COLOURS = {"labelled": "#1f5f99", "choice": "#c0552b"}


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows that pretraining wrote, in order."""
    return [json.loads(line) for line in path.read_text().splitlines() if line]


def draw_curves(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Error on held-out scenes over samples, phase by phase, and the PSNR of the Gaussian head over steps.

    Args:
        rows: of the log.
        out: an SVG file.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams["svg.hashsalt"] = "sage"
    from matplotlib import pyplot as plt

    figure, (points, gaussians) = plt.subplots(
        1, 2, figsize=(9, 3.2), width_ratios=(2, 1), layout="constrained"
    )
    start = 0
    for phase in PHASES:
        here = [row for row in rows if row["phase"] == phase.name]
        start = _draw_phase(points, here, start)
    for domain, colour in _COLOURS.items():
        points.plot([], [], "o-", color=colour, markersize=3, label=domain)
    points.plot([], [], "--", color="#888888", label="the labelled scenes' mean pointmap")
    points.set(xlabel="samples", ylabel="error of points / mean distance", ylim=(0, None))
    points.legend(fontsize=8, frameon=False)
    head = [row for row in rows if row["phase"] == GAUSSIANS.name]
    gaussians.plot([row["step"] for row in head], [row["target_psnr"] for row in head], "o-",
                   color=_COLOURS["labelled"], markersize=3)  # fmt: skip
    gaussians.set(xlabel="steps of the Gaussian head", ylabel="PSNR of unseen views, dB")
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)


def _draw_phase(axis: Any, rows: Sequence[dict[str, Any]], start: int) -> int:
    """Draw one phase from the sample that it began with; gives the last one's number."""
    measured = [row for row in rows if "error" in row]
    if not measured:
        return start
    at = [row["samples"] for row in measured]
    baseline: dict[str, float] = next(
        (row["mean_pointmap"] for row in rows if "mean_pointmap" in row), {}
    )
    for domain, colour in _COLOURS.items():
        axis.plot(at, [row["error"][domain] for row in measured], "o-", color=colour, markersize=3)
        if domain in baseline:
            axis.hlines(baseline[domain], start, at[-1], colors=colour, linestyles="--", alpha=0.6)
    axis.axvline(start, color="#dddddd", linewidth=0.8)
    axis.text(start, 0.005, f" {rows[0]['phase']}", fontsize=8, color="#555555")
    return int(at[-1])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw the curves of a pretraining.")
    parser.add_argument("log", type=Path, help="the log.jsonl of its folder")
    parser.add_argument("--out", type=Path, required=True, help="an SVG file")
    arguments = parser.parse_args()
    draw_curves(read_log(arguments.log), arguments.out)


if __name__ == "__main__":
    main()
