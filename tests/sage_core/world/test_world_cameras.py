"""Cameras stand in free space, overlap, and move as their name says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_core.geometry import camera_centres, project, relative, rotation_angle_deg, transform
from sage_core.world import MOTIONS, build_scene, camera_path, look, room_sample
from sage_core.world.rooms import SPLITS

ANGLE = st.floats(-1.4, 1.4)


@given(yaw=st.floats(-6, 6), pitch=ANGLE, roll=ANGLE)
def test_look_gives_a_rotation_that_faces_where_it_says(yaw, pitch, roll):
    pose = look(np.array([1.0, 2.0, 3.0]), np.array(yaw), np.array(pitch), np.array(roll))
    R = pose[:, :3]
    np.testing.assert_allclose(R @ R.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(R) == pytest.approx(1)
    np.testing.assert_allclose(camera_centres(pose), [1, 2, 3], atol=1e-12)
    assert R[2, 1] == pytest.approx(np.sin(pitch))
    if abs(roll) < 1:
        assert R[1, 1] <= 0  # the picture's down is the world's down


@pytest.mark.parametrize("motion", MOTIONS)
def test_paths_are_free_smooth_and_named_rightly(motion):
    scene = build_scene(SPLITS["film"][0], "V")
    path = camera_path(scene, motion, 90, 30.0, 0)
    centres = camera_centres(path)
    assert not scene.blocked(centres, 0.2).any()
    travelled = np.linalg.norm(np.ptp(centres, axis=0))
    turned = rotation_angle_deg(relative(path[0], path[-1])[:, :3])
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert steps.max() < 0.05
    assert (travelled > 0.5) == (motion not in ("static", "rotation"))
    assert (turned > 10) == (motion != "static")
    if motion == "handheld":
        walk = camera_centres(camera_path(scene, "walkthrough", 90, 30.0, 0))
        jerk = [np.abs(np.diff(c, n=3, axis=0)).mean() for c in (centres, walk)]
        assert jerk[0] > 3 * jerk[1]


def test_unknown_motion_is_named():
    with pytest.raises(ValueError, match="'fly': choose one of walkthrough"):
        camera_path(build_scene(0), "fly", 3, 30.0, 0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), family=st.sampled_from(["P", "V"]))
def test_every_view_of_a_sample_overlaps_another(seed, family):
    views = room_sample(seed, 4, 16, family, smooth_edges=False)
    points = views.world_points()
    for i in range(4):
        shares = []
        for j in range(4):
            if i != j:
                xy, z = project(
                    views.intrinsics[j],
                    transform(views.cam_from_world[j], points[i].reshape(-1, 3)),
                )
                shares.append(((z > 0) & (xy >= 0).all(-1) & (xy < 16).all(-1)).mean())
        assert max(shares) > 0.1
