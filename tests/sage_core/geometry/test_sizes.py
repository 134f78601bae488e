"""Size rules: what they promise for any picture, and the sizes that the models' own code comes to."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sage_core.geometry import PixelMap, SizeRule, project
from sage_core.geometry.rays import fit_intrinsics
from sage_core.models.vggt import preprocess

sides = st.integers(40, 4000)
rules = st.builds(
    SizeRule,
    kind=st.sampled_from(["square", "longest", "width", "pixels"]),
    length=st.integers(64, 700),
    multiple=st.sampled_from([8, 14, 16]),
)


@given(rules, sides, sides)
def test_sides_are_whole_patches_within_the_bound(rule, width, height):
    new = rule.size(width, height)
    assert all(side >= rule.multiple and side % rule.multiple == 0 for side in new)
    if rule.kind == "pixels":
        thin = min(new) == rule.multiple  # one patch across: no budget is small enough for less
        assert new[0] * new[1] <= rule.length**2 or thin
    elif rule.kind != "square":
        assert max(new) <= rule.length + rule.multiple / 2


@given(rules.filter(lambda r: r.kind != "pixels"), sides, sides)
def test_size_is_a_fixed_point(rule, width, height):
    whole = rule.with_length(rule.length // rule.multiple * rule.multiple)
    new = whole.size(width, height)
    again = whole.size(*new)
    assert max(abs(a - b) for a, b in zip(new, again, strict=True)) <= rule.multiple


@given(rules.filter(lambda r: r.kind != "square"), st.integers(300, 900), st.integers(300, 900))
def test_the_shape_is_kept_up_to_a_patch(rule, width, height):
    new = rule.size(width, height)
    if rule.kind == "width" and height > width:
        return  # a tall picture loses rows on purpose
    scale = max(new[0] / width, new[1] / height)
    slack = 2 * rule.multiple
    assert abs(width * scale - new[0]) <= slack
    assert abs(height * scale - new[1]) <= slack


@given(rules, st.integers(64, 500), st.integers(64, 500), st.integers(0, 2**32 - 1))
def test_anchors_and_intrinsics_move_with_the_pixels(rule, width, height, seed):
    rng = np.random.default_rng(seed)
    K = np.array([[300.0, 0, width / 2 + 3], [0, 310.0, height / 2 - 2], [0, 0, 1]])
    points = rng.uniform((-1, -1, 2), (1, 1, 5), (20, 3))
    pixels = rule.map(width, height)
    before, after = project(K, points)[0], project(pixels.intrinsics(K), points)[0]
    assert np.allclose(pixels.points(before), after)
    back = np.linalg.inv(pixels.matrix())
    homogeneous = np.concatenate([after, np.ones((20, 1))], 1) @ back.T
    assert np.allclose(homogeneous[:, :2], before)


def test_a_bright_dot_is_found_where_the_map_says():
    image = np.zeros((480, 640, 3), np.uint8)
    image[200:216, 320:336] = 255
    for kind in ("square", "longest", "width", "pixels"):
        pixels = SizeRule(kind, 224, 14).map(640, 480)
        small = pixels.image(image)
        assert small.shape[:2] == (pixels.height, pixels.width)
        weight = small[..., 0].astype(float)
        y, x = np.mgrid[0 : small.shape[0], 0 : small.shape[1]] + 0.5
        found = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        assert np.allclose(found, pixels.points(np.array([328.0, 208.0])), atol=0.1)


@pytest.mark.parametrize(
    ("rule", "old", "new"),
    [
        (SizeRule("square", 224, 16), (640, 480), (224, 224)),
        (SizeRule("width", 518, 14), (640, 480), (518, 392)),
        (SizeRule("width", 518, 14), (1920, 1080), (518, 294)),
        (SizeRule("width", 518, 14), (480, 640), (518, 518)),
        (SizeRule("longest", 518, 14), (480, 640), (392, 518)),
        (SizeRule("pixels", 505, 14), (1920, 1080), (672, 378)),
        (SizeRule("pixels", 505, 14), (640, 480), (574, 434)),
    ],
)
def test_published_sizes(rule, old, new):
    assert rule.size(*old) == new


def test_a_rule_that_admits_no_patch_is_refused():
    with pytest.raises(ValueError, match="one patch"):
        SizeRule("longest", 10, 14)


def test_maps_of_one_view_compose_with_an_earlier_crop():
    rule = SizeRule("longest", 112, 16)
    crop = PixelMap.crop(20, 0, 600, 480)
    xy = np.array([[100.0, 50.0]])
    assert np.allclose(
        crop.then(rule.map(600, 480)).points(xy), rule.map(600, 480).points(xy - (20, 0))
    )


@given(
    st.floats(50, 900), st.floats(50, 900), st.floats(-20, 20), st.floats(-20, 20), st.booleans()
)
def test_intrinsics_are_found_from_rays_of_any_length(fx, fy, dx, dy, weighted):
    generator = torch.Generator().manual_seed(1)
    K = torch.tensor([[fx, 0, 24 + dx], [0, fy, 16 + dy], [0, 0, 1]], dtype=torch.float64)
    y, x = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], -1).double()
    length = torch.rand(32, 48, 1, generator=generator, dtype=torch.float64) + 0.1
    rays = (pixels @ torch.linalg.inv(K).T) * length
    weight = torch.rand(32, 48, generator=generator, dtype=torch.float64) if weighted else None
    if weighted:
        rays[0, 0] = torch.tensor([5.0, -3.0, 1.0])
        weight[0, 0] = 0
    rays[1, 1] = -rays[1, 1]  # behind the camera: does not count
    assert torch.allclose(fit_intrinsics(rays, weight), K, rtol=1e-6, atol=1e-6)


def test_intrinsics_from_rays_pass_gradients_on():
    rays = torch.rand(2, 3, 8, 10, 3).add(0.1).requires_grad_()
    fit_intrinsics(rays).sum().backward()
    assert rays.grad.isfinite().all()
    assert rays.grad.abs().sum() > 0


@given(st.integers(40, 300), st.integers(40, 300))
def test_the_rule_is_that_of_vggts_own_preprocessing(width, height):
    (pixels,) = preprocess([np.zeros((height, width, 3), np.uint8)], target=112).maps
    assert (pixels.width, pixels.height) == SizeRule("width", 112, 14).size(width, height)
