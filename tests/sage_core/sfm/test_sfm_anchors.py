from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_core.geometry import Camera, camera_centres
from sage_core.sfm import AnchorFilter, PosedFrame, SparseModel, model_anchors
from sage_core.sfm.consistency import split_disagreement
from sage_core.sfm.model import widest_angles

CAMERA = Camera(640, 480, 500, 500, 320, 240, k1=-0.08)
EVERYTHING = AnchorFilter(min_track=1, min_angle_deg=0, max_error_px=1e9, max_split=1e9)


def made_model(seed, n_frames=5, n_points=60, noise_px=0.5, mapped=None):
    """Cameras on a line before points in a box, every point seen by every frame that it projects into."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-1, -1, 3], [1, 1, 6], (n_points, 3))
    frames = []
    for index in range(n_frames):
        pose = np.concatenate([np.eye(3), [[-0.3 * index], [0], [0]]], 1)
        pixels = CAMERA.project(xyz @ pose[:, :3].T + pose[:, 3])
        inside = ((pixels > 0) & (pixels < (640, 480))).all(1)
        xy = pixels[inside] + rng.normal(0, noise_px, (inside.sum(), 2))
        is_mapped = True if mapped is None else mapped[index]
        frames.append(PosedFrame(index, is_mapped, pose, CAMERA, xy, np.flatnonzero(inside)))
    ids = np.arange(n_points) * 3 + 1
    return SparseModel(frames, xyz, np.zeros((n_points, 3), np.uint8), np.zeros(n_points), ids)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pixel_and_depth_lead_back_to_the_point(seed):
    model = made_model(seed)
    K = CAMERA.pinhole().K
    for frame in model.frames:
        anchors = model_anchors(model, EVERYTHING)[frame.frame]
        assert len(anchors)
        homogeneous = np.concatenate([anchors.xy, np.ones((len(anchors), 1))], 1)
        cam = (homogeneous @ np.linalg.inv(K).T) * anchors.depth[:, None]
        world = (cam - frame.cam_from_world[:, 3]) @ frame.cam_from_world[:, :3]
        np.testing.assert_allclose(world, model.xyz[anchors.row], atol=1e-9)
        np.testing.assert_array_equal(model.ids[anchors.row], anchors.point)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.floats(0, 12), st.floats(0.1, 3))
def test_filter_keeps_exactly_what_it_says(seed, track, angle, error):
    model = made_model(seed)
    everything = model_anchors(model, EVERYTHING)
    kept = model_anchors(model, AnchorFilter(track, angle, error, 1e9))
    for index, all_of in everything.items():
        wanted = (all_of.track >= track) & (all_of.angle_deg >= angle) & (all_of.error_px <= error)
        np.testing.assert_array_equal(all_of.point[wanted], kept[index].point)


def test_error_is_measured_where_the_lens_put_the_pixel():
    anchors = model_anchors(made_model(0, noise_px=0.0), EVERYTHING)[2]
    assert anchors.error_px.max() < 1e-9


def test_frames_registered_later_lengthen_no_track():
    model = made_model(1, mapped=[True, False, True, False, True])
    assert model.track_lengths().max() == 3


@settings(max_examples=50, deadline=None)
@given(st.floats(0.5, 170), st.integers(0, 1000))
def test_widest_angle_of_known_rays(degrees, seed):
    rng = np.random.default_rng(seed)
    angles = np.radians([0, degrees / 3, degrees])
    rays = np.stack([np.cos(angles), np.sin(angles), np.zeros(3)], -1)
    R, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    point = rng.normal(size=3)
    centres = point + (rays * rng.uniform(1, 5, (3, 1))) @ R.T
    found = widest_angles(point[None], [centres])[0]
    np.testing.assert_allclose(found, degrees, rtol=1e-6)


def test_one_ray_has_no_angle():
    assert widest_angles(np.zeros((1, 3)), [np.ones((1, 3))])[0] == 0


def test_centres_follow_the_poses():
    np.testing.assert_allclose(camera_centres(made_model(0).frames[2].cam_from_world), [0.6, 0, 0])


def test_points_that_two_halves_of_their_views_place_apart_are_no_anchors():
    model = made_model(3, n_frames=6, noise_px=0.2)
    sound = split_disagreement(model)
    assert np.nanmax(sound) < 0.05
    moved = replace(model, frames=[_shifted(f, 0, 80.0 * (f.frame % 2)) for f in model.frames])
    wrong = split_disagreement(moved)
    seen = model.track_lengths()[0]
    assert seen >= 4
    assert wrong[0] > 0.05
    np.testing.assert_allclose(wrong[1:], sound[1:])
    loose = AnchorFilter(min_track=4, min_angle_deg=0, max_error_px=1e9)
    assert all(0 not in anchors.row for anchors in model_anchors(moved, loose).values())
    assert any(0 in anchors.row for anchors in model_anchors(model, loose).values())


def test_three_views_have_no_halves():
    assert np.isnan(split_disagreement(made_model(0, n_frames=3))).all()


def _shifted(frame, point, pixels):
    """The frame with one point's observation moved sideways."""
    xy = frame.xy.copy()
    xy[frame.point == point, 0] += pixels
    return replace(frame, xy=xy)
