"""Every layout is read as what was rendered into it; what is wrong with a copy is named."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
import layouts

from sage_core.errors import ConfigError, MediaError
from sage_core.evaluation.datasets import DATASETS, check_scene, data_set
from sage_core.evaluation.datasets.scannet_sens import unpack
from sage_core.geometry import compose, invert
from sage_core.world import pinhole

SHARED = Path(os.environ.get("SAGE_SHARED", Path(__file__).parents[4] / "shared"))
FRAMES, HEIGHT, WIDTH = 8, 120, 160
K = pinhole(60, HEIGHT, WIDTH)
K[1, 2] += 9  # off the middle, to be seen


@pytest.fixture(scope="module")
def room():
    return layouts.rendered(FRAMES, K, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def centred():
    return layouts.rendered(FRAMES, pinhole(60, HEIGHT, WIDTH), HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def kinect():
    """At a Kinect's size, through TUM's third camera."""
    fr3 = np.array([[535.4, 0, 320.6], [0, 539.2, 248.1], [0, 0, 1]])
    return layouts.rendered(4, fr3, 480, 640)


def only(name, root):
    (opened,) = data_set(name).scenes(root).values()
    return opened()


WRITERS = {
    "7scenes:raw": layouts.seven_scenes,
    "scannet": layouts.scannet,
    "matterport3d": layouts.matterport,
    "uasol": layouts.uasol,
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_read_is_what_was_rendered(name, room, tmp_path):
    WRITERS[name](tmp_path, room)
    _is(only(name, tmp_path), room)


def test_neural_rgbd_and_its_lost_poses(centred, tmp_path):
    layouts.neural_rgbd(tmp_path, centred, lost=(2,))
    scene = only("nrgbd", tmp_path)
    assert (scene.lost, scene.missing) == ((2,), [])
    kept = [0, 1, 3, 4, 5, 6, 7]
    _is(
        scene,
        replace(centred, **{f: getattr(centred, f)[kept] for f in ("images", "depth", "poses")}),
    )


def test_tum_without_distortion(kinect, tmp_path):
    layouts.tum(tmp_path, kinect)
    _is(only("tum", tmp_path), kinect)


def test_tum_straightens_a_distorted_lens(kinect, tmp_path):
    """Pictures as freiburg1's lens would have shown them: straightened, they agree with the truth again."""
    matrix = np.array([[517.3, 0, 318.6], [0, 516.5, 255.3], [0, 0, 1]])
    lens = np.array([0.2624, -0.9531, -0.0054, 0.0026, 1.1633])
    grid = np.stack(np.meshgrid(np.arange(640.0), np.arange(480.0)), -1).reshape(-1, 1, 2)
    rays = cv2.undistortPoints(grid, matrix, lens, None, None).reshape(480, 640, 2)
    focal, middle = kinect.K[[0, 1], [0, 1]], kinect.K[:2, 2] - 0.5
    x, y = np.moveaxis((rays * focal + middle).astype(np.float32), -1, 0)
    bent = replace(
        kinect,
        images=np.stack([cv2.remap(i, x, y, cv2.INTER_LINEAR) for i in kinect.images]),
        depth=np.stack([cv2.remap(d, x, y, cv2.INTER_NEAREST) for d in kinect.depth]),
    )
    layouts.tum(tmp_path, bent, "rgbd_dataset_freiburg1_room")
    scene = only("tum", tmp_path)
    views = scene.views([0])
    points = views.world_points()[0][views.valid[0]]
    camera = points @ kinect.poses[0][:, :3].T + kinect.poses[0][:, 3]
    column, row = (camera[:, :2] / camera[:, 2:] * focal + kinect.K[:2, 2]).T
    inside = (column >= 0) & (column < 640) & (row >= 0) & (row < 480)
    true = kinect.depth[0][row[inside].astype(int), column[inside].astype(int)]
    assert np.median(np.abs(true - camera[inside, 2])) < 2e-3
    assert np.mean(np.abs(true - camera[inside, 2]) < 0.02) > 0.97
    assert check_scene(scene).sound


def test_seven_scenes_registers_depth_to_colour(kinect, tmp_path):
    """Depth of a camera beside the colour camera lands at the colour camera's depth."""
    depth_K = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])
    beside = layouts.rendered(4, depth_K, 480, 640)
    layouts.seven_scenes(tmp_path / "a", beside, own_camera=False)
    scene = only("7scenes", tmp_path / "a")
    assert scene.frames[0].intrinsics[0, 0] == 525
    assert "registered" in scene.note
    moved, raw = scene.depth(1), beside.depth[1]
    assert 0.6 < np.mean(moved > 0) < 1  # 585 pixels of depth on 525 of colour leave a margin
    middle = moved[200:280, 280:360]
    assert np.median(np.abs(middle[middle > 0] / np.median(raw[200:280, 280:360]) - 1)) < 0.1
    layouts.seven_scenes(tmp_path / "b", beside, depth_name="depth.proj", own_camera=False)
    projected = only("7scenes", tmp_path / "b")
    assert projected.note == "depth.proj.png"
    np.testing.assert_allclose(projected.depth(1), raw, atol=6e-4)


def _is(scene, truth):
    assert len(scene) == len(truth.images)
    np.testing.assert_allclose(scene.cam_from_world, truth.poses, atol=2e-5)
    views = scene.views([1, 3])
    np.testing.assert_allclose(views.intrinsics[0], truth.K, atol=1e-4)
    np.testing.assert_allclose(views.depth, truth.depth[[1, 3]], atol=6e-4)
    assert np.abs(views.images.astype(int) - truth.images[[1, 3]]).mean() < 6
    found = check_scene(scene)
    assert found.sound, found.verdict()


def test_a_sens_file_unpacks_into_the_exported_layout(room, tmp_path):
    file = layouts.sens(tmp_path / "scene.sens", room)
    assert unpack(file, tmp_path / "out" / "scene0001_00", every=2) == FRAMES // 2
    scene = only("scannet", tmp_path / "out")
    assert [frame.number for frame in scene.frames] == [0, 2, 4, 6]
    np.testing.assert_allclose(scene.cam_from_world, room.poses[::2], atol=1e-4)
    np.testing.assert_allclose(scene.depth(1), room.depth[2], atol=6e-4)
    with pytest.raises(MediaError, match="is there already"):
        unpack(file, tmp_path / "out" / "scene0001_00")
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(MediaError, match="ends 10 bytes early"):
        unpack(file, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


class Spoilt:
    """A reader whose depth is wrong."""

    def __init__(self, reader, wrong):
        self.reader, self.wrong = reader, wrong

    def depth(self, path):
        return self.wrong(self.reader.depth(path)).astype(np.float32)

    def colour(self, path, size):
        return self.reader.colour(path, size)


def posed(scene, change):
    frames = (replace(f, cam_from_world=change(f.cam_from_world)) for f in scene.frames)
    return replace(scene, frames=tuple(frames))


def along_ray(depth):
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] + 0.5
    rays = np.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], np.ones_like(x)])
    return depth * np.linalg.norm(rays, axis=0)


FLIP = np.eye(4)[:3] * [[1], [-1], [-1]]
MISTAKES = {
    "scale": (
        lambda s: replace(s, reader=Spoilt(s.reader, lambda d: 5 * d)),
        "depth is 5 × too large",
    ),
    "unit": (
        lambda s: replace(s, reader=Spoilt(s.reader, lambda d: 0.2 * d)),
        "depth is 5 × too small",
    ),
    "poses": (lambda s: posed(s, invert), "poses are world-from-camera"),
    "axes": (lambda s: posed(s, lambda p: compose(FLIP, p)), "y and z axes are flipped"),
    "ray": (lambda s: replace(s, reader=Spoilt(s.reader, along_ray)), "distance along the ray"),
}


@pytest.fixture(scope="module")
def sound(room, tmp_path_factory):
    root = tmp_path_factory.mktemp("sound")
    layouts.uasol(root, room)
    return only("uasol", root)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(sound, mistake):
    spoil, words = MISTAKES[mistake]
    found = check_scene(spoil(sound))
    assert not found.sound
    assert words in found.verdict()
    assert found.best > 0.8 > found.consistent


def test_variants_are_told_apart_by_the_check(room, tmp_path):
    layouts.matterport(tmp_path / "m", room)
    right, wrong = (
        check_scene(only(n, tmp_path / "m")) for n in ("matterport3d", "matterport3d:cy-top")
    )
    assert right.sound
    assert not wrong.mistake.words() or "principal point's y" in wrong.verdict()
    assert wrong.consistent < right.consistent
    layouts.uasol(tmp_path / "u", room)
    assert "poses are" in check_scene(only("uasol:world-to-camera", tmp_path / "u")).verdict()


def test_views_that_do_not_move_do_not_tell_the_scale(sound):
    still = posed(sound.select([0, 0, 0]), lambda p: p)
    low, high = check_scene(still).scale_band
    assert high / low > 4


def test_nonsense_is_explained_by_nothing(sound):
    noise = np.random.default_rng(0).uniform(0.5, 5, (HEIGHT, WIDTH))
    found = check_scene(replace(sound, reader=Spoilt(sound.reader, lambda d: noise * d)))
    assert not found.sound
    assert "no known mistake" in found.verdict()


BROKEN = {
    "tum": (lambda f: next((f / "rgb").iterdir()).unlink(), "is listed but not there|is not there"),
    "scannet": (lambda f: (f / "depth/3.png").unlink(), r"frame 3 lacks its file in depth/"),
    "matterport3d": (
        lambda f: (f / "undistorted_depth_images/a_d0_1.png").unlink(),
        "a_d0_1.png is listed but not there",
    ),
    "uasol": (lambda f: (f / "Images/left2.png").unlink(), "left2.png is listed but not there"),
    "nrgbd": (lambda f: (f / "depth/depth4.png").unlink(), r"frame 4 lacks depth/depth4.png"),
    "7scenes:raw": (lambda f: (f / "frame-000002.pose.txt").unlink(), "frame-000002 lacks"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_missing_file_is_named(name, room, kinect, tmp_path):
    writers = {**WRITERS, "nrgbd": layouts.neural_rgbd, "tum": layouts.tum}
    folder = writers[name](tmp_path, kinect if name == "tum" else room)
    spoil, message = BROKEN[name]
    spoil(folder)
    with pytest.raises(MediaError, match=message):
        only(name, tmp_path)


def test_poses_that_are_not_finite_are_left_out_and_counted(room, tmp_path):
    folder = layouts.scannet(tmp_path, room)
    (folder / "pose/5.txt").write_text("-inf -inf -inf -inf\n" * 4)
    scene = only("scannet", tmp_path)
    assert (len(scene), scene.lost, scene.missing) == (FRAMES - 1, (5,), [])
    for number in range(FRAMES - 1):
        (folder / f"pose/{number}.txt").write_text("nan nan nan nan\n" * 4)
    with pytest.raises(MediaError, match="1 frames with a finite pose"):
        only("scannet", tmp_path)


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_without_the_data_set_is_said(name, tmp_path):
    with pytest.raises(MediaError, match="holds no"):
        data_set(name).scenes(tmp_path)
    with pytest.raises(MediaError, match="is no folder"):
        data_set(name).scenes(tmp_path / "nowhere")


def test_unknown_names_are_answered_with_the_known_ones():
    for name in ("kitti", "7scenes:cooked"):
        with pytest.raises(ConfigError, match="there are 7scenes, 7scenes:raw, tum"):
            data_set(name)


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "data/rgbd").is_dir(), reason="SAGE_SHARED has no data/rgbd")
@pytest.mark.parametrize(
    ("name", "folder", "frames"),
    [("7scenes", "7scenes_png", 9), ("7scenes:raw", "realsense_box", 17), ("tum", "tum", 9)],
)
def test_real_recordings_agree_with_themselves(name, folder, frames):
    scene = only(name, SHARED / "data/rgbd" / folder)
    found = check_scene(scene)
    assert len(scene) == frames
    assert found.sound, found.verdict()
    assert found.consistent > 0.85
