import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from test_sfm_anchors import CAMERA, made_model

from sage_core.geometry import camera_centres
from sage_core.sfm.mapping import frames_to_add
from sage_core.sfm.register import _bracket, interpolated, merged_tracks

pixels = hnp.arrays(np.float64, (6, 2), elements=st.floats(0, 600))
tracked = st.lists(st.integers(0, 9), min_size=6, max_size=6).map(np.array)


@given(pixels, tracked, pixels, tracked)
def test_merged_tracks_hold_each_point_once_and_never_where_both_disagree(xy_a, a, xy_b, b):
    xy, point = merged_tracks([(xy_a, a), (xy_b, b)], 1.5)
    assert len(np.unique(point)) == len(point)
    for place, row in zip(xy, point.tolist(), strict=True):
        firsts = [p[i == row][0] for p, i in ((xy_a, a), (xy_b, b)) if (i == row).any()]
        np.testing.assert_allclose(place, np.mean(firsts, 0))
        assert np.linalg.norm(firsts[0] - firsts[-1]) <= 1.5
    lost = set(np.union1d(a, b).tolist()) - set(point.tolist())
    for row in lost:
        assert np.linalg.norm(xy_a[a == row][0] - xy_b[b == row][0]) > 1.5


def test_bracket_are_the_neighbours_that_were_tried():
    tried = [10, 20, 30]
    assert _bracket(15, tried) == (10, 20)
    assert _bracket(20, tried) == (10, 30)
    assert _bracket(5, tried) == (-1, 10)
    assert _bracket(35, tried) == (30, -1)


def test_interpolated_pose_goes_by_frames():
    model = made_model(0)
    pose = interpolated(model.frames[0], model.frames[4], 1)
    np.testing.assert_allclose(camera_centres(pose), [0.3, 0, 0], atol=1e-12)
    assert model.frames[0].camera == CAMERA


def test_frames_are_added_on_both_sides_of_a_lost_one():
    keys, candidates = [0, 20, 40, 60, 80], range(0, 81, 2)
    added = frames_to_add(keys, {0, 20, 60, 80}, list(candidates), 5)
    assert added == [26, 32, 38, 46, 52, 58]
    assert frames_to_add(keys, set(keys), list(candidates), 5) == []
    assert frames_to_add(keys, {0}, list(candidates), 0) == []
