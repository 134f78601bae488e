"""What the losses must obey whatever the published code says."""

import math

import pytest
import torch

from sage_core.errors import CheckpointError, ConfigError
from sage_core.losses import (
    Perceptual,
    RenderedViews,
    RenderingOptions,
    SparseAnchors,
    anchor_loss,
    anchor_scales,
    load_perceptual,
    mean_distance,
    photometric_loss,
    rendering_loss,
    sample_at,
    scale_bounds,
    supervised_loss,
)
from sage_core.models import Gaussians

HEIGHT, WIDTH, VIEWS = 12, 16, 2


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def wall(batch=2, views=VIEWS):
    """Pointmaps of a bumpy wall, all views seeing the same."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    z = 2 + 0.2 * torch.sin(x / 3) + 0.1 * y / HEIGHT
    points = torch.stack(((x - WIDTH / 2) / 14 * z, (y - HEIGHT / 2) / 14 * z, z), -1)
    return points.expand(batch, views, HEIGHT, WIDTH, 3).clone()


def anchors_on(points, count=20, factor=1.0, seed=0):
    """Anchors exactly on the points of random pixels, in another unit."""
    batch, views = points.shape[:2]
    g = generator(seed)
    xy = torch.rand(batch, views, count, 2, generator=g) * torch.tensor((WIDTH, HEIGHT))
    true = sample_at(points, xy) * factor
    return SparseAnchors(xy, true, torch.ones(batch, views, count))


def test_perfect_points_leave_only_the_confidence_term():
    points = wall()
    conf = torch.full(points.shape[:-1], 3.0)
    loss = anchor_loss(points, conf, anchors_on(points, factor=7.3), alpha=0.2)
    assert loss.tolist() == pytest.approx([-0.2 * VIEWS * math.log(3)] * 2, abs=1e-5)


def test_reductions_differ_as_named():
    points, g = wall(), generator(1)
    conf = 1 + torch.rand(points.shape[:-1], generator=g)
    anchors = anchors_on(points)
    noisy = points + 0.1 * torch.randn(points.shape, generator=g)
    total, mean, views = (
        anchor_loss(noisy, conf, anchors, reduction=r) for r in ("sum", "mean", "view_means")
    )
    torch.testing.assert_close(total, mean * VIEWS * 20)
    torch.testing.assert_close(views, mean * VIEWS)
    single = SparseAnchors(
        torch.tensor([[[[4.2, 3.7]]]]), torch.tensor([[[[0.0, 0.0, 5.0]]]]), torch.ones(1, 1, 1)
    )
    x, c = noisy[:1, :1], conf[:1, :1]
    p = x[0, 0, 3, 4]
    expected = c[0, 0, 3, 4] * (p / p.norm() - torch.tensor((0.0, 0.0, 1.0))).norm() - (
        0.2 * c[0, 0, 3, 4].log()
    )
    assert anchor_loss(x, c, single, reduction="sum").item() == pytest.approx(
        expected.item(), rel=1e-5
    )


def test_padding_and_anchors_outside_do_not_count():
    points, g = wall(), generator(2)
    conf = 1 + torch.rand(points.shape[:-1], generator=g)
    noisy = points + 0.1 * torch.randn(points.shape, generator=g)
    few = anchors_on(points)
    rubbish_xy = torch.tensor([[-3.0, 4.0], [WIDTH + 1.0, 2.0], [5.0, 5.0]]).expand(2, VIEWS, 3, 2)
    weight = torch.tensor([1.0, 1.0, 0.0]).expand(2, VIEWS, 3)
    rubbish = torch.tensor(float("nan")).expand(2, VIEWS, 3, 3)
    more = SparseAnchors(
        torch.cat((few.xy, rubbish_xy), 2),
        torch.cat((few.points, rubbish), 2),
        torch.cat((few.weight, weight), 2),
    )
    noisy.requires_grad_()
    loss = anchor_loss(noisy, conf, more)
    torch.testing.assert_close(loss, anchor_loss(noisy, conf, few))
    loss.sum().backward()
    assert noisy.grad.isfinite().all()


def test_no_anchor_no_loss():
    points = wall().requires_grad_()
    none = SparseAnchors(
        torch.zeros(2, VIEWS, 4, 2), torch.zeros(2, VIEWS, 4, 3), torch.zeros(2, VIEWS, 4)
    )
    loss = anchor_loss(points, torch.ones(points.shape[:-1]), none)
    assert loss.tolist() == [0, 0]
    loss.sum().backward()
    assert not points.grad.any()


def test_scale_of_the_anchors_is_found():
    points = wall()
    predicted, true = anchor_scales(points, anchors_on(points, factor=4.0))
    torch.testing.assert_close(true / predicted, torch.full((2,), 4.0))


def test_sampling_takes_the_pixel_or_goes_between_centres():
    ramp = torch.arange(WIDTH, dtype=torch.float32).expand(1, 1, HEIGHT, WIDTH)[..., None] + 0.5
    xy = torch.tensor([[[[3.9, 5.0], [4.5, 0.5], [7.25, 6.1]]]])
    assert sample_at(ramp, xy)[0, 0, :, 0].tolist() == [3.5, 4.5, 7.5]
    between = sample_at(ramp, xy, "bilinear")[0, 0, :, 0]
    torch.testing.assert_close(between, xy[0, 0, :, 0])


def test_a_rescaled_prediction_has_the_same_loss_and_no_gradient_along_itself():
    points, g = wall(), generator(3)
    noisy = (points + 0.1 * torch.randn(points.shape, generator=g)).requires_grad_()
    conf, valid = torch.ones(points.shape[:-1]), torch.rand(points.shape[:-1], generator=g) < 0.8
    loss = supervised_loss(noisy, conf, points, valid)
    torch.testing.assert_close(supervised_loss(3 * noisy, conf, points, valid), loss)
    loss.backward()
    assert abs((noisy.grad * noisy).sum().item()) < 1e-5
    fixed = supervised_loss(noisy, conf, points, valid, trained_scale=False)
    torch.testing.assert_close(fixed, loss)
    (grad,) = torch.autograd.grad(fixed, noisy)
    assert abs((grad * noisy).sum().item()) > 1e-3


def test_views_without_valid_pixels_count_nothing():
    points = wall().requires_grad_()
    conf, valid = (
        torch.full(points.shape[:-1], 2.0),
        torch.ones(points.shape[:-1], dtype=torch.bool),
    )
    valid[:, 1] = False
    truth = points.detach().where(valid[..., None], float("nan"))
    loss = supervised_loss(points, conf, truth, valid, alpha=1.0)
    assert loss.item() == pytest.approx(-math.log(2), abs=1e-6)
    nothing = supervised_loss(points, conf, truth, torch.zeros_like(valid))
    assert nothing.item() == 0
    (loss + nothing).backward()
    assert points.grad.isfinite().all()
    assert mean_distance(points, torch.zeros_like(valid)).tolist() == pytest.approx([1e-8] * 2)


def test_photometric_forms():
    a = torch.zeros(1, 1, 3, 2, 2)
    b = torch.full_like(a, 0.5)
    assert photometric_loss(a, b).item() == pytest.approx(math.sqrt(3))
    assert photometric_loss(a, b, form="squared").item() == pytest.approx(3)
    valid = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    assert photometric_loss(a, b, valid).item() == 0
    valid[..., 0, 0] = True
    assert photometric_loss(a, b, valid).item() == pytest.approx(math.sqrt(3))


def test_bounds_keep_their_size_in_pixels():
    assert scale_bounds(224) == (1e-4, 4e-3)
    assert scale_bounds(64) == pytest.approx((3.5e-4, 1.4e-2))
    assert scale_bounds(112, (2e-4, 1e-2)) == pytest.approx((4e-4, 2e-2))


def predicted_gaussians(points, seed=4):
    g, shape = generator(seed), points.shape[:-1]
    return Gaussians(
        0.9 + 0.1 * torch.rand(shape, generator=g),
        0.05 * torch.rand((*shape, 3), generator=g),
        torch.nn.functional.normalize(torch.randn((*shape, 4), generator=g), dim=-1),
        torch.rand((*shape, 3), generator=g),
    )


def test_rendering_the_truth_into_its_own_views_is_nearly_lossless_and_geometry_matters():
    points = wall(batch=1)
    image = torch.rand(1, 1, 3, HEIGHT, WIDTH, generator=generator(5)).expand(-1, VIEWS, -1, -1, -1)
    K = torch.tensor([[14.0, 0, WIDTH / 2], [0, 14, HEIGHT / 2], [0, 0, 1]]).expand(1, VIEWS, 3, 3)
    camera = torch.eye(3, 4).expand(1, VIEWS, 3, 4)
    valid = torch.ones(1, VIEWS, HEIGHT, WIDTH, dtype=torch.bool)
    z = mean_distance(points, valid)
    gaussians = predicted_gaussians(points)
    views = RenderedViews(image, camera, K, z, valid)
    good = rendering_loss(points, gaussians, image, z, views)
    assert good.rendered.shape == image.shape
    assert good.total().item() < 0.35
    moved = points.clone()
    moved[..., 0] += 0.15
    moved.requires_grad_()
    bad = rendering_loss(moved, gaussians, image, mean_distance(moved, valid), views)
    assert bad.photometric.item() > 2 * good.photometric.item()
    bad.total().sum().backward()
    assert moved.grad.isfinite().all()
    assert moved.grad.abs().max() > 0


@pytest.mark.parametrize(("gradient", "reached"), [("centres", False), ("all", True)])
def test_rendering_gradients_go_where_they_are_let(gradient, reached):
    points = wall(batch=1).requires_grad_()
    gaussians = predicted_gaussians(points)
    gaussians.opacities.requires_grad_()
    gaussians.scales.mul_(10).requires_grad_()  # beyond the bounds, so that the penalty pulls
    image = torch.rand(1, VIEWS, 3, HEIGHT, WIDTH, generator=generator(5))
    K = torch.tensor([[14.0, 0, WIDTH / 2], [0, 14, HEIGHT / 2], [0, 0, 1]]).expand(1, VIEWS, 3, 3)
    z = torch.ones(1)
    views = RenderedViews(image, torch.eye(3, 4).expand(1, VIEWS, 3, 4), K, z)
    options = RenderingOptions(form="squared", gradient=gradient)
    rendering_loss(points, gaussians, image, z, views, options).total().sum().backward()
    assert points.grad.abs().max() > 0
    assert (gaussians.opacities.grad is not None) is reached
    assert (gaussians.scales.grad is not None) is reached


def test_units_of_points_and_cameras_drop_out():
    points = wall(batch=1)
    gaussians = predicted_gaussians(points)
    image = torch.rand(1, VIEWS, 3, HEIGHT, WIDTH, generator=generator(5))
    K = torch.tensor([[14.0, 0, WIDTH / 2], [0, 14, HEIGHT / 2], [0, 0, 1]]).expand(1, VIEWS, 3, 3)
    camera = torch.eye(3, 4).repeat(1, VIEWS, 1, 1)
    camera[:, 1, 0, 3] = 0.1
    one = torch.ones(1)
    a = rendering_loss(points, gaussians, image, one, RenderedViews(image, camera, K, one))
    larger = Gaussians(
        gaussians.opacities, 3 * gaussians.scales, gaussians.rotations, gaussians.colours
    )
    in_feet = torch.cat((camera[..., :3], 5 * camera[..., 3:]), -1)
    b = rendering_loss(
        3 * points, larger, image, 3 * one, RenderedViews(image, in_feet, K, 5 * one)
    )
    torch.testing.assert_close(a.rendered, b.rendered, atol=1e-4, rtol=1e-4)


def save_perceptual(folder, network, backbone):
    """Weight files in torchvision's and LPIPS's layout, with random numbers."""
    torch.manual_seed(0)
    net = Perceptual(network)
    features = {
        f"features.{index}.{kind}": 0.1 * torch.randn(p.shape)
        for index, conv in net.convolutions.items()
        for kind, p in conv.named_parameters()
    }
    features["classifier.6.bias"] = torch.zeros(3)
    linear = {
        f"lin{tap}.model.1.weight": torch.rand(getattr(net, f"weight{tap}").shape)
        for tap in range(5)
    }
    torch.save(features, folder / f"{backbone}-397923af.pth")
    torch.save(linear, folder / f"{network}.pth")


@pytest.mark.parametrize(
    ("network", "backbone", "sides"),
    [("alex", "alexnet", [15, 7, 3, 3, 3]), ("vgg", "vgg16", [64, 32, 16, 8, 4])],
)
def test_perceptual_distance(tmp_path, network, backbone, sides):
    save_perceptual(tmp_path, network, backbone)
    lpips = load_perceptual(network, tmp_path, side=64)
    g = generator(6)
    a, b = (torch.rand(1, 3, 32, 40, generator=g) for _ in range(2))
    assert [t.shape[-1] for t in lpips._features(a)] == sides
    assert lpips(a, a).tolist() == [0]
    black = torch.zeros_like(a).requires_grad_()
    distance = lpips(black, b)
    assert distance.item() > 0
    distance.sum().backward()
    assert black.grad.isfinite().all()
    assert not any(p.requires_grad for p in lpips.parameters())


def test_perceptual_without_weights_is_refused_in_words(tmp_path):
    assert load_perceptual("none", None) is None
    with pytest.raises(ConfigError, match=r"adapt\.loss\.perceptual=none"):
        load_perceptual("alex", None)
    with pytest.raises(ConfigError, match=r"alexnet\*\.pth"):
        load_perceptual("alex", tmp_path)
    save_perceptual(tmp_path, "alex", "alexnet")
    torch.save({}, tmp_path / "alex.pth")
    with pytest.raises(CheckpointError, match=r"lin0\.model\.1\.weight"):
        load_perceptual("alex", tmp_path)
