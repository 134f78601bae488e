"""The 7-Scenes layout: what is read is what was written, and what is broken is named."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from sage_core.errors import MediaError, SageError
from sage_core.evaluation.datasets.seven_scenes import find_sequences, open_sequence
from sage_core.evaluation.tuples import draw_tuples, frozen_tuples, overlap_matrix
from sage_core.geometry import invert, project, transform
from sage_core.world import build_scene, camera_path, pinhole, render_views

SHARED = Path(os.environ.get("SAGE_SHARED", Path(__file__).parents[4] / "shared"))
HEIGHT, WIDTH, FRAMES = 48, 64, 12


@pytest.fixture(scope="module")
def rendered():
    scene = build_scene(4, "V")
    poses = camera_path(scene, "walkthrough", FRAMES, 2.0, 0)
    K = pinhole(50, HEIGHT, WIDTH)
    images, depth = render_views(scene, poses, np.repeat(K[None], FRAMES, 0), HEIGHT, WIDTH)
    return poses, K, images, depth


@pytest.fixture
def folder(tmp_path, rendered):
    """A sequence on disk, in the layout of the data set."""
    poses, K, images, depth = rendered
    target = tmp_path / "room" / "seq-01"
    target.mkdir(parents=True)
    np.savetxt(tmp_path / "room" / "camera-intrinsics.txt", K)
    for i in range(FRAMES):
        stem = target / f"frame-{10 * i:06d}"
        cv2.imwrite(f"{stem}.color.png", images[i][..., ::-1])
        millimetres = np.round(depth[i] * 1000).astype(np.uint16)
        millimetres[0, :3] = 0, 65535, 12_000
        cv2.imwrite(f"{stem}.depth.png", millimetres)
        pose = np.eye(4)
        pose[:3] = invert(poses[i])
        np.savetxt(f"{stem}.pose.txt", pose)
    return target


def test_reads_what_was_rendered(folder, rendered):
    poses, K, images, depth = rendered
    sequence = open_sequence(folder)
    assert (len(sequence), sequence.lost, sequence.name) == (FRAMES, (), "room/seq-01")
    views = sequence.views([3, 1])
    np.testing.assert_array_equal(views.images[0], images[3])
    np.testing.assert_allclose(views.cam_from_world[1], poses[1], atol=1e-9)
    np.testing.assert_allclose(views.intrinsics[0], K)
    np.testing.assert_allclose(views.depth[0, 1:], depth[3, 1:], atol=6e-4)
    assert not views.valid[0, 0, :3].any()
    assert views.name == "room/seq-01[30,10]"


def test_jpeg_colour_and_lost_frames(folder):
    colour = folder / "frame-000020.color.png"
    cv2.imwrite(str(colour.with_suffix(".jpg")), cv2.imread(str(colour)))
    colour.unlink()
    (folder / "frame-000030.pose.txt").write_text("\n".join(["nan nan nan nan"] * 4))
    sequence = open_sequence(folder)
    assert (len(sequence), sequence.lost) == (FRAMES - 1, (30,))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "frame-000050.depth.png").unlink(), "frame-000050 lacks"),
        (lambda f: (f / "frame-000050.color.png").unlink(), "frame-000050 lacks"),
        (lambda f: (f / "frame-000000.pose.txt").write_text("1 2 3"), "holds 3 numbers, not 16"),
        (lambda f: (f / "frame-000000.pose.txt").write_text("a b"), "does not hold 16 numbers"),
        (lambda f: np.savetxt(f / "frame-000000.pose.txt", 2 * np.eye(4)), "no rotation"),
        (lambda f: (f.parent / "camera-intrinsics.txt").unlink(), "no camera-intrinsics.txt"),
    ],
)
def test_broken_sequences_are_named(folder, spoil, message):
    spoil(folder)
    with pytest.raises(MediaError, match=message):
        open_sequence(folder)


def test_depth_of_eight_bits_is_refused(folder):
    cv2.imwrite(str(folder / "frame-000000.depth.png"), np.full((HEIGHT, WIDTH), 9, np.uint8))
    with pytest.raises(MediaError, match="not a 16-bit depth picture"):
        open_sequence(folder).views([0, 1])


def test_a_folder_without_sequences_is_named(tmp_path):
    with pytest.raises(MediaError, match="no sequence in the 7-Scenes layout"):
        find_sequences(tmp_path)


def test_overlap_is_that_of_the_depth(folder):
    sequence = open_sequence(folder)
    overlap = overlap_matrix(sequence)
    np.testing.assert_allclose(overlap, overlap.T)
    neighbours, far = np.diag(overlap, 1).mean(), np.diag(overlap, 9).mean()
    assert neighbours > 0.7 > far + 0.1
    a, b = sequence.views([0]), sequence.views([1])
    shares = []
    for one, other in ((a, b), (b, a)):  # the same by all pixels, one way and back
        points = one.world_points()[one.valid]
        xy, z = project(sequence.frames[0].intrinsics, transform(other.cam_from_world[0], points))
        inside = (z > 0) & (xy >= 0).all(-1) & (xy < (WIDTH, HEIGHT)).all(-1)
        column, row = np.floor(xy[inside]).astype(int).T
        shares.append(
            (np.abs(other.depth[0][row, column] - z[inside]) < 0.1 * z[inside]).sum() / len(z)
        )
    assert overlap[0, 1] == pytest.approx(np.mean(shares), abs=0.05)


def test_tuples_keep_to_the_band_and_stay_frozen(folder, tmp_path):
    sequence = open_sequence(folder)
    overlap = overlap_matrix(sequence)
    for chosen in draw_tuples(overlap, 4, 10, 7, 0.3, 0.9):
        assert len(set(chosen)) == 4
        for k in range(1, 4):
            assert 0.3 <= overlap[chosen[k], chosen[:k]].max() <= 0.9
    lists = tmp_path / "lists"
    first = frozen_tuples(sequence, 3, 5, 1, (0.3, 1.0), lists)
    assert first == frozen_tuples(sequence, 3, 5, 1, (0.3, 1.0))
    (file,) = lists.iterdir()
    kept = json.loads(file.read_text())
    kept["tuples"] = [[0, 1, 2]]
    file.write_text(json.dumps(kept))
    assert frozen_tuples(sequence, 3, 5, 1, (0.3, 1.0), lists) == [[0, 1, 2]]
    assert frozen_tuples(sequence, 3, 5, 2, (0.3, 1.0), lists) != [[0, 1, 2]]


def test_too_many_views_are_refused(folder):
    with pytest.raises(SageError, match=r"no 12 of its 12 frames overlap by 0\.99"):
        frozen_tuples(open_sequence(folder), 12, 1, 0, (0.99, 1.0))


@pytest.mark.shared
@pytest.mark.skipif(not (SHARED / "data/rgbd").is_dir(), reason="SAGE_SHARED has no data/rgbd")
def test_the_real_kitchen_agrees_with_itself_from_view_to_view():
    by_folder = {s.folder.parents[1].name: s for s in find_sequences(SHARED / "data/rgbd")}
    sequence = by_folder["7scenes"]
    assert len(sequence) == 100
    assert sequence.frames[0].intrinsics[0, 0] == 585
    views = sequence.views([0, 1])
    points = views.world_points()[0][views.valid[0]]
    xy, z = project(sequence.frames[0].intrinsics, transform(views.cam_from_world[1], points))
    inside = (xy >= 0).all(-1) & (xy < (640, 480)).all(-1)
    column, row = np.floor(xy[inside]).astype(int).T
    measured = views.depth[1][row, column]
    assert np.median(np.abs(measured - z[inside])[measured > 0]) < 0.03
