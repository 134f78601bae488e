"""Splats from points and colours alone: they cover the surface, and only the surface."""

import pytest
import torch

from sage_core.geometry.batched import pointmap, rotation_from_quaternion
from sage_core.losses import (
    RenderedViews,
    gaussian_scene,
    mean_distance,
    rendering_loss,
)
from sage_core.models._gaussian_decoder import FOOTPRINT, THICKNESS, surface_gaussians

SIZE = 32
K = torch.tensor([[30.0, 0, 16], [0, 30.0, 16], [0, 0, 1]])


def wall(slope=0.0, distance=2.0):
    """Pointmap [1, 1, H, W, 3] of the plane z = distance + slope · x, seen from the origin."""
    rays = pointmap(torch.ones(SIZE, SIZE), K, torch.eye(3, 4))
    depth = distance / (1 - slope * rays[..., 0])
    return (rays * depth[..., None])[None, None]


def pictures():
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    return torch.stack((x / SIZE, y / SIZE, (x + y) / (2 * SIZE)))[None, None]


def test_a_splat_on_a_wall_is_as_wide_as_its_pixel():
    splats = surface_gaussians(wall(), pictures())
    footprint = 2.0 / 30
    expected = FOOTPRINT * torch.tensor([footprint, footprint, THICKNESS * footprint])
    torch.testing.assert_close(splats.scales, expected.expand_as(splats.scales))


@pytest.mark.parametrize("slope", [0.0, 0.4, -0.8])
def test_splats_lie_in_the_surface(slope):
    splats = surface_gaussians(wall(slope), pictures())
    axes = rotation_from_quaternion(splats.rotations)
    normal = torch.tensor([-slope, 0.0, 1.0])
    normal = normal / normal.norm()
    assert (axes[..., 2] * normal).sum(-1).abs().min() > 0.999
    stretch = splats.scales[0, 0, SIZE // 2, SIZE // 2, 0] / (FOOTPRINT * 2.0 / 30)
    assert stretch.item() == pytest.approx((1 + slope**2) ** 0.5, rel=0.08)


def test_at_an_edge_splats_keep_to_their_side():
    near, far = wall(distance=1.0), wall(distance=4.0)
    points = torch.where((torch.arange(SIZE) < 16)[:, None], near, far)
    sizes = surface_gaussians(points, pictures()).scales
    assert sizes[0, 0, :, :16].max() < 1.05 * FOOTPRINT * 1.0 / 30
    assert sizes[0, 0, :, 16:].max() < 1.05 * FOOTPRINT * 4.0 / 30


def test_the_unit_and_the_frame_change_nothing_else():
    points, images = wall(0.3), pictures()
    one, other = surface_gaussians(points, images), surface_gaussians(7 * points, images)
    torch.testing.assert_close(other.scales, 7 * one.scales)
    torch.testing.assert_close(other.rotations, one.rotations)


def test_points_that_mean_nothing_give_splats_that_can_be_drawn():
    """All in one place, in a line, or not finite: unit quaternions and finite sizes all the same."""
    line = torch.arange(SIZE)[:, None] * torch.ones(3)
    for points in (
        torch.zeros(1, 1, SIZE, SIZE, 3),
        line.expand(1, 1, SIZE, SIZE, 3),
        torch.full((1, 1, SIZE, SIZE, 3), float("nan")),
        torch.full((1, 1, SIZE, SIZE, 3), float("inf")),
    ):
        splats = surface_gaussians(points, pictures())
        assert all(t.isfinite().all() for t in vars(splats).values())
        torch.testing.assert_close(splats.rotations.norm(dim=-1), torch.ones(1, 1, SIZE, SIZE))
        assert (splats.scales >= 0).all()


def test_no_gradient_flows_through_the_rule():
    points = wall().requires_grad_()
    assert not any(t.requires_grad for t in vars(surface_gaussians(points, pictures())).values())


def test_sizes_lie_within_the_bounds_of_the_published_training():
    """At the scene's mean distance a pixel-wide splat is neither clamped nor punished."""
    points = wall(0.3)
    scale = mean_distance(points, torch.ones(points.shape[:-1], dtype=torch.bool))
    scene = gaussian_scene(points, surface_gaussians(points, pictures()), pictures(), scale)
    assert scene.scale_penalty.item() == 0
    assert (scene.scales[..., :2] > 1e-4).all()


def test_the_picture_is_rendered_again_from_where_it_was_taken():
    """The rule's splats give the picture back, and wrong points do not."""
    points, images = wall(0.3), pictures()

    def error(points):
        points = points.requires_grad_()
        scale = mean_distance(points, torch.ones(points.shape[:-1], dtype=torch.bool)).detach()
        views = RenderedViews(images, torch.eye(3, 4)[None, None], K[None, None], scale)
        splats = surface_gaussians(points, images)
        terms = rendering_loss(points, splats, images, scale, views)
        terms.photometric.sum().backward()
        return terms.photometric.item(), points.grad

    right, _ = error(points.clone())
    wrong, gradient = error(points.clone() + torch.tensor([0.15, 0.0, 0.0]))
    assert right < 0.06
    assert wrong > 2 * right
    assert gradient.isfinite().all()
    assert (gradient.abs().sum(-1) > 0).float().mean() > 0.9
