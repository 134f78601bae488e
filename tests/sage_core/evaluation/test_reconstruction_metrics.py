"""Clouds and relative poses: figures against closed forms and against plain reimplementations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.spatial.transform import Rotation

from sage_core.errors import SageError
from sage_core.evaluation.metrics import nearest_distances
from sage_core.evaluation.reconstruction import (
    align_by_medians,
    align_by_umeyama,
    cloud_scores,
    icp,
    normals_knn,
    reconstruction_scores,
)
from sage_core.evaluation.relative_poses import relative_pose_errors, relative_pose_figures
from sage_core.geometry import compose, rotation_angle_deg

RNG = np.random.default_rng(3)


def corner(count=900):
    """Points on three walls that meet."""
    points = RNG.uniform(0, 2, (count, 3))
    points[np.arange(count), np.arange(count) % 3] = 0
    return points + np.array([0, 0, 2])


def as_maps(points):
    """[N, 3] as pointmaps of two views, every pixel but the last valid."""
    maps = points[: len(points) // 6 * 6].reshape(2, 3, -1, 3)
    valid = np.ones(maps.shape[:3], bool)
    valid[-1, -1, -1] = False
    return maps, valid


def test_nearest_distances_are_those_of_all_pairs():
    a, b = RNG.normal(size=(70, 3)), RNG.normal(size=(50, 3))
    pairs = cdist(a, b)
    there, back = nearest_distances(a, b, -1)
    np.testing.assert_allclose(there, pairs.min(1))
    np.testing.assert_allclose(back, pairs.min(0))


def test_scores_of_a_shifted_plane_are_its_shift():
    x, y = np.meshgrid(np.linspace(0, 1, 40), np.linspace(0, 1, 40))
    plane = np.stack([x.ravel(), y.ravel(), np.zeros(1600)], -1)
    found = cloud_scores(plane + np.array([0, 0, 0.03]), plane)
    figures = (found.accuracy, found.accuracy_median, found.completeness, found.completeness_median)
    assert figures == pytest.approx((0.03,) * 4)
    assert found.nc_knn30 == pytest.approx(1)


def test_normals_are_those_of_the_neighbours_own_plane():
    cloud = corner(300)
    for place in (0, 7, 100):
        near = cloud[np.argsort(np.linalg.norm(cloud - cloud[place], axis=1))[:30]]
        plain = np.linalg.svd(near - near.mean(0))[2][-1]
        assert abs(normals_knn(cloud)[place] @ plain) == pytest.approx(1, abs=1e-9)


def test_half_a_cloud_is_accurate_and_incomplete():
    truth = corner()
    half = truth[truth[:, 0] < 1]
    found = cloud_scores(half, truth)
    assert found.accuracy == pytest.approx(0)
    assert found.completeness > 0.1


def test_icp_finds_a_small_motion_and_leaves_far_pairs_out():
    truth = corner(3000)
    turn = Rotation.from_rotvec([0.01, -0.015, 0.008]).as_matrix()
    cloud = np.concatenate([truth @ turn.T + [0.01, 0.004, -0.008], [[50.0, 0, 0]]])
    moved = icp(cloud, truth).points(cloud)
    assert np.abs(moved[:-1] - truth).max() < 2e-3
    still = icp(truth + 30, truth)
    np.testing.assert_array_equal(still.rotation, np.eye(3))


@given(scale=st.floats(0.05, 20), shift=st.floats(-3, 3))
def test_alignment_by_medians_undoes_scale_and_depth(scale, shift):
    truth, valid = as_maps(corner(120))
    prediction = truth * scale + [0, 0, shift]
    aligned = align_by_medians(prediction, truth, valid)
    np.testing.assert_allclose(aligned[valid], truth[valid], atol=1e-9)
    sideways = align_by_medians(prediction + np.array([1.0, 0, 0]), truth, valid)
    assert np.abs(sideways - truth)[valid][:, 0].min() > 0.02  # that is not free


def test_alignment_by_umeyama_undoes_any_similarity():
    truth, valid = as_maps(corner(240))
    turn = Rotation.from_rotvec([0.4, 1.1, -0.3]).as_matrix()
    prediction = 0.3 * truth @ turn.T + [1, 2, 3]
    prediction[~valid] = 1e9  # what is not valid has no part in it
    aligned = align_by_umeyama(prediction, truth, valid)
    np.testing.assert_allclose(aligned[valid], truth[valid], atol=1e-9)
    before, after = reconstruction_scores(prediction, truth, valid, "umeyama")
    assert before.accuracy == pytest.approx(0, abs=1e-9)
    assert after.nc_knn30 == pytest.approx(before.nc_knn30, abs=1e-6)
    with pytest.raises(SageError, match="cannot be aligned"):
        align_by_umeyama(np.zeros_like(truth), truth, valid)


def poses(count):
    turns = Rotation.random(count, rng=np.random.default_rng(5)).as_matrix()
    places = np.random.default_rng(6).normal(size=(count, 3, 1))
    return np.concatenate([turns, places], -1)


def test_equal_cameras_err_by_nothing_in_any_world_and_unit():
    truth = poses(5)
    moved = compose(truth, poses(1)[0])
    moved[:, :, 3] *= 7
    rotation, translation = relative_pose_errors(moved, truth)
    assert len(rotation) == 10
    assert rotation.max() < 1e-6
    assert translation.max() < 1e-5
    figures = relative_pose_figures(rotation, translation)
    assert set(figures.values()) == {1.0}


def test_errors_of_one_turned_camera():
    truth = poses(2)
    turn = Rotation.from_rotvec(np.radians([0, 0, 12.0])).as_matrix()
    turned = truth.copy()
    turned[1] = compose(np.concatenate([turn, np.zeros((3, 1))], 1), truth[1])
    rotation, _ = relative_pose_errors(turned, truth)
    assert rotation[0] == pytest.approx(12)
    assert rotation_angle_deg(turn) == pytest.approx(12)


def test_a_translation_that_points_backwards_counts_as_right():
    truth = np.stack([np.eye(4)[:3], np.eye(4)[:3]])
    truth[1, :, 3] = [1, 0, 0]
    back, still = truth.copy(), truth.copy()
    back[1, :, 3], still[1, :, 3] = [-2, 0, 0], [0, 0, 0]
    assert relative_pose_errors(back, truth)[1][0] == pytest.approx(0)
    assert relative_pose_errors(still, truth)[1][0] == 90
    assert relative_pose_errors(back, still)[1][0] == 0


def test_auc_is_the_mean_of_shares_below_whole_degrees():
    rotation, translation = np.array([0.5, 2.5, 40.0]), np.array([0.2, 14.0, 1.0])
    figures = relative_pose_figures(rotation, translation)
    worst = [0.5, 14.0, 40.0]
    by_hand = [sum(w < k for w in worst) / 3 for k in range(1, 31)]
    assert figures["auc@30"] == pytest.approx(np.mean(by_hand))
    assert figures["rra@5"] == pytest.approx(2 / 3)
    assert figures["rta@15"] == 1
