"""The ray caster is exact: against formulas, against itself from another view, and in any company."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_core.geometry import project, transform
from sage_core.world import (
    FAMILIES,
    build_scene,
    look,
    pinhole,
    render_frames,
    render_views,
    room_batch,
    room_sample,
)
from sage_core.world.scenes import Scene, Shape

LEVEL = np.zeros(())


def bare_room(shape=None, centre=(2.0, 1.5, 3.0), size=(1.0, 1.0, 1.0), yaw=0.0):
    """A room of 4 x 3 x 6 m with at most one thing in it."""
    furnished = build_scene(3, "P")
    things = [] if shape is None else [int(shape)]
    count = len(things)
    return Scene(
        seed=0,
        family=furnished.family,
        size=(4.0, 3.0, 6.0),
        shape=np.array(things, np.int64),
        centre=np.array([centre] * count).reshape(-1, 3),
        half=np.array([np.array(size) / 2] * count).reshape(-1, 3),
        yaw=np.array([yaw] * count),
        material=np.array([6] * count, np.int64),
        materials=furnished.materials[:7],
        lamps=furnished.lamps,
        ambient=furnished.ambient,
        tint=furnished.tint,
    )


def ahead(scene, position=(2.0, 1.5, 0.5), yaw=0.0, size=33):
    """Depth along the optical axis and the whole depth map of a level camera."""
    pose = look(np.array([position]), np.array([yaw]), np.zeros(1), np.zeros(1))
    _, depth = render_views(scene, pose, pinhole(60, size, size)[None], size, size)
    return depth[0, size // 2, size // 2], depth[0]


def test_empty_room_shows_the_wall_at_its_distance_everywhere_on_it():
    middle, depth = ahead(bare_room(), size=8)
    assert middle == pytest.approx(5.5, abs=1e-5)
    K = pinhole(60, 8, 8)
    y, x = np.mgrid[0:8, 0:8] + 0.5
    across, down = 5.5 * np.abs(x - 4) / K[0, 0], 5.5 * np.abs(y - 4) / K[1, 1]
    on_far_wall = (across < 2) & (down < 1.5)
    assert on_far_wall.sum() > 8
    np.testing.assert_allclose(depth[on_far_wall], 5.5, atol=1e-5)
    np.testing.assert_array_less(depth[~on_far_wall], 5.5)


@pytest.mark.parametrize(
    ("shape", "yaw", "nearest"),
    [
        (Shape.BOX, 0.0, 2.0),
        (Shape.BOX, np.pi / 4, 2.5 - np.sqrt(0.5)),
        (Shape.ELLIPSOID, 0.3, 2.0),
        (Shape.CYLINDER, 0.3, 2.0),
    ],
)
def test_one_thing_is_met_where_geometry_says(shape, yaw, nearest):
    middle, _ = ahead(bare_room(shape, yaw=yaw))
    assert middle == pytest.approx(nearest, abs=2e-5)


def test_cylinder_is_closed_on_top():
    scene = bare_room(Shape.CYLINDER, centre=(2.0, 0.5, 1.5), size=(1.0, 1.0, 1.0))
    pose = look(
        np.array([[2.0, 2.5, 1.4999]]), np.zeros(1), np.array([-np.pi / 2 + 1e-6]), np.zeros(1)
    )
    _, depth = render_views(scene, pose, pinhole(60, 33, 33)[None], 33, 33)
    assert depth[0, 16, 16] == pytest.approx(1.5, abs=1e-4)
    assert depth.max() == pytest.approx(2.5, abs=1e-3)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6), family=st.sampled_from(sorted(FAMILIES)))
def test_a_point_seen_in_one_view_is_met_at_its_distance_from_another(seed, family):
    """Rays from view 0 through points of view 1 never pass them: they meet them, or something before."""
    views = room_sample(seed, 2, 24, family, smooth_edges=False)
    points = transform(views.cam_from_world[0], views.world_points()[1].reshape(-1, 3))
    pixel, z = project(views.intrinsics[0], points)
    inside = (z > 0.1) & (np.abs(pixel - 12) < 30).all(-1)
    if inside.sum() < 20:
        return
    # A picture of one pixel for each point, whose centre looks exactly at it.
    K = np.repeat(views.intrinsics[:1], inside.sum(), 0)
    K[:, :2, 2] -= pixel[inside] - 0.5
    poses = np.repeat(views.cam_from_world[:1], inside.sum(), 0)
    _, depth = render_views(build_scene(seed, family), poses, K, 1, 1, smooth_edges=False)
    excess = depth[:, 0, 0] / z[inside] - 1
    assert (excess < 1e-4).mean() > 0.997  # but for rays that graze an edge
    assert (np.abs(excess) < 1e-4).mean() > 0.2


def test_same_seed_same_sample_in_any_company():
    alone = room_sample(5, 3, 40, "V")
    again = room_sample(5, 3, 40, "V")
    np.testing.assert_array_equal(alone.images, again.images)
    np.testing.assert_array_equal(alone.depth, again.depth)
    together = room_batch([4, 5, 6], 3, 40, "V")
    np.testing.assert_allclose(together.depth[1], alone.depth, rtol=1e-6)
    difference = np.abs(together.images[1].numpy().astype(int) - alone.images)
    assert difference.max() <= 1
    assert room_sample(6, 3, 40, "V").depth.tobytes() != alone.depth.tobytes()


def test_frames_do_not_depend_on_how_many_are_rendered_at_once():
    scene = build_scene(2, "P")
    sample = room_sample(2, 4, (30, 50), "P")
    poses, K = torch.from_numpy(sample.cam_from_world), torch.from_numpy(sample.intrinsics)
    index = torch.zeros(4, dtype=torch.long)
    image, depth = render_frames([scene], index, poses, K, 30, 50)
    one, one_depth = render_frames([scene], index[2:3], poses[2:3], K[2:3], 30, 50)
    np.testing.assert_allclose(depth[2], one_depth[0], rtol=1e-6)
    assert np.abs(image[2].numpy().astype(int) - one[0].numpy()).max() <= 1


def test_smoothing_touches_edges_only():
    sample = room_sample(1, 2, 64, "P", smooth_edges=False)
    smooth = room_sample(1, 2, 64, "P")
    np.testing.assert_array_equal(sample.depth, smooth.depth)
    changed = (sample.images != smooth.images).any(-1).mean()
    assert 0.01 < changed < 0.5


def test_families_differ_in_look_and_in_size():
    def facts(family):
        scenes = [build_scene(seed, family) for seed in range(30)]
        views = [room_sample(seed, 1, 24, family, smooth_edges=False) for seed in range(8)]
        return (
            np.mean([view.images.mean() for view in views]),
            np.ptp([scene.size[0] for scene in scenes]),
            scenes[0].family.look.bank,
        )

    (light_p, spread_p, bank_p), (light_v, spread_v, bank_v) = facts("P"), facts("V")
    assert light_v < 0.8 * light_p
    assert spread_v > 1.5 * spread_p
    assert bank_p != bank_v
    light_pv, spread_pv, bank_pv = facts("PV")
    assert (light_pv < 0.8 * light_p, spread_pv < 0.7 * spread_v, bank_pv) == (True, True, bank_v)


def test_scenes_of_two_looks_are_not_rendered_together():
    scenes = [build_scene(0, "P"), build_scene(0, "V")]
    pose = torch.eye(3, 4, dtype=torch.float64)[None]
    with pytest.raises(ValueError, match="share one look"):
        render_frames(scenes, torch.zeros(1, dtype=torch.long), pose, torch.eye(3)[None], 8, 8)


def test_unknown_family_is_named():
    with pytest.raises(ValueError, match="'Q': choose one of P, V"):
        build_scene(0, "Q")
