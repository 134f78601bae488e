from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sage_core.config.reconstruct import GateConfig, ReconstructConfig
from sage_core.errors import SageError
from sage_core.sfm import (
    ModelFigures,
    PairFigures,
    judge_again,
    judge_model,
    judge_pairs,
    judge_unfinished,
)
from sage_core.sfm.gate import Opinions, judge_opinions
from sage_core.sfm.halves import SplitHalf
from sage_core.sfm.lenses import FocalSpread
from sage_core.types import Reason, Verdict

GATE = GateConfig()
PAIRS = PairFigures(
    verified_pairs=138,
    planar_share=0.2,
    rotation_residual_px=6.0,
    inlier_share=0.95,
    verified_share=0.98,
)
MODEL = ModelFigures(
    key_frames=40,
    registered_share=1.0,
    points=1900,
    points_median=260,
    points_min=147,
    track_length=5.7,
    reprojection_px=0.81,
    triangulation_deg=10.3,
    focal_ratio=0.82,
    focal_sigma=0.002,
    corner_distortion=-0.02,
    plausible_lens=True,
    principal_offset=0.01,
)
OPINIONS = Opinions(SplitHalf(0.3, 0.2, 1.0), FocalSpread(0.004, 0.002))
BAD_OPINIONS = {
    "split_half_percent": Opinions(SplitHalf(7.5, 0.2, 1.0), OPINIONS.focal),
    "split_half_deg": Opinions(SplitHalf(0.3, 5.0, 1.0), OPINIONS.focal),
    "split_half_share": Opinions(SplitHalf(None, None, 0.1), OPINIONS.focal),
    "zoom": Opinions(OPINIONS.split_half, FocalSpread(0.2, 0.01)),
}
BAD_MODELS = {
    "registered_share": 0.69,
    "points_median": 99.5,
    "points_min": 29,
    "track_length": 2.9,
    "reprojection_px": 0.91,
    "triangulation_deg": 2.4,
    "focal_ratio": 2.3,
    "focal_sigma": 0.1,
    "corner_distortion": 0.07,
    "plausible_lens": False,
    "principal_offset": 0.5,
}
BAD_PAIRS = {"inlier_share": 0.7, "verified_share": 0.66}


def test_sound_model_is_kept():
    judgement = judge_model(PAIRS, MODEL, GATE)
    assert judgement.verdict is Verdict.ACCEPTED
    assert judgement.reason is None


@pytest.mark.parametrize(("name", "value"), BAD_MODELS.items())
def test_each_figure_of_the_model_can_reject_alone(name, value):
    judgement = judge_model(PAIRS, replace(MODEL, **{name: value}), GATE)
    assert judgement.verdict is Verdict.REJECTED
    assert judgement.reason is Reason.QUALITY_GATE
    assert judgement.message.startswith(f"{name} ")
    assert judgement.figures[name].value == value
    assert judgement.figures[name].threshold is not None


@pytest.mark.parametrize(("name", "value"), BAD_PAIRS.items())
def test_each_figure_of_the_pairs_can_reject_alone(name, value):
    pairs = replace(PAIRS, **{name: value})
    judgement = judge_model(pairs, MODEL, GATE)
    assert judgement.reason is Reason.QUALITY_GATE
    assert judgement.message.startswith(f"{name} ")
    assert judge_unfinished(pairs, GATE).reason is Reason.QUALITY_GATE


def test_wide_lens_is_judged_by_the_lower_bound():
    judgement = judge_model(PAIRS, replace(MODEL, focal_ratio=0.2), GATE)
    assert judgement.figures["focal_ratio"].rule == ">="
    assert judgement.figures["focal_ratio"].threshold == GATE.min_focal_ratio


def test_no_model_means_not_converged():
    assert judge_model(PAIRS, None, GATE).reason is Reason.SFM_NOT_CONVERGED


def test_a_turn_on_the_spot_is_not_worth_mapping_and_a_plane_that_is_passed_is():
    turn = judge_pairs(replace(PAIRS, planar_share=1.0, rotation_residual_px=0.3), GATE)
    assert turn.reason is Reason.NO_PARALLAX
    assert "0.30 px (limit 1)" in turn.message
    assert judge_pairs(replace(PAIRS, planar_share=1.0), GATE).verdict is Verdict.ACCEPTED


def test_no_matches_mean_not_converged():
    nothing = PairFigures(0, None, None, None, 0.0)
    assert judge_pairs(nothing, GATE).reason is Reason.SFM_NOT_CONVERGED


def test_running_out_of_time_decides_nothing_where_the_pairs_look_well():
    assert judge_unfinished(PAIRS, GATE) is None


def test_photo_sets_are_not_judged_by_neighbours():
    assert judge_model(replace(PAIRS, verified_share=None), MODEL, GATE).verdict is Verdict.ACCEPTED


@given(st.sampled_from([name for name in BAD_MODELS if name != "plausible_lens"]))
def test_figures_that_are_not_numbers_never_pass(name):
    judgement = judge_model(PAIRS, replace(MODEL, **{name: float("nan")}), GATE)
    assert judgement.reason is Reason.QUALITY_GATE


def test_second_opinions_that_agree_change_nothing():
    before = judge_model(PAIRS, MODEL, GATE)
    after = judge_opinions(before, OPINIONS, GATE)
    assert after.verdict is Verdict.ACCEPTED
    assert after.figures.items() > before.figures.items()


@pytest.mark.parametrize(("name", "opinions"), BAD_OPINIONS.items())
def test_each_second_opinion_can_reject_alone(name, opinions):
    judgement = judge_opinions(judge_model(PAIRS, MODEL, GATE), opinions, GATE)
    assert (judgement.verdict, judgement.reason) == (Verdict.REJECTED, Reason.QUALITY_GATE)
    assert judgement.message.startswith(name)


def test_a_focal_length_that_is_open_is_no_zoom():
    opinions = Opinions(OPINIONS.split_half, FocalSpread(0.05, 0.03))
    assert (
        judge_opinions(judge_model(PAIRS, MODEL, GATE), opinions, GATE).verdict is Verdict.ACCEPTED
    )


def test_a_part_must_be_long_enough_and_a_whole_clip_need_not():
    short = replace(MODEL, key_frames=GATE.min_part_key_frames - 1)
    assert judge_model(PAIRS, short, GATE).verdict is Verdict.ACCEPTED
    for part in (replace(short, part_s=9.0), replace(MODEL, part_s=GATE.min_part_s - 0.1)):
        assert judge_model(PAIRS, part, GATE).verdict is Verdict.REJECTED


def test_a_path_that_one_subset_confirmed_is_not_rejected_with_the_others_unasked():
    def within(percent):
        gate = GATE.model_copy(update={"max_split_half_percent": percent})
        return ReconstructConfig(gate=gate)

    accepted = judge_opinions(judge_model(PAIRS, MODEL, GATE), OPINIONS, GATE)
    assert judge_again(accepted, within(0.4)).verdict is Verdict.ACCEPTED
    with pytest.raises(SageError, match="other subsets of its tracks were not asked"):
        judge_again(accepted, within(0.2))
    apart = BAD_OPINIONS["split_half_percent"]
    rejected = judge_opinions(judge_model(PAIRS, MODEL, GATE), apart, GATE)
    assert judge_again(rejected, within(0.2)).verdict is Verdict.REJECTED


def test_figures_of_before_the_rotation_test_are_not_judged_again():
    judgement = judge_model(PAIRS, None, GATE)
    again = judge_again(judgement, ReconstructConfig())
    assert (again.reason, again.figures) == (judgement.reason, judgement.figures)
    figures = {n: f for n, f in judgement.figures.items() if n != "rotation_residual_px"}
    with pytest.raises(SageError, match="before rotation_residual_px was among them"):
        judge_again(replace(judgement, figures=figures), ReconstructConfig())
