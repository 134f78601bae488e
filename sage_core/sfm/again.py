"""The gate once more, on figures that a reconstruction left: new thresholds without decoding or mapping."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from sage_core.config.reconstruct import GateConfig, ReconstructConfig
from sage_core.errors import SageError
from sage_core.sfm.gate import (
    ModelFigures,
    Opinions,
    PairFigures,
    confirmed,
    judge_model,
    judge_opinions,
    judge_pairs,
    judge_unfinished,
    passes,
    split_half_figures,
)
from sage_core.sfm.halves import SplitHalf
from sage_core.sfm.lenses import FocalSpread
from sage_core.types import Figure, Judgement, Reason, Verdict

_NO_MERE_THRESHOLDS = (
    "min_points_frame",
    "min_part_key_frames",
    "principal_point_offset",
    "principal_point_sigmas",
)


def mapped_as(config: ReconstructConfig, seed: int) -> str:
    """Sixteen hex digits over what decides the figures: all settings but the gate's thresholds, and the seed.

    Some settings of the gate are no mere thresholds: they decide which frames a model has, and its lens.
    """
    thresholds = GateConfig.model_fields.keys() - set(_NO_MERE_THRESHOLDS)
    settings = config.result_hash(exclude={"gate": thresholds})
    return hashlib.sha256(f"{settings}:{seed}".encode()).hexdigest()[:16]


def judge_again(before: Judgement, config: ReconstructConfig) -> Judgement:
    """The verdict that the gate gives under these thresholds on the figures of an earlier verdict.

    Raises:
        SageError: the clip was rejected before there was a model to measure, and would not be now; or a
            subset of its tracks confirmed its path and does not now; or its attempt failed, so that there is
            nothing to judge by.
    """
    judgement = _judged(before, config.gate)
    if judgement.verdict is Verdict.ACCEPTED and before.reason is Reason.DYNAMIC_SCENE:
        return before  # what covers its pictures is no matter of the gate
    kept = {name: f for name, f in before.figures.items() if name not in judgement.figures}
    return replace(judgement, figures={**judgement.figures, **kept})


def _judged(before: Judgement, gate: GateConfig) -> Judgement:
    if before.verdict is Verdict.FAILED or "verified_pairs" not in before.figures:
        raise _unmeasured("its last attempt left no figures")
    if "rotation_residual_px" not in before.figures:
        raise _unmeasured("its figures are of before rotation_residual_px was among them")
    pairs = PairFigures(**_values(before.figures, PairFigures))
    judgement = judge_pairs(pairs, gate)
    if judgement.verdict is not Verdict.ACCEPTED:
        return judgement
    if "registered_share" in before.figures:
        model = ModelFigures(**_values(before.figures, ModelFigures))
        judgement = judge_model(pairs, model, gate)
        if judgement.verdict is not Verdict.ACCEPTED:
            return judgement
        return judge_opinions(judgement, _opinions(before.figures, gate), gate)
    if before.reason is Reason.SFM_NOT_CONVERGED:
        return judge_model(pairs, None, gate)
    unfinished = judge_unfinished(pairs, gate)
    if before.reason is not Reason.QUALITY_GATE or unfinished is None:
        raise _unmeasured("its pairs rejected it before it was mapped, which these settings do not")
    return unfinished


def _opinions(figures: Mapping[str, Figure], gate: GateConfig) -> Opinions:
    """What second opinions said, of a clip that got as far as them.

    Subsets of the tracks are asked until one confirms the path: the figures are of that one, and what those
    after it would have said is not known.
    """
    if "split_half_share" not in figures:
        raise _unmeasured("its own figures pass now, and second opinions were never asked for")

    def value(name: str) -> Any:
        return figures[name].value

    halves = SplitHalf(
        value("split_half_percent"), value("split_half_deg"), value("split_half_share")
    )
    then = all(passes(figures[name]) for name in split_half_figures(halves, gate))
    if then and not confirmed(halves, gate):
        raise _unmeasured(
            "what confirmed its path does not confirm it now, and other subsets of its tracks were not asked"
        )
    spread, sigma = value("focal_spread"), value("focal_spread_sigma")
    return Opinions(halves, None if spread is None else FocalSpread(spread, sigma))


def _values(figures: Mapping[str, Figure], kind: type) -> dict[str, Any]:
    """The values by the names of a dataclass; JSON's words for what is not finite as numbers."""
    found = {f.name: figures[f.name].value for f in fields(kind) if f.name in figures}
    return {name: float(v) if isinstance(v, str) else v for name, v in found.items()}


def _unmeasured(why: str) -> SageError:
    return SageError(why, reason=Reason.MISSING_INPUT)
