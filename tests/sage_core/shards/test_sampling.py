from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_scene import make_clip

from sage_core.config.sampling import SamplingConfig
from sage_core.errors import ShardError
from sage_core.geometry import camera_centres
from sage_core.shards import can_draw, draw_trajectory
from sage_core.shards.trajectories import candidates, measure
from sage_core.types import Reason

CLIP = make_clip(n=60, step=5)[0]
PHOTOS = make_clip(n=30, ordered=False)[0]


def draws(clip, config, n=40, seed=0):
    rng = np.random.default_rng(seed)
    return [draw_trajectory(clip, config, rng) for _ in range(n)]


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["perturbed", "linear", "covisibility"]),
    st.integers(2, 8),
    st.integers(0, 4),
    st.integers(0, 2**31),
)
def test_every_sample_keeps_its_promises(mode, n_context, n_targets, seed):
    config = SamplingConfig(mode=mode, n_context=n_context, n_targets=n_targets)
    try:
        sample = draw_trajectory(CLIP, config, np.random.default_rng(seed))
    except ShardError:
        assert n_context == 2  # two neighbours may have fewer frames between them than targets
        return
    assert len(sample.context) == n_context
    assert len(sample.targets) == n_targets
    assert sample.context == sorted(set(sample.context))
    assert not set(sample.context) & set(sample.targets)
    assert all(sample.context[0] < row < sample.context[-1] for row in sample.targets)
    assert sample == draw_trajectory(CLIP, config, np.random.default_rng(seed))


def gaps_at_30(clip, sample):
    return np.diff(clip.times_s[sample.context]) * 30


def test_linear_steps_are_even_and_perturbed_ones_within_the_jitter():
    for sample in draws(CLIP, SamplingConfig(mode="linear")):
        np.testing.assert_allclose(gaps_at_30(CLIP, sample), 20)
    gaps = np.concatenate([gaps_at_30(CLIP, s) for s in draws(CLIP, SamplingConfig())])
    # Two jitters of up to 5 frames and two roundings to the 5-frame grid of poses.
    assert 5 <= gaps.min() < 15
    assert 25 < gaps.max() <= 35
    assert gaps.mean() == pytest.approx(20, abs=1.0)


def test_perturbed_and_linear_draw_different_sets():
    linear = {tuple(np.diff(s.context)) for s in draws(CLIP, SamplingConfig(mode="linear"))}
    perturbed = {tuple(np.diff(s.context)) for s in draws(CLIP, SamplingConfig())}
    assert linear == {(4,) * 7}
    assert len(perturbed) > 30


@pytest.mark.parametrize(("fps", "step"), [(24.0, 4), (25.0, 4), (60.0, 10), (15.0, 2)])
def test_intervals_are_time_whatever_the_frame_rate(fps, step):
    clip = make_clip(n=60, step=step, fps=fps)[0]
    gaps = np.concatenate([gaps_at_30(clip, s) for s in draws(clip, SamplingConfig(mode="linear"))])
    assert gaps.mean() == pytest.approx(20, abs=1.5)


def without_rows(clip, dropped):
    kept = np.setdiff1d(np.arange(clip.n_frames), dropped)
    share = clip.covisibility.matrix(clip.n_frames)[np.ix_(kept, kept)]
    i, j = np.nonzero(np.triu(share, 1))
    covisibility = replace(clip.covisibility, i=i, j=j, share=share[i, j])
    names = ("frames", "times_s", "sharpness", "depth_median", "cam_from_world")
    fields = {name: getattr(clip, name)[kept] for name in names}
    return replace(clip, covisibility=covisibility, **fields)


def test_samples_never_bridge_a_gap_with_a_frame_from_elsewhere():
    clip = without_rows(CLIP, np.arange(20, 26))
    for sample in draws(clip, SamplingConfig(mode="perturbed", n_context=4)):
        off = np.abs(gaps_at_30(clip, sample) - 20)
        assert off.max() <= 2 * (5 + 3)


def test_a_clip_that_is_too_short_says_so():
    clip = without_rows(CLIP, np.arange(25, 60))
    assert not can_draw(clip, SamplingConfig())
    assert can_draw(clip, SamplingConfig(interval_frames=10))
    with pytest.raises(ShardError, match=r"25 frames over 4\.0 s.*interval_frames") as caught:
        draw_trajectory(clip, SamplingConfig(), np.random.default_rng(0))
    assert caught.value.reason is Reason.NO_TRAJECTORY
    assert not can_draw(without_rows(CLIP, np.arange(5, 60)), SamplingConfig())


def test_growth_stays_inside_its_band():
    config = SamplingConfig(mode="covisibility")
    share = CLIP.covisibility.matrix(CLIP.n_frames)
    for sample in draws(CLIP, config):
        inside = share[np.ix_(sample.context, sample.context)] - np.eye(8)
        # Someone in the set is in the band of each; nobody is left alone.
        assert (inside.max(1) >= 0.2).all()
        assert sample.mode == "covisibility"
        seen = np.sort(share[np.ix_(sample.context, sample.targets)], axis=0)
        assert (seen[-2] >= 0.2).all()


def test_growth_keeps_its_distance():
    """Along a glide the most covisible view is about the nearest: none is drawn next to another."""
    config = SamplingConfig(mode="covisibility", min_parallax=0.4, covisibility_max=1.0)
    centres = camera_centres(CLIP.cam_from_world)
    for sample in draws(CLIP, config):
        apart = np.linalg.norm(np.diff(centres[sample.context], axis=0), axis=-1)
        assert (apart / CLIP.depth_median[sample.context[1:]]).min() > 0.4 / 2
    near = SamplingConfig(mode="covisibility", min_parallax=0.0, covisibility_max=1.0)
    steps = [np.diff(s.context).min() for s in draws(CLIP, near)]
    assert min(steps) == 1


@pytest.mark.parametrize("mode", ["perturbed", "linear", "covisibility"])
def test_eight_views_and_two_targets_strictly_between_by_default(mode):
    for sample in draws(CLIP, SamplingConfig(mode=mode)):
        assert (len(sample.context), len(sample.targets)) == (8, 2)
        assert min(sample.context) < min(sample.targets)
        assert max(sample.targets) < max(sample.context)


def test_photo_sets_are_sampled_by_what_they_share_for_they_have_no_time():
    share = PHOTOS.covisibility.matrix(PHOTOS.n_frames)
    for sample in draws(PHOTOS, SamplingConfig(mode="perturbed", n_context=5)):
        assert sample.mode == "connected"
        inside = share[np.ix_(sample.context, sample.context)] - np.eye(5)
        assert (inside.max(1) >= 0.2).all()
    contexts = [s.context for s in draws(PHOTOS, SamplingConfig(n_context=5))]
    assert any(context != sorted(context) for context in contexts)


def test_extrapolated_targets_lie_outside_and_near():
    config = SamplingConfig(targets="extrapolated", n_context=6)
    for sample in draws(CLIP, config):
        first, last = sample.context[0], sample.context[-1]
        for row in sample.targets:
            assert row < first or row > last
            assert max(first - row, row - last) * 5 <= 40


def test_candidates_are_measured_and_ordered_and_can_be_drawn_again():
    config = SamplingConfig()
    table = candidates(CLIP, config, 20, np.random.default_rng(3))
    assert len({tuple(t.context) for t in table}) == len(table) == 20
    assert {t.mode for t in table} == {"perturbed", "covisibility"}
    scores = [t.score for t in table]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] < scores[0] <= 1
    assert table == candidates(CLIP, config, 20, np.random.default_rng(3))
    clip = replace(CLIP, trajectories=table)
    drawn = draws(clip, SamplingConfig(mode="candidates"), 200)
    assert all(sample in table for sample in drawn)
    best = sum(sample.score >= np.median(scores) for sample in drawn)
    assert best > 120
    with pytest.raises(ShardError, match="table of candidates"):
        draw_trajectory(
            clip, SamplingConfig(mode="candidates", n_context=4), np.random.default_rng(0)
        )


def test_figures_of_a_trajectory_are_those_of_its_geometry():
    share = CLIP.covisibility.matrix(CLIP.n_frames)
    sample = draw_trajectory(CLIP, SamplingConfig(mode="linear"), np.random.default_rng(1))
    measured = measure(CLIP, sample, SamplingConfig(), share)
    # The camera travels 16 units in 59 steps, neighbours are 4 steps apart, points lie 2.5 to 4 away.
    step = 16 / 59 * 4
    assert step / 4 < measured.parallax < step / 2.5
    assert measured.span_s == pytest.approx(140 / 30)
    assert measured.sharpness == pytest.approx(1)
    rows = np.array(sample.context)
    assert measured.overlap == pytest.approx(share[rows[:-1], rows[1:]].mean())
    still = replace(CLIP, cam_from_world=np.tile(CLIP.cam_from_world[:1], (60, 1, 1)))
    assert measure(still, sample, SamplingConfig(), share).score == 0
