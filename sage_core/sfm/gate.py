"""The quality gate: figures of pairs, model and second opinions against thresholds, as pure functions."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from sage_core.config.reconstruct import GateConfig
from sage_core.sfm.halves import SplitHalf
from sage_core.sfm.lenses import FocalSpread
from sage_core.types import Figure, Judgement, Reason

_RULES = {">=": operator.ge, "<=": operator.le, "==": operator.eq}


@dataclass(frozen=True)
class PairFigures:
    """What matching shows before anything is mapped.

    Attributes:
        verified_pairs: pairs with 15 inliers or more (COLMAP's own count includes pairs with none).
        planar_share: share of those that a homography explains; None without such pairs.
        rotation_residual_px: what turns and zooms on the spot leave of their matches
            (:func:`sage_core.sfm.turns.rotation_residual_px`); None without such pairs.
        inlier_share: median share of matches that survive verification, over neighbouring pairs
            (key frames 1, 2 and 4 apart; for photo sets each photo's three strongest pairs).
        verified_share: share of neighbouring pairs that are verified; None for photo sets.
        loop_pairs: pairs far apart along the clip that were matched for looking alike.
        loops_closed: those of them that are verified.
    """

    verified_pairs: int
    planar_share: float | None
    rotation_residual_px: float | None
    inlier_share: float | None
    verified_share: float | None
    loop_pairs: int = 0
    loops_closed: int = 0


@dataclass(frozen=True)
class ModelFigures:
    """What the model of a clip, or of a part of it, shows.

    Attributes:
        key_frames: of the part of the clip that is judged; ``registered_share`` of them are in the model.
        part_s: its seconds, where it is not the whole clip.
        points_median, points_min: mapped points seen, over the mapped frames.
        track_length: mean number of mapped frames a point.
        triangulation_deg: median over the points of the widest angle between two rays.
        focal_ratio: focal length / long side; of several cameras the one farthest from 1.
        focal_sigma: standard deviation of the focal length over itself, by the covariance of the whole
            adjustment: how well these frames determine it. Of several cameras the largest; None where
            the covariance cannot be computed.
        corner_distortion: radial displacement at the picture's corner as a share of its distance from
            the centre, positive outwards; of several cameras the largest. COLMAP bends the lens where
            two halves of a model do not fit.
        plausible_lens: every camera's distortion can be inverted over the whole picture.
        weakest_link: fewest points that hold the frames before and after any place of the clip together, its
            ends excepted; the median over the places is 1. None for photo sets.
        largest_jump: largest step from key frame to key frame over the larger of the steps beside it.
            None for photo sets.
        principal_offset: distance of the principal point from the picture's middle along the worse axis, over
            the long side, where an adjustment puts it that may; None with several cameras.
        principal_sigma: standard deviation of that, over the long side.
    """

    key_frames: int
    registered_share: float
    points: int
    points_median: float
    points_min: int
    track_length: float
    reprojection_px: float
    triangulation_deg: float
    focal_ratio: float
    corner_distortion: float
    plausible_lens: bool
    focal_sigma: float | None = None
    weakest_link: float | None = None
    largest_jump: float | None = None
    principal_offset: float | None = None
    principal_sigma: float | None = None
    part_s: float | None = None


@dataclass(frozen=True)
class Opinions:
    """What second opinions say of a model that its own figures let pass.

    Attributes:
        split_half: how far the paths by half of the tracks lie from the model's.
        focal: how far the focal lengths of the clip's thirds lie apart; None where they cannot be told.
    """

    split_half: SplitHalf
    focal: FocalSpread | None


def judge_pairs(pairs: PairFigures, gate: GateConfig) -> Judgement:
    """Accepted: worth mapping. Mapping is the costliest step on clips that have no parallax."""
    figures = pair_figures(pairs, gate)
    if pairs.verified_pairs == 0:
        message = "no two key frames match: no texture, or nothing in common"
        return Judgement.reject(Reason.SFM_NOT_CONVERGED, message, figures)
    if not passes(figures["rotation_residual_px"]):
        message = (
            f"turns and zooms on the spot explain the matches to {pairs.rotation_residual_px:.2f} px "
            f"(limit {gate.min_rotation_residual_px:g}): the camera does not travel, or faces one plane"
        )
        return Judgement.reject(Reason.NO_PARALLAX, message, figures)
    return Judgement.accept(figures)


def judge_unfinished(pairs: PairFigures, gate: GateConfig) -> Judgement | None:
    """The verdict on a clip whose mapping ran out of time, where its pairs alone tell; else None."""
    figures = pair_figures(pairs, gate)
    missed = _misses(figures)
    if not missed:
        return None
    message = f"{missed}; mapping was stopped, having used up its CPU time"
    return Judgement.reject(Reason.QUALITY_GATE, message, figures)


def judge_model(pairs: PairFigures, model: ModelFigures | None, gate: GateConfig) -> Judgement:
    """The verdict on a mapped clip; ``model`` is None where COLMAP found none."""
    figures = pair_figures(pairs, gate)
    if model is None:
        return Judgement.reject(Reason.SFM_NOT_CONVERGED, "COLMAP found no model", figures)
    figures |= model_figures(model, gate)
    missed = _misses(figures)
    if missed:
        return Judgement.reject(Reason.QUALITY_GATE, missed, figures)
    return Judgement.accept(figures)


def judge_opinions(judgement: Judgement, opinions: Opinions, gate: GateConfig) -> Judgement:
    """The verdict on a model that was accepted by its own figures."""
    figures = judgement.figures | opinion_figures(opinions, gate)
    missed = _misses(figures)
    if missed:
        return Judgement.reject(Reason.QUALITY_GATE, missed, figures)
    return Judgement.accept(figures)


def pair_figures(pairs: PairFigures, gate: GateConfig) -> dict[str, Figure]:
    """The figures of matching beside their thresholds."""
    return {
        "verified_pairs": Figure(pairs.verified_pairs, 1, ">="),
        "planar_share": Figure(pairs.planar_share),
        "rotation_residual_px": Figure(
            pairs.rotation_residual_px, gate.min_rotation_residual_px, ">="
        ),
        "inlier_share": Figure(pairs.inlier_share, gate.min_inlier_share, ">="),
        "verified_share": Figure(pairs.verified_share, gate.min_verified_share, ">="),
        "loop_pairs": Figure(pairs.loop_pairs),
        "loops_closed": Figure(pairs.loops_closed),
    }


def model_figures(model: ModelFigures, gate: GateConfig) -> dict[str, Figure]:
    """The figures of the model beside their thresholds."""
    return {
        "key_frames": _of_part(model, model.key_frames, gate.min_part_key_frames),
        "part_s": _of_part(model, model.part_s, gate.min_part_s),
        "registered_share": Figure(model.registered_share, gate.min_registered_share, ">="),
        "points": Figure(model.points),
        "points_median": Figure(model.points_median, gate.min_points_median, ">="),
        "points_min": Figure(model.points_min, gate.min_points_frame, ">="),
        "track_length": Figure(model.track_length, gate.min_track_length, ">="),
        "reprojection_px": Figure(model.reprojection_px, gate.max_reprojection_px, "<="),
        "triangulation_deg": Figure(model.triangulation_deg, gate.min_triangulation_deg, ">="),
        "focal_ratio": _within(model.focal_ratio, gate.min_focal_ratio, gate.max_focal_ratio),
        "focal_sigma": Figure(model.focal_sigma, gate.max_focal_sigma, "<="),
        "corner_distortion": _within(
            model.corner_distortion, gate.min_corner_distortion, gate.max_corner_distortion
        ),
        "plausible_lens": Figure(model.plausible_lens, True, "=="),
        "principal_offset": Figure(model.principal_offset, gate.max_principal_offset, "<="),
        "principal_sigma": Figure(model.principal_sigma),
        "weakest_link": Figure(model.weakest_link),
        "largest_jump": Figure(model.largest_jump),
    }


def confirmed(half: SplitHalf, gate: GateConfig) -> bool:
    """Whether half of the tracks confirms the path, by the gate's measure."""
    return not _misses(split_half_figures(half, gate))


def opinion_figures(opinions: Opinions, gate: GateConfig) -> dict[str, Figure]:
    """The figures of second opinions beside their thresholds."""
    focal = opinions.focal
    return split_half_figures(opinions.split_half, gate) | {
        "focal_spread": Figure(focal.spread if focal else None),
        "focal_spread_sigma": Figure(focal.sigma if focal else None),
        "zoom": Figure(focal.beyond_doubt if focal else None, gate.max_zoom, "<="),
    }


def split_half_figures(half: SplitHalf, gate: GateConfig) -> dict[str, Figure]:
    """The figures of halves of the tracks beside their thresholds."""
    return {
        "split_half_share": Figure(half.share, gate.min_split_half_share, ">="),
        "split_half_percent": Figure(half.percent, gate.max_split_half_percent, "<="),
        "split_half_deg": Figure(half.deg, gate.max_split_half_deg, "<="),
    }


def _of_part(model: ModelFigures, value: float | None, least: float) -> Figure:
    """A whole clip is as long as curate made it."""
    return Figure(value) if model.part_s is None else Figure(value, least, ">=")


def _within(value: float, lowest: float, highest: float) -> Figure:
    """A figure has one threshold: the bound that was missed, or the upper one."""
    return Figure(value, lowest, ">=") if value < lowest else Figure(value, highest, "<=")


def passes(figure: Figure) -> bool:
    """A figure without threshold, or one that could not be measured, rejects nothing."""
    value, threshold = figure.value, figure.threshold
    if value is None or threshold is None:
        return True
    return bool(_RULES[str(figure.rule)](value, threshold))


def _misses(figures: dict[str, Figure]) -> str:
    return "; ".join(
        f"{name} {figure.value:.3g} is not {figure.rule} {figure.threshold:g}"
        for name, figure in figures.items()
        if not passes(figure)
    )
