"""Frame lists: by the published rules, the same each time, and never of half a data set unawares."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import layouts

from sage_core.errors import ConfigError, MediaError, SageError
from sage_core.evaluation.datasets import data_set
from sage_core.evaluation.datasets._readers import PictureReader
from sage_core.evaluation.datasets._scene import Frame, Scene
from sage_core.evaluation.datasets.neural_rgbd import SCENES
from sage_core.evaluation.datasets.seven_scenes import TEST_SEQUENCES
from sage_core.evaluation.metrics import tree
from sage_core.evaluation.protocols import (
    FrameList,
    Strided,
    _strided,
    frame_list,
    protocol_named,
)
from sage_core.evaluation.published_tuples import SQUARED_RADIUS, Clouds, grow, joins
from sage_core.world import pinhole

HEIGHT, WIDTH, FRAMES = 48, 64, 14


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scannet")
    K = pinhole(60, HEIGHT, WIDTH)
    for name, seed in (("scene0000_00", 4), ("scene0001_00", 5)):
        layouts.scannet(folder, layouts.rendered(FRAMES, K, HEIGHT, WIDTH, seed), name)
    return folder


def few(name):
    """A protocol of four tuples."""
    protocol = protocol_named(name)
    if not hasattr(protocol.frames, "count"):
        return protocol
    return replace(protocol, frames=replace(protocol.frames, count=4))


def bare(count, lost=(), gone=()):
    """A scene of so many numbers with nothing behind them."""
    numbers = [n for n in range(count) if n not in lost and n not in gone]
    frames = tuple(Frame(n, Path("x"), Path("x"), np.eye(3), np.eye(4)[:3]) for n in numbers)
    return Scene("s", Path("s"), frames, PictureReader(1000, 10), tuple(lost))


@pytest.mark.parametrize(
    ("protocol", "data", "length", "frames"),
    [
        ("cut3r", "7scenes", 1000, [0, 200, 400, 600, 800]),
        ("cut3r", "7scenes", 500, [0, 200, 400]),
        ("cut3r", "nrgbd", 1500, [0, 500, 1000]),
        ("cut3r", "nrgbd", 300, [0, 150]),
        ("pi3-sparse", "nrgbd", 1600, [0, 500, 1000, 1500]),
        ("pi3-dense", "7scenes", 1000, list(range(0, 1000, 40))),
        ("pi3-dense", "7scenes", 500, list(range(0, 500, 40))),
        ("pi3-dense", "nrgbd", 1000, list(range(0, 1000, 100))),
        ("spann3r", "7scenes", 1000, list(range(0, 1000, 20))),
        ("spann3r", "nrgbd", 1000, list(range(0, 1000, 40))),
    ],
)
def test_strides_are_the_published_ones(protocol, data, length, frames):
    """Frame ids of Pi3's published maps, and what CUT3R's and Spann3R's loaders take."""
    rule = protocol_named(protocol).frames
    assert isinstance(rule, Strided)
    assert list(_strided(rule, data, bare(length))) == frames


def test_a_frame_whose_pose_was_lost_is_left_out_of_its_stride():
    rule = protocol_named("pi3-sparse").frames
    assert _strided(rule, "nrgbd", bare(1600, lost=(500,))) == (0, 1000, 1500)


def test_a_thinned_out_copy_is_strided_by_as_many_numbers():
    thin = bare(1000, gone=[n for n in range(1000) if n % 10])
    assert _strided(protocol_named("pi3-dense").frames, "7scenes", thin)[:3] == (0, 40, 80)


def test_the_reported_scenes_are_known():
    assert len(TEST_SEQUENCES) == 18
    assert len(SCENES) == 9


@pytest.mark.parametrize("name", ["sage-4", "relpose-10"])
def test_lists_are_the_same_each_time_and_hashed(name, root):
    lists = [frame_list(few(name), data_set("scannet"), root) for _ in range(2)]
    assert lists[0] == lists[1]
    assert lists[0].id.startswith(f"{name}/scannet")
    assert FrameList.from_json(lists[0].to_json()) == lists[0]
    other = frame_list(few("sage-8"), data_set("scannet"), root)
    assert other.digest != lists[0].digest


def test_sage_tuples_have_other_frames_as_targets(root):
    drawn = frame_list(few("sage-8"), data_set("scannet"), root, most=3)
    assert {one.scene for one in drawn.tuples} == {"scene0000_00", "scene0001_00"}
    for one in drawn.tuples:
        assert (len(one.inputs), len(one.targets)) == (8, 2)
        assert len({*one.inputs, *one.targets}) == 10
    assert drawn.name == "sage-8/scannet/partial"


def test_published_growth_keeps_its_rule(root):
    scene = next(iter(data_set("scannet").scenes(root).values()))()
    clouds = Clouds(scene, stride=3)
    grown = grow(clouds, 3, 1, (0.05, 1.0), np.random.default_rng(0))
    assert grown is not None
    inputs, targets = grown
    for k in range(1, 3):
        assert joins([clouds.score(i, inputs[k]) for i in inputs[:k]], 0.05, 1.0)
    assert clouds.cover(inputs, targets[0]) > 0.95
    assert grow(clouds, 3, 0, (1.5, 2.0), np.random.default_rng(0)) is None


def test_union_of_clouds_covers_as_one_cloud_does(root):
    scene = next(iter(data_set("scannet").scenes(root).values()))()
    clouds = Clouds(scene)
    both = tree(np.concatenate([clouds._cloud(0), clouds._cloud(6)]))
    squared = np.square(both.query(clouds._asked(3))[0])
    near = (squared > 0) & (squared < SQUARED_RADIUS * clouds.stride)
    assert clouds.cover([0, 6], 3) == pytest.approx(near.mean())


def test_half_a_data_set_is_measured_only_when_asked(tmp_path):
    room = layouts.rendered(3, pinhole(60, HEIGHT, WIDTH), HEIGHT, WIDTH)
    layouts.seven_scenes(tmp_path, room)
    protocol, reading = protocol_named("relpose-10"), data_set("7scenes:raw")
    with pytest.raises(ConfigError, match=r"lacks 17 of the 18 scenes.*--partial"):
        frame_list(protocol, reading, tmp_path)
    with pytest.raises(SageError, match="no tuple can be drawn from its 3 frames"):
        frame_list(protocol, reading, tmp_path, partial=True)


def test_a_gap_in_the_numbers_is_an_error(root, tmp_path):
    room = layouts.rendered(4, pinhole(60, HEIGHT, WIDTH), HEIGHT, WIDTH)
    folder = layouts.scannet(tmp_path, room)
    for path in folder.glob("*/1.*"):
        path.unlink()
    protocol, reading = protocol_named("pi3-dense"), data_set("scannet")
    with pytest.raises(MediaError, match=r"lacks 1 of its frames \(1\)"):
        frame_list(protocol, reading, tmp_path)
    with pytest.raises(SageError, match="no tuple of pi3-dense can be drawn"):
        frame_list(protocol, reading, tmp_path, partial=True)


def test_unknown_protocols_are_answered_with_the_known_ones():
    with pytest.raises(ConfigError, match=r"there are sage-4, .*relpose-10"):
        protocol_named("icp")
