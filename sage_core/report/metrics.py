"""Metrics as the report shows them: what they are, in which unit, and which way is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sage_core.report.contents import Cell, ModelComparison
from sage_core.report.figures import number

BASE = "base"
"""The model that others are compared with."""


@dataclass(frozen=True)
class _Known:
    label: str
    unit: str
    lower_is_better: bool
    explanation: str


_KNOWN = {
    "cd": _Known(
        "CD", "m²", True, "Chamfer distance of MV-DUSt3R's code: mean squared distances added"
    ),
    "cd_median": _Known("CD, median", "m²", True, "the median over tuples, as tables show it"),
    "nd": _Known("ND", "m", True, "mean error of the aligned points, view by view"),
    "dac": _Known("DAc", "", False, "share of tuples whose ND is below the threshold (m)"),
    "accuracy_m": _Known(
        "accuracy", "m", True, "mean distance from a predicted point to the truth"
    ),
    "completeness_m": _Known(
        "completeness", "m", True, "mean distance from a true point to the nearest"
    ),
    "error_normalised": _Known(
        "normalised error", "", True, "mean error once either cloud has mean distance 1"
    ),
    "pixels_within_m": _Known(
        "pixels within", "", False, "share of pixels with an error up to this (m)"
    ),
    "pixels_within_normalised": _Known(
        "pixels within, normalised", "", False, "share of pixels with a normalised error up to this"
    ),
    "rra15": _Known("RRA@15°", "", False, "share of view pairs with a rotation right to 15°"),
    "rta15": _Known(
        "RTA@15°", "", False, "share of view pairs with a direction of travel right to 15°"
    ),
    "maa30": _Known("mAA@30°", "", False, "area under the pose accuracy up to 30°"),
    "anchor_error": _Known(
        "anchor error",
        "",
        True,
        "mean distance of predicted from reconstructed points, both normalised",
    ),
    "target_psnr": _Known(
        "target PSNR", "dB", False, "renders of unseen views against their images"
    ),
    "target_ssim": _Known("target SSIM", "", False, "renders of unseen views against their images"),
    "target_lpips_alex": _Known(
        "target LPIPS", "", True, "the same, perceptual distance with AlexNet"
    ),
    "target_lpips_vgg": _Known(
        "target LPIPS", "", True, "the same, perceptual distance with VGG16"
    ),
}
_ORDER = {name: place for place, name in enumerate(_KNOWN)}


def comparison(part: Mapping[str, Any]) -> ModelComparison:
    """One test set as an evaluation's ``metrics.json`` has it: ``name``, ``protocol``, ``tuples``, ``mean``
    (model -> metric -> value) and ``better`` (metric -> share of tuples).
    """
    # Whatever order the file has: the base comes first, and changes are read from it.
    models = sorted(part["mean"], key=lambda model: model != BASE)
    metrics = dict.fromkeys(name for model in models for name in part["mean"][model])
    cells = [
        _cell(name, [number(part["mean"][model].get(name)) for model in models], part["better"])
        for name in sorted(metrics, key=lambda name: (_ORDER.get(_stem(name), len(_ORDER)), name))
    ]
    return ModelComparison(
        str(part["name"]), str(part["protocol"]), int(part["tuples"]), models, cells
    )


def lower_is_better(metric: str) -> bool | None:
    """Which way a metric goes; None if it is not known here, so that nobody is told what may be wrong."""
    known = _KNOWN.get(_stem(metric))
    return known.lower_is_better if known else None


def _cell(metric: str, values: list[float | None], shares: Mapping[str, Any]) -> Cell:
    known = _KNOWN.get(_stem(metric))
    lower = lower_is_better(metric)
    threshold = metric.partition("@")[2]
    change = _change(values)
    return Cell(
        metric=metric,
        label=(known.label if known else metric) + (f" @ {threshold}" if threshold else ""),
        unit=known.unit if known else "",
        direction="" if lower is None else f"{'lower' if lower else 'higher'} is better",
        values=values,
        change=change,
        better=(change < 0) == lower if change and lower is not None else None,
        share=number(shares.get(metric)),
        explanation=known.explanation if known else "",
    )


def _change(values: list[float | None]) -> float | None:
    """From the first model to the last."""
    first, last = values[0], values[-1]
    return last - first if len(values) > 1 and first is not None and last is not None else None


def _stem(metric: str) -> str:
    return metric.partition("@")[0]
