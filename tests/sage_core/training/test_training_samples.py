"""Samples against the truth of the rooms that they were cut from."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from room_shards import FPS, FRAMES, HEIGHT, UNIT_M, WIDTH, room_clip

from sage_core.config.sampling import SamplingConfig
from sage_core.errors import MediaError, ShardError, TrainingError
from sage_core.geometry import PixelMap, SizeRule
from sage_core.geometry.batched import pixel_centres, project, relative, transform
from sage_core.training.drawing import VideoSamples
from sage_core.training.labelled import recorded
from sage_core.training.order import Kind, SampleId
from sage_core.training.samples import labelled_sample, video_sample
from sage_core.training.settings import DataSet, ShardPart
from sage_core.types import Reason
from sage_core.world import build_scene, camera_path, pinhole, render_views, room_sample

SAMPLING = SamplingConfig(n_context=4, n_targets=2)
SIZE = 48


def source(*paths, shuffle=True, seed=5, clips=None, size=SIZE):
    datasets = [
        DataSet(name=str(i), parts=(ShardPart(path=str(path), clips=clips),))
        for i, path in enumerate(paths)
    ]
    return VideoSamples(datasets, SAMPLING, size=size, seed=seed, shuffle_views=shuffle)


def real_anchors(sample, view):
    real = sample.anchors.weight[0, view] > 0
    return sample.anchors.xy[0, view, real], sample.anchors.points[0, view, real]


def video(index, epoch=0):
    return SampleId(Kind.VIDEO, epoch, index)


def test_anchors_project_onto_their_own_pixels(room_shard):
    sample = source(room_shard)(video(3))
    assert sample.images.shape == (6, 3, SIZE, SIZE)
    assert 0 <= sample.images.min() < sample.images.max() <= 1
    assert sample.anchors.weight.sum() > 4 * 50
    for view in range(4):
        xy, points = real_anchors(sample, view)
        seen, depth = project(
            sample.intrinsics[view], transform(sample.cam_from_reference[view], points)
        )
        assert (depth > 0).all()
        assert ((xy >= 0) & (xy < SIZE)).all()
        assert torch.allclose(seen, xy, atol=2e-3)
    assert torch.allclose(sample.cam_from_reference[0], torch.eye(3, 4), atol=1e-6)


def test_anchors_carry_the_true_geometry(room_shard):
    """Dense truth, rendered at the model's size through the moved intrinsics, has the anchors' depth."""
    sample = source(room_shard, shuffle=False)(video(0))
    clip, numbers = sample.name.removesuffix("]").split("[")
    rows = [int(n) // 5 for n in numbers.split(",")[:4]]
    scene = build_scene(int(clip[1:17], 16), "V")
    poses = camera_path(scene, "walkthrough", FRAMES, FPS, scene.seed)[rows]
    to_model = PixelMap.cover((WIDTH, HEIGHT), (SIZE, SIZE))
    K = to_model.intrinsics(pinhole(60, HEIGHT, WIDTH))
    _, truth = render_views(scene, poses, np.stack([K] * 4), SIZE, SIZE)
    for view in range(4):
        xy, points = real_anchors(sample, view)
        depth = transform(sample.cam_from_reference[view], points)[:, 2] * UNIT_M
        column, row = xy.floor().long().T
        assert np.median(np.abs(depth.numpy() / truth[view, row, column] - 1)) < 0.01


@pytest.mark.parametrize(
    ("rule", "width", "height"),
    [
        (SizeRule("width", 56, 14), 56, 42),
        (SizeRule("longest", 64, 8), 64, 48),
        (SizeRule("pixels", 50, 14), 56, 42),
        (SizeRule("square", 48, 8), 48, 48),
    ],
)
def test_anchors_and_cameras_move_along_to_the_size_of_any_rule(room_shard, rule, width, height):
    sample = source(room_shard, size=rule, shuffle=False)(video(2))
    assert sample.images.shape == (6, 3, height, width)
    clip, numbers = sample.name.removesuffix("]").split("[")
    rows = [int(n) // 5 for n in numbers.split(",")[:4]]
    scene = build_scene(int(clip[1:17], 16), "V")
    poses = camera_path(scene, "walkthrough", FRAMES, FPS, scene.seed)[rows]
    K = rule.map(WIDTH, HEIGHT).intrinsics(pinhole(60, HEIGHT, WIDTH))
    _, truth = render_views(scene, poses, np.stack([K] * 4), height, width)
    for view in range(4):
        xy, points = real_anchors(sample, view)
        in_view = transform(sample.cam_from_reference[view], points)
        seen, depth = project(sample.intrinsics[view], in_view)
        assert torch.allclose(seen, xy, atol=2e-3)
        column, row = xy.floor().long().T
        assert len(torch.unique(row * width + column)) == len(xy)
        assert np.median(np.abs(depth.numpy() * UNIT_M / truth[view, row, column] - 1)) < 0.02


def test_labelled_views_of_any_shape_keep_points_and_cameras_together():
    views = room_sample(3, 3, (60, 90))
    for rule in (SizeRule("width", 56, 14), SizeRule("pixels", 60, 8), SizeRule("square", 40)):
        sample = labelled_sample(views, rule)
        assert sample.images.shape[-2:] == rule.size(90, 60)[::-1]
        height, width = sample.valid.shape[1:]
        grid = pixel_centres(width, height)
        for view in range(3):
            inside = transform(sample.cam_from_reference[view], sample.points[view].reshape(-1, 3))
            seen, depth = project(sample.intrinsics[view], inside)
            kept = sample.valid[view].flatten()
            error = (seen - grid.reshape(-1, 2))[kept].abs()
            assert error.max() < 1.5  # depth is the nearest pixel's, not this one's
            assert torch.allclose(depth[kept], sample.depth[view].flatten()[kept], rtol=1e-4)


def test_one_anchor_a_pixel(room_shard):
    sample = source(room_shard)(video(1))
    for view in range(4):
        xy, _ = real_anchors(sample, view)
        assert len(torch.unique(xy.floor(), dim=0)) == len(xy)


def test_a_sample_follows_from_seed_and_id_alone(room_shard):
    first, again, other = source(room_shard), source(room_shard), source(room_shard, seed=6)
    for i in (7, 0, 7, 3):
        a, b = first(video(i)), again(video(i))
        assert a.name == b.name
        assert torch.equal(a.images, b.images)
    assert first(video(7)).name != other(video(7)).name
    assert first(video(7)).name != first(video(7, epoch=1)).name


def test_every_clip_has_its_turn(room_shard):
    draw = source(room_shard)
    clips = [draw(video(i)).name.split("[")[0] for i in range(8)]
    for lap in range(0, 8, 2):
        assert len(set(clips[lap : lap + 2])) == 2


def test_targets_lie_between_the_context(room_shard):
    draw = source(room_shard, shuffle=False)
    for i in range(5):
        numbers = [int(n) for n in draw(video(i)).name.split("[")[1][:-1].split(",")]
        context, targets = numbers[:4], numbers[4:]
        assert context == sorted(context)
        assert all(context[0] < t < context[-1] for t in targets)


def test_only_the_named_clips_are_drawn(room_shard):
    clip = source(room_shard)(video(0)).name.split("[")[0]
    draw = source(room_shard, clips=(clip,))
    assert draw.clips == 1
    assert {draw(video(i)).name.split("[")[0] for i in range(4)} == {clip}


def test_clips_without_a_trajectory_are_refused_by_name(room_shard):
    parts = (ShardPart(path=str(room_shard)),)
    sampling = SamplingConfig(n_context=20, n_targets=9)
    with pytest.raises(TrainingError, match="interval_frames") as error:
        VideoSamples([DataSet(parts=parts)], sampling, size=SIZE, seed=0, shuffle_views=True)
    assert error.value.reason is Reason.NO_TRAJECTORY


def test_no_shards_are_refused():
    with pytest.raises(TrainingError, match="no shards"):
        VideoSamples([], SAMPLING, size=SIZE, seed=0, shuffle_views=True)
    with pytest.raises(ShardError):
        source("nowhere/frames-x.parquet")


def test_a_frame_that_is_no_jpeg_is_named():
    _, records, _ = room_clip(0, 10, 50)
    broken = [replace(records[0], image=b"\xff\xd8 no"), *records[1:4]]
    with pytest.raises(ShardError, match="not a JPEG"):
        video_sample(broken, 4, SIZE)


def test_labelled_points_project_onto_their_own_pixels():
    views = room_sample(11, 3, (60, 80))
    sample = labelled_sample(views, SIZE)
    to_model = PixelMap.cover((80, 60), (SIZE, SIZE))
    K = torch.from_numpy(to_model.intrinsics(views.intrinsics)).float()
    pose = torch.from_numpy(views.cam_from_world).double()
    for v in range(3):
        camera = transform(relative(pose[v], pose[0]).float(), sample.points[v].reshape(-1, 3))
        xy, depth = project(K[v], camera)
        grid = torch.stack(
            torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="xy"), -1
        )
        off = (xy.reshape(SIZE, SIZE, 2) - grid - 0.5)[sample.valid[v]]
        assert (depth.reshape(SIZE, SIZE)[sample.valid[v]] > 0).all()
        # Depth is taken from the nearest of the larger picture's pixels, half of one away at most.
        assert off.abs().max() <= 0.5 * to_model.scale_x + 1e-3


@pytest.mark.shared
def test_labelled_samples_from_recorded_sequences():
    shared = Path(os.environ.get("SAGE_SHARED", "../shared"))
    if not (shared / "data" / "rgbd").is_dir():
        pytest.skip("needs SAGE_SHARED/data/rgbd")
    draw = recorded(str(shared / "data" / "rgbd"), pool=2, views=4, seed=1)
    first, other, again = (draw(SampleId(Kind.LABELLED, 0, i)) for i in (0, 1, 2))
    assert first.name == again.name != other.name
    sample = labelled_sample(first, SIZE)
    assert sample.images.shape == (4, 3, SIZE, SIZE)
    assert sample.valid.float().mean() > 0.2
    assert (sample.points[0][sample.valid[0]][:, 2] > 0).all()


def test_an_empty_folder_is_no_labelled_data(tmp_path):
    with pytest.raises(MediaError, match="7-Scenes layout"):
        recorded(str(tmp_path), pool=2, views=4, seed=1)
