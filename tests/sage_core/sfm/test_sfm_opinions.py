"""Second opinions on models whose truth is known: paths, halves of tracks, lenses, parts."""

from functools import partial

import numpy as np
import pycolmap
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sage_core.config.reconstruct import GateConfig, ReconstructConfig
from sage_core.geometry import Camera, camera_centres, invert, transform
from sage_core.sfm import judge as judge_module
from sage_core.sfm.copies import only
from sage_core.sfm.figures import focal_sigma
from sage_core.sfm.gate import confirmed
from sage_core.sfm.halves import SplitHalf, hinge, split_half, without_tracks
from sage_core.sfm.lenses import focal_spread, free_principal_point
from sage_core.sfm.model import frame_name
from sage_core.sfm.parts import frames_of, split_models
from sage_core.sfm.trajectories import distance, poses_of

SIZE, FOCAL = (400, 300), 330.0


def path(count, seed=0):
    """cam_from_world [N, 3, 4] by frame, on an arc, looking at the origin's surroundings."""
    rng = np.random.default_rng(seed)
    found = {}
    for frame, t in enumerate(np.linspace(0, 1.2, count)):
        centre = np.array([4 * np.sin(t), 0.5 * np.sin(5 * t), -4 * np.cos(t)])
        ahead = 0.3 * rng.normal(size=3) - centre
        ahead /= np.linalg.norm(ahead)
        right = np.cross([0, 1, 0], ahead)
        right /= np.linalg.norm(right)
        R = np.stack([right, np.cross(ahead, right), ahead])
        found[frame] = np.concatenate([R, -(R @ centre)[:, None]], 1)
    return found


def never(half):
    """No subset confirms: the nearest counts."""
    return False


def mapped(poses, true_cameras, camera, points=120, noise=0.2):
    """COLMAP's model of those frames, seen by one camera each, but holding the one camera given."""
    rng = np.random.default_rng(1)
    xyz = rng.uniform(-1.5, 1.5, (points, 3))
    model = pycolmap.Reconstruction()
    params = [camera.fx, camera.cx, camera.cy, 0.0]
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(
            camera_id=1, model="SIMPLE_RADIAL", width=SIZE[0], height=SIZE[1], params=params
        )
    )
    for point in xyz:
        model.add_point3D(point, pycolmap.Track())
    for frame, pose in poses.items():
        xy = true_cameras[frame].project(transform(pose, xyz)) + rng.normal(0, noise, (points, 2))
        image = pycolmap.Image(
            name=frame_name(frame), keypoints=xy, camera_id=1, image_id=frame + 1
        )
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose))
        for row in range(points):
            model.add_observation(row + 1, pycolmap.TrackElement(frame + 1, row))
    model.update_point_3d_errors()
    return model


def lens(focal=FOCAL, cx=SIZE[0] / 2, cy=SIZE[1] / 2):
    return Camera(*SIZE, focal, focal, cx, cy)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_paths_in_different_worlds_are_the_same(seed, scale):
    rng = np.random.default_rng(seed)
    ours = path(9)
    R = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    R *= np.sign(np.linalg.det(R))
    theirs = {}
    for frame, pose in ours.items():
        turned, centre = pose[:, :3] @ R.T, scale * R @ camera_centres(pose[None])[0]
        theirs[frame] = np.concatenate([turned, -(turned @ centre)[:, None]], 1)
    found = distance(theirs, ours)
    assert found.percent < 1e-6
    assert found.deg < 1e-4


def test_one_camera_off_its_path_counts_and_few_or_still_ones_tell_nothing():
    ours, theirs = path(12), path(12)
    theirs[5] = theirs[5] + np.array([0, 0, 0, 0.5])
    assert distance(ours, theirs).percent > 2
    assert distance(path(4), path(4)) is None
    still = dict.fromkeys(range(9), ours[0])
    assert distance(still, still) is None


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_no_track_is_in_both_halves(seed):
    rng = np.random.default_rng(seed)
    pairs = [(1, 2), (2, 3), (1, 3), (3, 4)]
    matches = [np.stack([rng.permutation(12)[:8], rng.permutation(12)[:8]], 1) for _ in pairs]
    halves = [without_tracks(pairs, matches, half, 2, seed) for half in (1, 0)]
    ends = [set(), set()]
    for pair, rows, one, other in zip(pairs, matches, *halves, strict=True):
        assert (one ^ other).all()
        for half, chosen in enumerate((one, other)):
            ends[half] |= {
                (image, row) for m in rows[chosen] for image, row in zip(pair, m, strict=True)
            }
    assert not ends[0] & ends[1]


def test_halves_of_many_tracks_are_even():
    rows = np.stack([np.arange(1000)] * 2, 1)
    for of in (2, 3):
        (kept,) = without_tracks([(1, 2)], [rows], 0, of, 3)
        assert abs(kept.mean() - (1 - 1 / of)) < 0.01
    assert without_tracks([], [], 0, 2, 3) == []


def test_a_hinge_is_found_where_two_halves_part():
    full, bent = path(24), path(24)
    for frame in range(13, 24):  # one half leaps between two frames, and goes on as it should
        world = invert(bent[frame])
        world[:, 3] += [2.0, 0, 1.0]
        bent[frame] = invert(world)
    halves = [[bent, {0: full[0]}], [bent]]
    apart = split_half(halves, full, never)
    assert apart.percent > 2
    assert apart.share == 1

    def confirmed(half):
        return half.percent is not None and half.percent < 1

    assert not confirmed(apart)
    assert hinge(halves, full, 8, confirmed) == 13
    assert (
        hinge(halves, full, 12, confirmed) == 13
    )  # the second side is too short, the first is kept
    assert hinge(halves, full, 14, confirmed) is None


def test_one_half_that_confirms_is_enough_and_none_tells_nothing():
    full, bent = path(24), path(24, seed=1)
    some = {frame: full[frame] for frame in range(12)}
    assert split_half([[bent], [full]], full, never).percent < 1e-6
    assert split_half([[bent], [some]], full, never).share == 0.5
    assert split_half([[], [{0: full[0]}]], full, never) == SplitHalf(None, None, 0.0)


def test_a_half_within_the_limits_confirms_whichever_comes_first():
    full, turned, moved = path(24), path(24), path(24)
    for frame, pose in turned.items():  # nearer on the whole, but beyond the limit of the angle
        pose[:, :3] = (
            Rotation.from_euler("z", 1.5 * (-1) ** frame, degrees=True).as_matrix() @ pose[:, :3]
        )
        pose[:, 3] = -pose[:, :3] @ camera_centres(full[frame][None])[0]
    rng = np.random.default_rng(2)
    for pose in moved.values():
        pose[:, 3] += rng.normal(0, 0.06, 3)
    gate = GateConfig(max_split_half_percent=3)
    judged = partial(confirmed, gate=gate)
    assert not judged(split_half([[turned]], full, never))
    assert split_half([[turned], [moved]], full, never) == split_half([[turned]], full, never)
    one, other = (
        split_half(order, full, judged) for order in ([[turned], [moved]], [[moved], [turned]])
    )
    assert judged(one)
    assert one == other


def test_a_principal_point_beside_the_middle_is_found():
    poses = path(12)
    beside = lens(cx=SIZE[0] / 2 + 60)
    freed, found = free_principal_point(mapped(poses, dict.fromkeys(poses, beside), lens()))
    assert found.offset == pytest.approx(60 / 400, abs=5 * found.sigma)
    assert found.sigma < 0.01
    assert distance(poses_of(freed), poses).percent < 0.5
    _, centred = free_principal_point(mapped(poses, dict.fromkeys(poses, lens()), lens()))
    assert centred.offset < 5 * centred.sigma


def test_a_zoom_shows_in_the_thirds_of_a_clip():
    poses = path(18)
    zoom = {frame: lens(FOCAL * (1 + 0.2 * frame / 17)) for frame in poses}
    found = focal_spread(mapped(poses, zoom, lens(1.1 * FOCAL)))
    assert 0.08 < found.spread < 0.2
    assert found.beyond_doubt > 0.05
    steady = focal_spread(mapped(poses, dict.fromkeys(poses, lens()), lens()))
    assert steady.beyond_doubt < 0.002
    assert focal_spread(mapped(path(8), dict.fromkeys(range(8), lens()), lens())) is None


def test_a_point_behind_its_cameras_does_not_make_the_focal_length_open():
    poses = path(18)
    zoom = {frame: lens(FOCAL * (1 + 0.2 * frame / 17)) for frame in poses}
    model = mapped(poses, zoom, lens(1.1 * FOCAL))
    track = [(e.image_id, e.point2D_idx) for e in model.points3D[1].track.elements]
    for observation in track[2:]:
        model.delete_observation(*observation)
    model.points3D[1].xyz = np.array([0.0, 0.0, -100.0])
    found = focal_spread(model)
    assert found.sigma < 0.01
    assert found.beyond_doubt > 0.05


def test_a_model_with_fewer_frames_can_still_be_judged():
    poses = path(10)
    model = mapped(poses, dict.fromkeys(poses, lens()), lens())
    fewer = only(model, {frame_name(frame) for frame in range(3, 9)})
    assert frames_of(fewer) == list(range(3, 9))
    assert focal_sigma(fewer) > 0  # COLMAP's covariance refuses frames that lost their pose
    assert only(model, {frame_name(frame) for frame in poses}) is model
    assert distance(poses_of(fewer), poses).percent < 1e-9


def test_parts_are_unbroken_and_disjoint():
    poses, keys = path(40), list(range(40))
    cameras = dict.fromkeys(poses, lens())

    def of(frames):
        return mapped({frame: poses[frame] for frame in frames}, cameras, lens(), points=30)

    broken = of([*range(16), *range(22, 40)])  # six key frames are missing: two parts
    other = of(range(10, 24))  # what it shares with them stays theirs
    assert [frames_of(part) for part in split_models([broken, other], keys, 6)] == [
        list(range(22, 40)),
        list(range(16)),
        list(range(16, 22)),
    ]
    with_gap = of([*range(10), *range(13, 20)])  # three are missing: neighbours still match across
    assert [len(frames_of(part)) for part in split_models([with_gap], keys, 6)] == [17]
    assert len(split_models([of(range(5))], keys, 6)) == 1  # the first is judged, however small


@pytest.mark.parametrize(
    ("apart", "asked"),
    [
        (0, [(1, 2)]),
        (1, [(1, 2), (0, 2)]),
        (2, [(1, 2), (0, 2), (1, 3)]),
        (4, [(1, 2), (0, 2), (1, 3), (2, 3)]),
    ],
)
def test_subsets_are_mapped_until_one_confirms_the_path(monkeypatch, apart, asked):
    right, wrong = path(15), path(15)
    for frame in range(8, 15):
        wrong[frame][:, 3] += 0.4
    mapped_now = []

    def map_subset(bench, model, n_frames, deadline_cpu_s, left_out):
        mapped_now.append(left_out)
        return [wrong if len(mapped_now) <= apart else right]

    monkeypatch.setattr(judge_module, "map_subset", map_subset)
    judge = judge_module.Judge(ReconstructConfig(), None, None, None, 15)
    for _ in range(2):  # a second part asks the same maps
        found = judge._split_half(None, right)
        assert mapped_now == asked
        assert confirmed(found, ReconstructConfig().gate) is (apart < 4)
