"""Losses beyond the paper: against values by hand, finite differences, and what they must not depend on."""

import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sage_core.geometry import batched
from sage_core.losses import (
    AnchorQuality,
    SparseAnchors,
    anchor_loss,
    by_reference,
    match_exposure,
    points_by_reference,
    reprojection_loss,
    robust,
    supervised_loss,
)

KERNELS = ("huber", "cauchy", "geman_mcclure")
seeds = st.integers(0, 2**31)


def pose(rng, far=0.3):
    R = cv2.Rodrigues(rng.normal(size=3) * 0.1)[0]
    return torch.from_numpy(np.concatenate([R, rng.normal(size=(3, 1)) * far], 1))


def scene(seed, views=3, side=8, count=12):
    """Pointmaps in front of cameras that stand close together, and anchors on some of their pixels."""
    rng = np.random.default_rng(seed)
    points = torch.from_numpy(rng.uniform((-1, -1, 3), (1, 1, 6), (1, views, side, side, 3)))
    cells = np.stack([rng.permutation(side * side)[:count] for _ in range(views)])
    xy = np.stack([cells % side + 0.5, cells // side + 0.5], -1)
    row, column = torch.from_numpy(cells // side), torch.from_numpy(cells % side)
    true = points[0][torch.arange(views)[:, None], row, column]
    anchors = SparseAnchors(
        torch.from_numpy(xy)[None],
        true[None].clone(),
        torch.from_numpy(rng.uniform(0.1, 1, (1, views, count))),
    )
    cameras = torch.stack([torch.eye(3, 4).double(), *(pose(rng) for _ in range(views - 1))])
    noisy = points + torch.from_numpy(0.1 * rng.normal(size=points.shape))
    return noisy, anchors, cameras[None]


def test_kernels_at_values_by_hand():
    e = torch.tensor([0.0, 1.0, 2.0, 6.0])
    assert robust(e, "none", 2.0).tolist() == [0, 1, 2, 6]
    assert robust(e, "huber", 2.0).tolist() == [0, 0.25, 1, 5]
    expected = [0, math.log(1.25), math.log(2), math.log(10)]
    assert robust(e, "cauchy", 2.0).tolist() == pytest.approx(expected)
    assert robust(e, "geman_mcclure", 2.0).tolist() == pytest.approx([0, 0.2, 0.5, 0.9])


@given(st.floats(0, 100), st.floats(1e-3, 10), st.floats(0.1, 50))
def test_kernels_are_ordered_and_scale_with_their_unit(error, scale, unit):
    e = torch.tensor(error, dtype=torch.float64)
    huber, cauchy, bounded = (robust(e, k, scale) for k in KERNELS)
    slack = 1e-9 * (1 + error)
    assert bounded <= cauchy + slack
    assert cauchy <= huber + slack
    assert huber <= e + slack
    assert bounded <= scale / 2
    for kernel in KERNELS:
        torch.testing.assert_close(
            robust(unit * e, kernel, unit * scale), unit * robust(e, kernel, scale)
        )


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_have_the_gradients_of_finite_differences_and_a_finite_one_at_zero(kernel):
    e = torch.tensor([0.0, 0.3, 0.7, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: robust(x, kernel, 0.5), (e[1:],))
    robust(e, kernel, 0.5).sum().backward()
    assert e.grad[0] == 0


def test_a_robust_anchor_loss_forgives_one_outlier():
    points, anchors, _ = scene(0)
    true = anchors.points.clone()
    wrong = SparseAnchors(anchors.xy, true.index_fill(2, torch.tensor(0), 30.0), anchors.weight)
    conf = torch.ones(points.shape[:-1], dtype=torch.float64)

    def pull(kernel):
        moved = points.clone().requires_grad_()
        loss = anchor_loss(
            moved, conf, wrong, kernel=kernel, kernel_scale=0.05, trained_scale=False
        )
        loss.sum().backward()
        per_view = moved.grad.norm(dim=-1)[0, 0]
        column, row = wrong.xy[0, 0, 0].long()
        return (per_view[row, column] / per_view.max()).item()

    assert pull("none") > 0.1
    assert pull("geman_mcclure") < 0.01


def test_quality_of_anchors_by_hand():
    quality = AnchorQuality(error_px=1.0, track=5, angle_deg=4.0)
    error = torch.tensor([0.0, 1.0, 0.0, 0.0, 3.0])
    track = torch.tensor([5, 5, 3, 9, 2])
    angle = torch.tensor([4.0, 9.0, 4.0, 1.0, 2.0])
    weight = quality.weight(error, track, angle)
    assert weight.tolist() == pytest.approx([1, 0.5, 0.5, 0.25, 0.1 * 0.25 * 0.5])


@given(seeds)
def test_quality_grows_with_each_of_its_measures(seed):
    rng = np.random.default_rng(seed)
    error, angle = (torch.from_numpy(rng.uniform(0, 10, 9)) for _ in range(2))
    track = torch.from_numpy(rng.integers(2, 12, 9))
    weight = AnchorQuality().weight
    here = weight(error, track, angle)
    assert ((here >= 0) & (here <= 1)).all()
    assert (weight(error / 2, track, angle) >= here).all()
    assert (weight(error, track + 1, angle) >= here).all()
    assert (weight(error, track, angle + 1) >= here).all()


def test_a_weight_of_two_counts_as_two_anchors():
    points, anchors, _ = scene(1, views=1)
    conf = torch.full(points.shape[:-1], 1.7, dtype=torch.float64)
    heavy = anchors.weight.clone().fill_(1.0)
    heavy[..., 0] = 2.0
    again = SparseAnchors(
        torch.cat((anchors.xy, anchors.xy[:, :, :1]), 2),
        torch.cat((anchors.points, anchors.points[:, :, :1]), 2),
        torch.ones(1, 1, 13, dtype=torch.float64),
    )
    # One point more changes the scales, so only their gradient-free part is compared: equal scales.
    unit = points / points
    flat = SparseAnchors(anchors.xy, unit[0, 0, 0, 0].expand_as(anchors.points), heavy)
    flat_again = SparseAnchors(again.xy, unit[0, 0, 0, 0].expand_as(again.points), again.weight)
    wrong = unit * torch.tensor([1.0, -1.0, 1.0])
    for reduction in ("sum", "mean", "view_means"):
        a = anchor_loss(wrong, conf, flat, reduction=reduction)
        torch.testing.assert_close(a, anchor_loss(wrong, conf, flat_again, reduction=reduction))


@pytest.mark.parametrize("into", ["own", "all"])
def test_reprojection_is_zero_at_the_truth_and_has_true_gradients(into):
    points, anchors, cameras = scene(2)
    right = points.clone()
    row, column = anchors.xy[0, ..., 1].long(), anchors.xy[0, ..., 0].long()
    right[0, torch.arange(3)[:, None], row, column] = anchors.points[0]
    loss = reprojection_loss(5 * right, anchors, cameras, into=into)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    noisy = points.clone().requires_grad_()
    # Far within the clip, where the loss is smooth.
    assert torch.autograd.gradcheck(
        lambda p: reprojection_loss(p, anchors, cameras, into=into, clip=50.0), (noisy,)
    )


def test_reprojection_by_hand():
    """One anchor at depth 1 on the axis, predicted 0.05 to the right; a second, exact one keeps the scale."""
    points = torch.zeros(1, 1, 1, 2, 3, dtype=torch.float64)
    points[0, 0, 0] = torch.tensor([[0.05, 0, 1], [0.0, 0, 1]])
    true = torch.tensor([[[[0.0, 0, 1], [0, 0, 1]]]], dtype=torch.float64)
    xy = torch.tensor([[[[0.5, 0.5], [1.5, 0.5]]]], dtype=torch.float64)
    weight = torch.tensor([[[3.0, 1.0]]], dtype=torch.float64)
    anchors, camera = SparseAnchors(xy, true, weight), torch.eye(3, 4).double()[None, None]
    loss = reprojection_loss(points, anchors, camera)
    assert loss.item() == pytest.approx(3 * 0.05 / 4)
    clipped = reprojection_loss(points, anchors, camera, clip=0.02)
    assert clipped.item() == pytest.approx(3 * 0.02 / 4)


def test_own_cameras_do_not_see_an_error_along_the_ray_and_the_others_do():
    """Two points, one too near and one too far, so that the mean distance stays right."""
    true = torch.tensor(
        [[[0.0, 0, 4], [0.0, 0, 4]], [[0.5, 0, 4], [0.5, 0, 4]]], dtype=torch.float64
    )
    cameras = torch.eye(3, 4).double().repeat(2, 1, 1)
    cameras[1, 0, 3] = -0.5
    stretch = torch.tensor([0.8, 1.2], dtype=torch.float64)[:, None]
    centre = torch.tensor([[0.0, 0, 0], [0.5, 0, 0]], dtype=torch.float64)[:, None]
    points = (centre + stretch * (true - centre))[None, :, None]
    xy = torch.tensor([[0.5, 0.5], [1.5, 0.5]], dtype=torch.float64).expand(1, 2, 2, 2)
    anchors = SparseAnchors(xy, true[None], torch.ones(1, 2, 2))
    own, others = (
        reprojection_loss(points, anchors, cameras[None], into=into).item()
        for into in ("own", "all")
    )
    assert others > 0.01
    assert own < 0.1 * others


def test_points_behind_a_camera_cost_the_clip_and_pull_at_nothing():
    points, anchors, cameras = scene(4)
    behind = (-points).requires_grad_()
    loss = reprojection_loss(behind, anchors, cameras, into="own", clip=0.25)
    assert loss.item() == pytest.approx(0.25)
    loss.backward()
    assert not behind.grad.any()
    nothing = SparseAnchors(anchors.xy, anchors.points, torch.zeros_like(anchors.weight))
    assert reprojection_loss(points, nothing, cameras).item() == 0


@settings(max_examples=30)
@given(seeds, st.floats(0.05, 20), st.floats(0.05, 20))
def test_units_and_the_choice_of_world_drop_out(seed, unit, sfm_unit):
    """Predictions in another unit, SfM in another, and both turned about view 0's camera centre."""
    points, anchors, cameras = scene(seed)
    rng = np.random.default_rng(seed)
    turn = pose(rng, far=0.0)
    conf = torch.from_numpy(rng.uniform(1, 3, points.shape[:-1]))

    def turned(p, factor):
        return factor * batched.transform(turn, p.reshape(-1, 3)).reshape(p.shape)

    moved = SparseAnchors(anchors.xy, turned(anchors.points, sfm_unit), anchors.weight)
    other = batched.compose(cameras, batched.invert(turn))
    other = torch.cat((other[..., :3], sfm_unit * other[..., 3:]), -1)
    for kernel in ("none", *KERNELS):
        a, b = (
            anchor_loss(p, conf, c, kernel=kernel)
            for p, c in ((points, anchors), (turned(points, unit), moved))
        )
        torch.testing.assert_close(a, b)
    for into in ("own", "all"):
        a = reprojection_loss(points, anchors, cameras, into=into)
        b = reprojection_loss(turned(points, unit), moved, other, into=into)
        torch.testing.assert_close(a, b)


@settings(max_examples=30)
@given(seeds, st.floats(0.05, 20))
def test_the_supervised_loss_knows_no_unit_and_no_rotation(seed, unit):
    points, _, _ = scene(seed)
    rng = np.random.default_rng(seed)
    turn, truth = pose(rng, far=0.0), points + torch.from_numpy(rng.normal(size=points.shape))
    valid = torch.from_numpy(rng.random(points.shape[:-1]) < 0.7)
    conf = torch.from_numpy(rng.uniform(1, 3, points.shape[:-1]))

    def turned(p):
        return batched.transform(turn, p.reshape(-1, 3)).reshape(p.shape)

    a = supervised_loss(points, conf, truth, valid)
    torch.testing.assert_close(
        supervised_loss(unit * turned(points), conf, turned(truth), valid), a
    )


def test_a_shift_is_no_symmetry():
    """Both losses pin the points to the reference camera's centre: only scale is free."""
    points, anchors, _ = scene(5)
    conf = torch.ones(points.shape[:-1], dtype=torch.float64)
    off = torch.tensor([0.5, 0.0, 0.0])
    assert anchor_loss(points + off, conf, anchors) > 1.5 * anchor_loss(points, conf, anchors)


def changed_exposure(seed, gain, bias):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.random((1, 2, 3, 6, 7)))
    g = torch.from_numpy(rng.uniform(1 / gain, gain, (1, 2, 3, 1, 1)))
    b = torch.from_numpy(rng.uniform(-bias, bias, (1, 2, 3, 1, 1)))
    return image, g * image + b


@given(seeds)
def test_exposure_is_taken_out_exactly(seed):
    rendered, image = changed_exposure(seed, 1.4, 0.2)
    torch.testing.assert_close(
        match_exposure(rendered, image, "gain_bias"), image, atol=1e-4, rtol=0
    )
    rendered, image = changed_exposure(seed, 1.4, 0.0)
    torch.testing.assert_close(match_exposure(rendered, image, "gain"), image, atol=1e-4, rtol=0)
    assert match_exposure(rendered, image, "none") is rendered


def test_exposure_is_least_squares_over_the_valid_pixels_and_limited():
    rng = np.random.default_rng(0)
    rendered, image = (torch.from_numpy(rng.random((1, 1, 3, 5, 5))) for _ in range(2))
    valid = torch.from_numpy(rng.random((1, 1, 5, 5)) < 0.6)
    ours = match_exposure(rendered, image, "gain_bias", valid=valid, limit=100.0)
    r, i = rendered[0, 0, 1][valid[0, 0]].numpy(), image[0, 0, 1][valid[0, 0]].numpy()
    gain, bias = np.polyfit(r, i, 1)
    if gain > 0.01:
        expected = gain * rendered[0, 0, 1].numpy() + bias
        np.testing.assert_allclose(ours[0, 0, 1], expected, atol=1e-4)
    dark = match_exposure(rendered, 0.1 * rendered, "gain", limit=2.0)
    torch.testing.assert_close(dark, 0.5 * rendered)
    nothing = torch.zeros_like(valid)
    torch.testing.assert_close(
        match_exposure(rendered, image, "gain_bias", valid=nothing), rendered
    )
    flat = torch.full_like(rendered, 0.3)
    torch.testing.assert_close(
        match_exposure(flat, image, "gain_bias").mean((-2, -1)), image.mean((-2, -1))
    )


def test_gradients_through_the_exposure_are_let_or_not():
    """Where the loss is the very sum of squares that the fit minimises they vanish; elsewhere they do not."""
    rendered, image = changed_exposure(3, 1.2, 0.1)
    noise = np.random.default_rng(7).normal(size=rendered.shape)
    rendered = (rendered + 0.1 * torch.from_numpy(noise)).requires_grad_()

    def gradient(measure, trained):
        exposed = match_exposure(rendered, image, "gain_bias", trained=trained)
        return torch.autograd.grad(measure(exposed - image), rendered)[0]

    def squared(difference):
        return difference.square().sum()

    def length(difference):
        return difference.norm(dim=2).sum()

    torch.testing.assert_close(
        gradient(squared, True), gradient(squared, False), atol=1e-3, rtol=1e-3
    )
    assert not torch.allclose(gradient(length, True), gradient(length, False), atol=1e-2)
    assert torch.autograd.gradcheck(
        lambda r: length(match_exposure(r, image, "gain_bias", trained=True) - image), (rendered,)
    )


@given(seeds, st.integers(1, 3))
def test_rows_of_several_references_are_the_same_scene_seen_from_each(seed, references):
    points, _, cameras = scene(seed)
    rows = points_by_reference(points, cameras, references)
    poses = by_reference(cameras, references)
    assert rows.shape == (references, *points.shape[1:])
    torch.testing.assert_close(rows[0], points[0])
    for r in range(references):
        world = batched.transform(batched.invert(cameras[0, r]), rows[r].reshape(-1, 3))
        swapped = points[0].clone()
        swapped[[0, r]] = swapped[[r, 0]]
        torch.testing.assert_close(world.reshape(swapped.shape), swapped)
        torch.testing.assert_close(poses[r, 0], cameras[0, r])
    loss = supervised_loss(rows, torch.ones(rows.shape[:-1]), rows, torch.ones(rows.shape[:-1]) > 0)
    assert loss.item() == pytest.approx(0, abs=1e-9)
