import cv2
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sage_core.errors import SageError
from sage_core.geometry import (
    Camera,
    PixelMap,
    Sim3,
    batched,
    camera_centres,
    compose,
    fit_long_side,
    intrinsics_matrix,
    intrinsics_vector,
    invert,
    pixel_centres,
    project,
    relative,
    rotation_angle_deg,
    transform,
    umeyama,
    unproject,
)

seeds = st.integers(0, 2**32 - 1)
sizes = st.tuples(st.integers(8, 2000), st.integers(8, 2000))


def random_rotation(rng, angle_deg=None):
    axis = rng.normal(size=3)
    angle = np.radians(rng.uniform(0, 180) if angle_deg is None else angle_deg)
    return cv2.Rodrigues(axis / np.linalg.norm(axis) * angle)[0]


def random_pose(rng):
    return np.concatenate([random_rotation(rng), rng.normal(size=(3, 1))], 1)


def random_intrinsics(rng, width, height):
    focal = max(width, height) * rng.uniform(0.4, 2.2)
    return intrinsics_matrix([focal, focal * rng.uniform(0.9, 1.1), width / 2, height / 3])


def points_in_view(rng, n=20):
    z = rng.uniform(0.5, 8, (n, 1))
    return np.concatenate([rng.uniform(-0.4, 0.4, (n, 2)) * z, z], 1)


@given(seeds)
def test_rigid_transforms_form_a_group(seed):
    rng = np.random.default_rng(seed)
    a, b = random_pose(rng), random_pose(rng)
    points = rng.normal(size=(5, 3))
    np.testing.assert_allclose(transform(invert(a), transform(a, points)), points, atol=1e-12)
    np.testing.assert_allclose(
        transform(compose(a, b), points), transform(a, transform(b, points)), atol=1e-12
    )
    np.testing.assert_allclose(compose(relative(a, b), b), a, atol=1e-12)
    np.testing.assert_allclose(transform(a, camera_centres(a)[None]), 0, atol=1e-12)


@given(seeds, st.floats(0, 180))
def test_rotation_angle_is_exact_at_both_ends(seed, angle):
    R = random_rotation(np.random.default_rng(seed), angle)
    assert rotation_angle_deg(R) == pytest.approx(angle, abs=1e-6)


@given(seeds, sizes)
def test_unproject_undoes_project(seed, size):
    rng = np.random.default_rng(seed)
    K, points = random_intrinsics(rng, *size), points_in_view(rng)
    xy, depth = project(K, points)
    np.testing.assert_allclose(unproject(K, xy, depth), points, atol=1e-9)
    np.testing.assert_allclose(intrinsics_matrix(intrinsics_vector(K)), K)


def test_a_point_behind_the_camera_has_no_pixel():
    xy, depth = project(np.eye(3), [[0.1, 0.1, -1.0], [0, 0, 0], [0, 0, 1.0]])
    assert np.isnan(xy[:2]).all()
    assert np.isfinite(xy[2]).all()
    assert depth.tolist() == [-1, 0, 1]


@given(seeds, sizes, sizes, sizes)
def test_projecting_then_mapping_equals_mapping_the_camera_then_projecting(seed, old, mid, new):
    rng = np.random.default_rng(seed)
    left, top = (int(rng.integers(0, side)) for side in mid)
    steps = [PixelMap.resize(old, mid), PixelMap.crop(left, top, *new), PixelMap.cover(new, old)]
    pixels = steps[0].then(steps[1]).then(steps[2])
    camera = Camera(
        *old, *intrinsics_vector(random_intrinsics(rng, *old)), k1=-0.02, k2=0.004, p1=1e-3
    )
    points = points_in_view(rng)
    moved = camera
    for step in steps:
        moved = moved.mapped(step)
    scale = max(pixels.scale_x, pixels.scale_y, 1) * max(*old, *new)
    np.testing.assert_allclose(
        moved.project(points), pixels.points(camera.project(points)), atol=1e-9 * scale
    )
    np.testing.assert_allclose(pixels.intrinsics(camera.K), moved.K, atol=1e-9 * scale)
    assert (moved.width, moved.height) == old


@given(sizes, sizes)
def test_cover_fills_the_picture_with_nothing_but_picture(old, new):
    pixels = PixelMap.cover(old, new)
    corners = pixels.points(np.array([[0, 0], old], float))
    assert (corners[0] <= 1e-6).all()
    assert (corners[1] >= np.array(new) - 1e-6).all()


@given(sizes, st.integers(16, 1024))
def test_fit_long_side_keeps_the_shape(size, long_side):
    fitted = fit_long_side(*size, long_side)
    assert max(fitted) == long_side
    assume(min(fitted) > 20)
    assert fitted[0] / fitted[1] == pytest.approx(size[0] / size[1], rel=0.03)


def blob(width, height, x, y, sigma):
    grid = pixel_centres(width, height)
    return np.exp(-np.square(grid - (x, y)).sum(-1) / (2 * sigma**2))


def centroid(image):
    weights = image.astype(float) - np.median(image)
    grid = pixel_centres(image.shape[1], image.shape[0])
    return (weights[..., None] * grid).sum((0, 1)) / weights.sum()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from([(259, 146), (100, 160), (640, 480), (37, 31)]), seeds)
def test_the_picture_moves_where_its_pixels_are_said_to_move(new, seed):
    rng = np.random.default_rng(seed)
    old = (518, 292)
    x, y = rng.uniform(0.45, 0.55, 2) * old
    image = (250 * blob(*old, x, y, 12)).astype(np.uint8)[..., None].repeat(3, 2)
    pixels = PixelMap.cover(old, new)
    moved = pixels.image(image)
    assert moved.shape == (new[1], new[0], 3)
    np.testing.assert_allclose(centroid(moved[..., 0]), pixels.points(np.array([x, y])), atol=0.1)


def test_crop_then_resize_moves_the_picture_too_and_nonsense_is_refused():
    image = (250 * blob(300, 200, 140.3, 90.7, 10)).astype(np.uint8)[..., None]
    pixels = PixelMap.crop(31, 17, 222, 150).then(PixelMap.resize((222, 150), (111, 100)))
    moved = pixels.image(np.repeat(image, 3, 2))
    np.testing.assert_allclose(
        centroid(moved[..., 0]), pixels.points(np.array([140.3, 90.7])), atol=0.05
    )
    with pytest.raises(ValueError, match="sub-pixel"):
        PixelMap(10, 10, 0.37, 0.37, 0.2, 0.2).image(image)
    with pytest.raises(ValueError, match="outside"):
        PixelMap.crop(250, 0, 100, 100).image(image)


LENSES = [
    ("SIMPLE_RADIAL", (520.0, 320.0, 240.0, -0.12)),
    ("SIMPLE_RADIAL", (520.0, 320.0, 240.0, 0.08)),
    ("RADIAL", (480.0, 310.0, 250.0, -0.2, 0.05)),
    ("OPENCV", (500.0, 510.0, 325.0, 236.0, 0.05, -0.02, 2e-3, -1e-3)),
]


@pytest.mark.parametrize(("model", "params"), LENSES)
def test_our_distortion_is_opencvs(model, params):
    camera = Camera.from_colmap(model, 640, 480, params)
    points = points_in_view(np.random.default_rng(1))
    coefficients = np.array([camera.k1, camera.k2, camera.p1, camera.p2])
    expected = cv2.projectPoints(points, np.zeros(3), np.zeros(3), camera.K, coefficients)[0]
    np.testing.assert_allclose(camera.project(points), expected[:, 0], atol=1e-8)


@pytest.mark.parametrize(("model", "params"), LENSES)
def test_our_distortion_is_colmaps(model, params):
    pycolmap = pytest.importorskip("pycolmap")
    points = points_in_view(np.random.default_rng(2))
    theirs = pycolmap.Camera(model=model, width=640, height=480, params=list(params))
    expected = np.asarray(theirs.img_from_cam(points))
    camera = Camera.from_colmap(model, 640, 480, params)
    np.testing.assert_allclose(camera.project(points), expected, atol=1e-8)


@pytest.mark.parametrize(("model", "params"), LENSES)
def test_undistorting_moves_points_and_picture_alike_and_leaves_no_empty_pixel(model, params):
    camera = Camera.from_colmap(model, 640, 480, params)
    straight = camera.pinhole()
    assert not straight.distorted
    points = points_in_view(np.random.default_rng(3))
    np.testing.assert_allclose(
        camera.undistort_points(camera.project(points)), straight.project(points), atol=1e-6
    )
    map_x, map_y = camera.undistortion_map()
    # Every pixel of the straight picture is taken from inside the distorted one, and the edge is reached.
    assert map_x.min() >= -0.6
    assert map_x.max() <= 639.6
    assert map_y.min() >= -0.6
    assert map_y.max() <= 479.6
    seen = (130.0, 90.0)
    image = (250 * blob(640, 480, *seen, 6)).astype(np.float32)
    moved = cv2.remap(image, map_x, map_y, cv2.INTER_CUBIC)
    np.testing.assert_allclose(centroid(moved), camera.undistort_points(seen), atol=0.1)


@pytest.mark.parametrize(("model", "params"), LENSES)
def test_undistorting_and_resizing_commute(model, params):
    camera = Camera.from_colmap(model, 640, 480, params)
    pixels = PixelMap.resize((640, 480), (518, 389))
    first, last = camera.mapped(pixels).pinhole(), camera.pinhole().mapped(pixels)
    np.testing.assert_allclose(first.K, last.K, rtol=1e-9)


def test_a_lens_that_folds_the_picture_is_refused():
    with pytest.raises(SageError, match="no plausible lens"):
        Camera.from_colmap("SIMPLE_RADIAL", 640, 480, (300.0, 320.0, 240.0, -0.9)).pinhole()
    with pytest.raises(SageError, match="FISHEYE"):
        Camera.from_colmap("OPENCV_FISHEYE", 640, 480, [1.0] * 8)


@given(seeds, st.floats(0.01, 100))
def test_umeyama_recovers_a_similarity_and_moves_cameras_with_it(seed, scale):
    rng = np.random.default_rng(seed)
    truth = Sim3(scale, random_rotation(rng), rng.normal(size=3))
    b = rng.normal(size=(6, 3))
    found = umeyama(truth.points(b), b)
    assert found.scale == pytest.approx(scale, rel=1e-9)
    np.testing.assert_allclose(found.points(b), truth.points(b), atol=1e-9 * max(1, scale))
    np.testing.assert_allclose(found.inverse().points(found.points(b)), b, atol=1e-9)
    cam_from_b = random_pose(rng)
    np.testing.assert_allclose(
        transform(found.cameras(cam_from_b), found.points(b)),
        scale * transform(cam_from_b, b),
        atol=1e-8 * max(1, scale),
    )


def test_umeyama_never_mirrors_and_refuses_too_little():
    rng = np.random.default_rng(0)
    b = rng.normal(size=(8, 3))
    found = umeyama(b * (1, 1, -1), b)
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    with pytest.raises(ValueError, match="coincide"):
        umeyama(b, np.zeros_like(b))
    with pytest.raises(ValueError, match="N >= 3"):
        umeyama(b[:2], b[:2])


@given(seeds)
def test_torch_twins_agree_with_numpy(seed):
    rng = np.random.default_rng(seed)
    poses = np.stack([[random_pose(rng) for _ in range(3)] for _ in range(2)])
    K = np.stack([[random_intrinsics(rng, 64, 48) for _ in range(3)] for _ in range(2)])
    points = rng.normal(size=(2, 3, 7, 3)) + np.array([0, 0, 6])
    t_poses, t_K, t_points = map(torch.from_numpy, (poses, K, points))
    np.testing.assert_allclose(batched.invert(t_poses), invert(poses), atol=1e-12)
    np.testing.assert_allclose(
        batched.relative(t_poses, t_poses.flip(1)), relative(poses, poses[:, ::-1]), atol=1e-12
    )
    np.testing.assert_allclose(
        batched.transform(t_poses, t_points), transform(poses, points), atol=1e-12
    )
    xy, depth = batched.project(t_K, t_points)
    np.testing.assert_allclose(xy, project(K, points)[0], atol=1e-9)
    np.testing.assert_allclose(batched.unproject(t_K, xy, depth), points, atol=1e-9)


def test_a_pointmap_projects_back_onto_its_own_pixels():
    rng = np.random.default_rng(5)
    depth = torch.from_numpy(rng.uniform(1, 4, (2, 6, 9)))
    K = torch.from_numpy(np.stack([random_intrinsics(rng, 9, 6)] * 2))
    world_from_cam = torch.from_numpy(np.stack([random_pose(rng) for _ in range(2)]))
    world = batched.pointmap(depth, K, world_from_cam)
    back = batched.transform(batched.invert(world_from_cam), world.flatten(1, 2))
    xy, z = batched.project(K, back)
    grid = batched.pixel_centres(9, 6, dtype=torch.float64).reshape(-1, 2)
    torch.testing.assert_close(xy, grid.expand(2, -1, -1), atol=1e-9, rtol=0)
    torch.testing.assert_close(z, depth.flatten(1))
