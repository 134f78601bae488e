"""What the golden numbers leave open: even counts, caps, empty views, PnP, degenerate images."""

import math

import numpy as np
import pytest

from sage_core.errors import SageError
from sage_core.evaluation.metrics import (
    ERROR_CAP,
    align,
    cameras_from_pointmaps,
    chamfer,
    focal_from_pointmap,
    lower_median,
    nearest_distances,
    pointmap_scores,
    pose_accuracy,
    pose_errors,
    psnr,
    ssim,
    view_errors,
)
from sage_core.geometry import invert, transform
from sage_core.types import Reason

WIDTH, HEIGHT, FOCAL = 40, 30, 36.0


def cloud(views=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(views, HEIGHT, WIDTH, 3)) + np.array([0, 0, 4])


def every_pixel(points):
    return np.ones(points.shape[:-1], bool)


def test_even_counts_take_the_lower_middle():
    assert lower_median(np.array([[4.0, 1], [1, 2], [3, 3], [2, 9]])).tolist() == [2, 2]


def test_scale_and_shift_of_a_prediction_do_not_count_but_rotation_does():
    truth = cloud()
    valid = np.random.default_rng(1).random(truth.shape[:-1]) < 0.7
    scores = pointmap_scores(5 * truth + (1, 2, 3), truth, valid)
    assert scores.nd == pytest.approx(0, abs=1e-9)
    assert scores.cd == pytest.approx(0, abs=1e-9)
    assert all(scores.dac.values())
    assert scores.within_m[0.1] == 1
    assert scores.within_normalised[0.1] < 1
    assert pointmap_scores(truth[..., [1, 0, 2]], truth, valid).nd > 0.5


def test_values_without_depth_may_be_anything():
    truth = cloud()
    valid = np.random.default_rng(1).random(truth.shape[:-1]) < 0.5
    prediction = truth + np.random.default_rng(2).normal(size=truth.shape) * 0.1
    expected = pointmap_scores(prediction, truth, valid)
    holes = np.where(valid[..., None], truth, np.nan)
    assert pointmap_scores(prediction, holes, valid) == expected


def test_an_empty_view_counts_zero_and_bad_ones_are_capped():
    truth = cloud()
    valid = every_pixel(truth)
    valid[1] = False
    errors = view_errors(truth + np.array([0, 0, 100]), truth, valid)
    assert errors.tolist() == [ERROR_CAP, 0, ERROR_CAP]
    assert chamfer(np.full(3, 9.0), np.full(3, 9.0)) == ERROR_CAP


def test_nothing_valid_or_nothing_finite_is_said():
    truth = cloud()
    with pytest.raises(SageError, match="no pixel with known depth") as caught:
        align(truth, truth, np.zeros(truth.shape[:-1], bool))
    assert caught.value.reason == Reason.NO_DATA
    broken = truth.copy()
    broken[0, 0, 0] = np.inf
    with pytest.raises(SageError, match="not finite"):
        align(broken, truth, every_pixel(truth))


def test_chamfer_squares_and_adds_both_ways():
    a, b = np.array([[0.0, 0, 0], [1, 0, 0]]), np.array([[0.0, 2, 0]])
    to_b, to_a = nearest_distances(a, b)
    assert to_b.tolist() == pytest.approx([2, math.sqrt(5)])
    assert chamfer(to_b, to_a) == pytest.approx((4 + 5) / 2 + 4)


def look(angle, x):
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, 0, s, x], [0, 1, 0, 0.1 * x], [-s, 0, c, 0.05]])


def pinhole_views():
    """Three views, whole pixel numbers as in the published evaluation, points in view 0's frame."""
    rng = np.random.default_rng(3)
    poses = np.stack([np.eye(3, 4), look(0.2, -0.4), look(-0.1, 0.3)])
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    points = []
    for pose in poses:
        z = 2 + rng.random((HEIGHT, WIDTH))
        camera = np.stack(((x - WIDTH / 2) / FOCAL * z, (y - HEIGHT / 2) / FOCAL * z, z), -1)
        points.append(transform(invert(pose), camera.reshape(-1, 3)).reshape(camera.shape))
    return poses, np.stack(points)


def test_cameras_come_back_from_pointmaps():
    poses, points = pinhole_views()
    focal = focal_from_pointmap(points[0], np.ones((HEIGHT, WIDTH)))
    assert focal == pytest.approx(FOCAL, rel=1e-6)
    found = cameras_from_pointmaps(points, every_pixel(points), focal)
    np.testing.assert_allclose(found, poses, atol=1e-3)
    accuracy = pose_accuracy(*pose_errors(found, poses))
    assert (accuracy.rra15, accuracy.rta15) == (1, 1)
    assert accuracy.maa30 > 0.95


def test_a_view_without_pixels_gets_the_stand_in_pose():
    _, points = pinhole_views()
    valid = every_pixel(points)
    valid[2] = False
    pose = cameras_from_pointmaps(points, valid, FOCAL)[2]
    assert pose.tolist() == [[1, 0, 0, 1], [0, 1, 0, 1], [0, 0, 1, 1]]


def test_perfect_rotations_read_as_the_published_code_reads_them():
    poses, _ = pinhole_views()
    rotation, translation = pose_errors(poses, poses)
    assert rotation.tolist() == pytest.approx([0.405] * 3, abs=1e-3)
    assert translation.max() < 1e-4
    flipped = poses.copy()
    flipped[:, :, 3] *= -1
    assert pose_errors(flipped, poses)[1].max() < 1e-4


def test_focal_survives_outliers_and_the_least_confident():
    _, points = pinhole_views()
    conf = np.full((HEIGHT, WIDTH), 5.0)
    rng = np.random.default_rng(4)
    bad = rng.random((HEIGHT, WIDTH)) < 0.1
    noisy = points[0] + bad[..., None] * rng.normal(size=(HEIGHT, WIDTH, 3)) * (0.5, 0.5, 0)
    assert focal_from_pointmap(noisy, conf) == pytest.approx(FOCAL, rel=0.02)
    few = np.zeros((HEIGHT, WIDTH), bool)
    few[0, :30] = True
    hidden = np.where(few[..., None], (0.5, 0.5, 0.0), points[0])
    assert focal_from_pointmap(hidden, np.where(few, 1.0, conf)) == pytest.approx(FOCAL, rel=1e-6)


def test_equal_images():
    image = np.random.default_rng(5).random((20, 24, 3))
    assert psnr(image, image) == math.inf
    assert ssim(image, image) == pytest.approx(1)
    flat = np.full((20, 24, 3), 0.5)
    assert ssim(flat, flat) == 1
    assert psnr(flat, flat + 0.1) == pytest.approx(20)


def ssim_by_the_formula(image, truth, data_range):
    """Wang et al. 2004, eq. 13 with eq. 14 to 16, pixel by pixel: means, deviations and covariance in a
    circular Gaussian window of 11 px with a standard deviation of 1.5 px and weights that sum to one."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    padding = ((5, 5), (5, 5), (0, 0))
    x, y = (np.pad(one.astype(np.float64), padding, mode="reflect") for one in (image, truth))
    values = []
    for row, column, channel in np.ndindex(image.shape):
        at = (slice(row, row + 11), slice(column, column + 11), channel)
        mean_x, mean_y = (window * x[at]).sum(), (window * y[at]).sum()
        var_x = (window * (x[at] - mean_x) ** 2).sum()
        var_y = (window * (y[at] - mean_y) ** 2).sum()
        covariance = (window * (x[at] - mean_x) * (y[at] - mean_y)).sum()
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        values.append(luminance * (2 * covariance + c2) / (var_x + var_y + c2))
    return np.mean(values)


@pytest.mark.parametrize(
    ("height", "width", "channels", "noise", "data_range"),
    [(11, 11, 1, 0.5, 1.0), (6, 19, 3, 0.1, 1.0), (17, 12, 3, 0.02, None), (13, 9, 2, 1.0, 0.5)],
)
def test_ssim_is_that_of_the_formula(height, width, channels, noise, data_range):
    rng = np.random.default_rng([height, width])
    truth = rng.random((height, width, channels))
    truth = 0.5 * truth + 0.4 * np.linspace(0, 1, width)[:, None]  # some structure
    image = np.clip(truth + noise * rng.normal(size=truth.shape), 0, 1)
    wanted_range = data_range or max(np.ptp(image), np.ptp(truth))
    wanted = ssim_by_the_formula(image, truth, wanted_range)
    assert ssim(image, truth, data_range) == pytest.approx(wanted, abs=1e-12)
    assert -1 <= wanted < 0.999
