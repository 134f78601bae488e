"""From a clip's frames to a training sample: under any cameras, sizes, units a point stays on its pixel."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_core.evaluation.metrics import align, normalised_errors, pointmap_scores
from sage_core.geometry import (
    PixelMap,
    Sim3,
    batched,
    intrinsics_matrix,
    invert,
    project,
    relative,
    transform,
)
from sage_core.losses import anchor_loss, mean_distance, supervised_loss
from sage_core.shards import Anchors, FrameRecord
from sage_core.training.samples import video_sample

seeds = st.integers(0, 2**32 - 1)
sides = st.integers(24, 400)
VIEWS = 3


def rotation(rng, largest_deg=180.0):
    axis = rng.normal(size=3)
    angle = np.radians(rng.uniform(0, largest_deg))
    return cv2.Rodrigues(axis / np.linalg.norm(axis) * angle)[0]


def rigid(rng, largest_deg=180.0, far=5.0):
    return np.concatenate([rotation(rng, largest_deg), rng.normal(size=(3, 1)) * far], 1)


def anchors_of(xy, depth):
    n = len(depth)
    return Anchors(
        xy.astype(np.float32),
        depth.astype(np.float32),
        np.arange(n),
        np.zeros(n, np.float32),
        np.full(n, 5, np.int32),
        np.full(n, 9.0, np.float32),
    )


def rig(rng, width, height, count=60):
    """Cameras that look at one cloud from close together, somewhere in the world: poses, K, points [P, 3]."""
    focal = max(width, height) * rng.uniform(0.6, 2.0)
    K = intrinsics_matrix([focal, focal * rng.uniform(0.9, 1.1), width * 0.52, height * 0.47])
    z = rng.uniform(2, 6, (count, 1))
    xy = rng.uniform((0, 0), (width, height), (count, 2))
    points = np.concatenate([(xy - K[:2, 2]) / np.diag(K)[:2] * z, z], 1)
    near = np.stack([rigid(rng, largest_deg=8, far=0.1) for _ in range(VIEWS)])
    to_world = rigid(rng)
    return relative(near, to_world), K, transform(to_world, points)


def frames_of(poses, K, points, width, height):
    records = []
    picture = cv2.imencode(".jpg", np.zeros((height, width, 3), np.uint8))[1].tobytes()
    for number, pose in enumerate(poses):
        xy, depth = project(K, transform(pose, points))
        seen = (depth > 0.5) & (xy >= 0).all(1) & (xy < (width, height)).all(1)
        records.append(
            FrameRecord(
                "c", number, float(number), picture, width, height, K, pose, True, 1.0,
                anchors_of(xy[seen], depth[seen]),
            )
        )  # fmt: skip
    return records


def real(sample, view):
    kept = sample.anchors.weight[0, view] > 0
    return sample.anchors.xy[0, view, kept], sample.anchors.points[0, view, kept]


@settings(max_examples=40)
@given(seeds, sides, sides, sides, sides)
def test_anchors_and_intrinsics_of_a_crop_see_the_same_points(seed, width, height, mid, new):
    rng = np.random.default_rng(seed)
    poses, K, points = rig(rng, width, height)
    xy, depth = project(K, transform(poses[0], points))
    left, top = rng.integers(0, mid, 2)
    pixels = (
        PixelMap.resize((width, height), (2 * mid, mid))
        .then(PixelMap.crop(int(left), int(top), mid, mid))
        .then(PixelMap.cover((mid, mid), (new, new // 2 + 1)))
    )
    moved = anchors_of(xy, depth).mapped(pixels)
    exact, _ = project(pixels.intrinsics(K), transform(poses[0], points))
    np.testing.assert_allclose(moved.xy, exact[moved.point], atol=1e-3 * (1 + np.abs(exact).max()))
    inside = pixels.inside(exact.astype(np.float32))
    margin = np.minimum(exact, (pixels.width, pixels.height) - exact).min(1)
    clear = np.abs(margin) > 1e-2
    kept = np.isin(np.arange(len(points)), moved.point)
    np.testing.assert_array_equal(kept[clear], inside[clear])


@settings(max_examples=25)
@given(seeds, sides, sides, st.sampled_from([32, 64, 112]))
def test_a_sample_keeps_every_anchor_on_its_point(seed, width, height, size):
    poses, K, points = rig(np.random.default_rng(seed), width, height)
    sample = video_sample(frames_of(poses, K, points, width, height), VIEWS, size)
    for view in range(VIEWS):
        xy, anchored = real(sample, view)
        camera = batched.transform(sample.cam_from_reference[view], anchored)
        seen, depth = batched.project(sample.intrinsics[view], camera)
        assert (depth > 0).all()
        torch.testing.assert_close(seen, xy, atol=2e-2, rtol=0)
        # And it is a point of the world, seen from the reference.
        world = transform(invert(poses[0]), anchored.numpy().astype(np.float64))
        nearest = np.linalg.norm(world[:, None] - points[None], axis=-1).min(1)
        assert (nearest < 1e-3).all()


@settings(max_examples=25)
@given(seeds, st.floats(0.02, 50))
def test_another_world_and_unit_change_a_sample_by_its_unit_alone(seed, unit):
    """SfM's gauge: a similarity of the world moves cameras and points, and no loss may notice."""
    rng = np.random.default_rng(seed)
    width, height, size = 96, 72, 32
    poses, K, points = rig(rng, width, height)
    gauge = Sim3(unit, rotation(rng), rng.normal(size=3) * 3)
    frames = frames_of(poses, K, points, width, height)
    other = [
        FrameRecord(
            **{
                **vars(f),
                "cam_from_world": gauge.cameras(f.cam_from_world),
                "anchors": anchors_of(f.anchors.xy, f.anchors.depth * unit),
            }
        )
        for f in frames
    ]
    a, b = video_sample(frames, VIEWS, size), video_sample(other, VIEWS, size)
    torch.testing.assert_close(
        b.anchors.points, unit * a.anchors.points, rtol=1e-4, atol=1e-4 * unit
    )
    torch.testing.assert_close(
        b.cam_from_reference[..., 3] / unit, a.cam_from_reference[..., 3], rtol=1e-4, atol=1e-4
    )
    guess = torch.from_numpy(rng.normal(size=(1, VIEWS, size, size, 3)).astype(np.float32)) + 3
    conf = torch.full(guess.shape[:-1], 1.5)
    torch.testing.assert_close(
        anchor_loss(guess, conf, a.anchors),
        anchor_loss(guess, conf, b.anchors),
        rtol=1e-4,
        atol=1e-4,
    )


@given(seeds, st.floats(0.05, 20))
def test_alignment_forgives_unit_and_shift_and_the_loss_the_unit_alone(seed, unit):
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(2, 5, 6, 3)) + np.array([0.0, 0.0, 3.0])
    points = truth + 0.1 * rng.normal(size=truth.shape)
    valid = rng.random(truth.shape[:-1]) < 0.8
    moved = unit * points + rng.normal(size=3) * unit
    first, _ = align(points, truth, valid)
    second, _ = align(moved, truth, valid)
    np.testing.assert_allclose(first[valid], second[valid], atol=1e-8)
    a, b = pointmap_scores(points, truth, valid), pointmap_scores(moved, truth, valid)
    assert (a.nd, a.cd) == pytest.approx((b.nd, b.cd))
    scaled = normalised_errors(unit * points, truth, valid)
    np.testing.assert_allclose(scaled, normalised_errors(points, truth, valid), atol=1e-9)
    conf = torch.ones(1, *valid.shape, dtype=torch.float64)
    p, t, v = (torch.from_numpy(x)[None] for x in (points, truth, valid))
    torch.testing.assert_close(
        supervised_loss(unit * p, conf, t, v), supervised_loss(p, conf, t, v)
    )
    z = mean_distance(p, v)
    torch.testing.assert_close(mean_distance(unit * p, v), unit * z)
