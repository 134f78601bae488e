import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sage_core.sfm.turns import Matched, rotation_residual_px

SIZE = np.array([640, 480])
NOISE_PX = 0.3
LENSES = st.floats(0.3, 4.0)


def seen(points, focal_px):
    """Where points [M, 3] in the camera's axes lie, from the picture's middle."""
    return focal_px * points[:, :2] / points[:, 2:]


def matched(xyz, moves, ratio, rng, zooms=None):
    """Matches of a still first camera with one that moved by each of ``moves``, by a lens of that ratio."""
    focal = ratio * SIZE.max()
    pairs = []
    for at, (turn, shift) in enumerate(moves):
        zoom = 1.0 if zooms is None else zooms[at]
        a = seen(xyz, focal)
        b = seen(xyz @ turn.as_matrix().T + shift, zoom * focal)
        both = (np.abs(b) < SIZE / 2).all(1) & (xyz @ turn.as_matrix().T + shift > 0.1)[:, 2]
        noise = rng.normal(0, NOISE_PX / 1.7, (2, both.sum(), 2))
        pairs.append(Matched(a[both] + noise[0], b[both] + noise[1], (640, 640)))
    return pairs


def wall(rng, ratio, slant_deg=0.0, rough=0.0):
    """Points [M, 3] that the first camera sees, on a plane 4 m away that is turned about the vertical."""
    rays = np.c_[(rng.uniform(-0.5, 0.5, (150, 2)) * SIZE) / (ratio * 640), np.ones(150)]
    normal = Rotation.from_euler("y", slant_deg, degrees=True).apply([0, 0, 1])
    depth = 4 / (rays @ normal) * (1 + rough * rng.uniform(-1, 1, 150))
    return rays * depth[:, None]


def turns(rng, ratio, count=12):
    """Rotations about any axis by up to a quarter of the picture, or 20 degrees."""
    most = min(0.35, 0.25 / ratio)
    return [Rotation.from_rotvec(rng.uniform(-most, most, 3)) for _ in range(count)]


def shifts(rng, count=12):
    return rng.uniform(0.2, 0.8, count)[:, None] * np.array([1.0, 0.1, 0.2])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), LENSES)
def test_a_turn_leaves_the_noise_whatever_its_lens_and_scene(seed, ratio):
    rng = np.random.default_rng(seed)
    moves = [(turn, np.zeros(3)) for turn in turns(rng, ratio)]
    assert rotation_residual_px(matched(wall(rng, ratio, rough=0.7), moves, ratio, rng)) < 0.6


def test_a_zoom_in_a_turn_is_still_a_turn():
    rng = np.random.default_rng(3)
    zooms = rng.uniform(0.7, 1.4, 12)
    moves = [(turn, np.zeros(3)) for turn in turns(rng, 0.8)]
    assert rotation_residual_px(matched(wall(rng, 0.8), moves, 0.8, rng, zooms)) < 0.6


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.4, 1.5), st.floats(25, 60))
def test_a_plane_passed_at_a_slant_is_no_turn(seed, ratio, slant_deg):
    rng = np.random.default_rng(seed)
    moves = [(Rotation.identity(), shift) for shift in shifts(rng)]
    assert rotation_residual_px(matched(wall(rng, ratio, slant_deg), moves, ratio, rng)) > 1.5


def test_a_plane_faced_squarely_tells_no_more_than_a_turn():
    rng = np.random.default_rng(4)
    for ahead in (np.array([0.4, 0.0, 0.0]), np.array([0.0, 0.0, -1.2])):
        moves = [(Rotation.identity(), step * ahead) for step in (0.3, 0.6, 1.0)]
        assert rotation_residual_px(matched(wall(rng, 0.8), moves, 0.8, rng)) < 1.0


def test_depth_is_no_turn():
    rng = np.random.default_rng(5)
    moves = [(turn, shift) for turn, shift in zip(turns(rng, 0.8), shifts(rng), strict=True)]
    assert rotation_residual_px(matched(wall(rng, 0.8, rough=0.5), moves, 0.8, rng)) > 5


def test_each_pair_may_turn_but_all_share_a_lens():
    rng = np.random.default_rng(6)
    wide, long = (
        matched(wall(rng, ratio), [(t, np.zeros(3)) for t in turns(rng, ratio)], ratio, rng)
        for ratio in (0.5, 1.5)
    )
    assert max(map(rotation_residual_px, (wide, long))) < 0.6
    assert rotation_residual_px(wide + long) > 2


def test_a_few_wrong_pairs_do_not_make_a_turn_a_travel():
    rng = np.random.default_rng(7)
    pairs = matched(wall(rng, 0.8), [(t, np.zeros(3)) for t in turns(rng, 0.8)], 0.8, rng)
    pairs[:2] = [
        Matched(pair.first, rng.permutation(pair.second), (640, 640)) for pair in pairs[:2]
    ]
    assert rotation_residual_px(pairs) < 0.6


def test_the_figure_is_in_pixels_of_the_second_picture():
    rng = np.random.default_rng(8)
    moves = [(Rotation.identity(), shift) for shift in shifts(rng)]
    pairs = matched(wall(rng, 0.8, rough=0.5), moves, 0.8, rng)
    twice = [Matched(2 * pair.first, 2 * pair.second, (1280, 1280)) for pair in pairs]
    assert rotation_residual_px(twice) == pytest.approx(2 * rotation_residual_px(pairs), rel=1e-6)


def test_no_pairs_no_figure():
    assert rotation_residual_px([]) is None
