"""The CPU rasteriser against a dense torch one, and what rendering must obey."""

import pytest
import torch

from sage_core.errors import ConfigError
from sage_core.splatting import RasterConstants, missing_backend, render
from sage_core.splatting._projection import rotation_matrix

WIDTH, HEIGHT = 37, 21  # no multiple of a tile, not square


def dense(means, scales, quats, opacities, colours, cam_from_world, K, width, height, constants):
    """Every pixel against every splat, straight from the definitions."""
    images, alphas, depths = [], [], []
    y, x = torch.meshgrid(
        torch.arange(height, dtype=means.dtype),
        torch.arange(width, dtype=means.dtype),
        indexing="ij",
    )
    pixels = torch.stack((x, y), -1).reshape(-1, 1, 2) + 0.5
    for R_t, k in zip(cam_from_world, K, strict=True):
        R = R_t[:, :3]
        centre = means @ R.T + R_t[:, 3]
        keep = (centre[:, 2] > constants.near) & (centre[:, 2] < constants.far)
        order = torch.argsort(centre[keep, 2], stable=True)
        index = keep.nonzero()[:, 0][order]
        c, z = centre[index], centre[index, 2]
        S = torch.diag_embed(scales[index] ** 2)
        Q = R @ rotation_matrix(quats[index])
        sigma = Q @ S @ Q.transpose(1, 2)
        rays = c[:, :2] / z[:, None]
        f, o = torch.stack((k[0, 0], k[1, 1])), torch.stack((k[0, 2], k[1, 2]))
        size = torch.tensor((width, height), dtype=means.dtype)
        inside = torch.minimum(
            torch.maximum(rays, -o / f - 0.15 * size / f), (size - o) / f + 0.15 * size / f
        )
        J = torch.zeros(len(z), 2, 3, dtype=means.dtype)
        J[:, 0, 0], J[:, 1, 1] = f[0] / z, f[1] / z
        J[:, :, 2] = -f * inside / z[:, None]
        cov = J @ sigma @ J.transpose(1, 2) + constants.eps2d * torch.eye(2, dtype=means.dtype)
        d = (rays * f + o)[None] - pixels
        power = -0.5 * torch.einsum("pni,nij,pnj->pn", d, torch.linalg.inv(cov), d)
        alpha = (opacities[index] * power.exp()).clamp(max=constants.alpha_cap)
        alpha = torch.where(alpha >= constants.alpha_min, alpha, 0)
        after = torch.cumprod(1 - alpha, dim=1)
        alpha = torch.where(after > constants.transmittance_min, alpha, 0)
        after = torch.cumprod(1 - alpha, dim=1)
        before = torch.cat((torch.ones_like(after[:, :1]), after[:, :-1]), dim=1)
        weight = alpha * before
        total = weight.sum(1)
        images.append(weight @ colours[index] + (1 - total)[:, None] * constants.background)
        alphas.append(total)
        depths.append(weight @ z / total.clamp(min=1e-10))
    shape = (len(K), height, width)
    return (
        torch.stack(images).reshape(*shape, -1),
        torch.stack(alphas).reshape(shape),
        torch.stack(depths).reshape(shape),
    )


def scene(count=150, dtype=torch.float64, seed=0, spread=1.0):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.rand(*shape, generator=g, dtype=dtype)

    z = 1.5 + 2 * draw(count)
    xy = (draw(count, 2) - 0.5) * z[:, None] * torch.tensor((1.5, 0.9), dtype=dtype) * spread
    means = torch.cat((xy, z[:, None]), 1)
    means[:3, 2] = torch.tensor((-1.0, 0.005, 120.0), dtype=dtype)  # behind, too near, too far
    scales = 0.01 + 0.08 * draw(count, 3)
    quats = draw(count, 4) - 0.5
    opacities = draw(count)
    opacities[3:6] = 1.0
    opacities[6:9] = 0.001
    colours = 2 * draw(count, 3) - 1
    cameras = torch.eye(3, 4, dtype=dtype).repeat(2, 1, 1)
    angle = torch.tensor(0.2, dtype=dtype)
    cameras[1, 0, 0] = cameras[1, 2, 2] = angle.cos()
    cameras[1, 0, 2], cameras[1, 2, 0] = angle.sin(), -angle.sin()
    cameras[1, :, 3] = torch.tensor((-0.4, 0.1, 0.2), dtype=dtype)
    K = torch.tensor([[28.0, 0, 17.3], [0, 31.0, 11.1], [0, 0, 1]], dtype=dtype).repeat(2, 1, 1)
    return [means, scales, quats, opacities, colours, cameras, K]


def gradients(draw, inputs):
    inputs = [t.clone().requires_grad_() for t in inputs]
    outputs = draw(*inputs, WIDTH, HEIGHT, RasterConstants())
    g = torch.Generator().manual_seed(9)
    weights = [torch.randn(o.shape, generator=g, dtype=torch.float64).to(o.dtype) for o in outputs]
    sum((w * o).sum() for w, o in zip(weights, outputs, strict=True)).backward()
    return outputs, [t.grad for t in inputs]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
def test_equals_the_dense_rasteriser(dtype, tolerance):
    inputs = scene(dtype=dtype)
    ours = render(*inputs, WIDTH, HEIGHT)
    theirs = dense(*inputs, WIDTH, HEIGHT, RasterConstants())
    assert 0.1 < ours[1].mean() < 0.99
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("count", [150, 2500])
def test_gradients_equal_the_dense_rasterisers(count):
    """Of everything: means, scales, quats, opacities, colours, cameras, intrinsics; with early ends."""
    inputs = scene(count)
    (_, alpha, _), ours = gradients(render, inputs)
    if count > 1000:
        assert (alpha > 1 - 2e-3).any()
    _, theirs = gradients(dense, inputs)
    for name, a, b in zip(
        ("means", "scales", "quats", "opacities", "colours", "cameras", "K"),
        ours,
        theirs,
        strict=True,
    ):
        scale = b.abs().max()
        assert scale > 0, name
        assert (a - b).abs().max() / scale < 1e-8, name


def test_the_same_bits_at_any_number_of_threads():
    inputs = [t.float() for t in scene(1500)]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 3):
            torch.set_num_threads(threads)
            outputs, grads = gradients(render, inputs)
            results.append((*outputs, *grads[:5]))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_splat_lands_on_its_pixel_centre():
    K = torch.tensor([[[20.0, 0, 8], [0, 20, 8], [0, 0, 1]]])
    means = torch.tensor([[(5.5 - 8) / 20 * 2, (9.5 - 8) / 20 * 2, 2.0]])
    image, alpha, depth = render(
        means,
        torch.full((1, 3), 1e-4),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([0.8]),
        torch.tensor([[0.0, 0.5, -1.0]]),
        torch.eye(3, 4)[None],
        K,
        16,
        16,
    )
    assert alpha[0].argmax() == 9 * 16 + 5
    assert alpha[0, 9, 5].item() == pytest.approx(0.8)
    assert depth[0, 9, 5].item() == pytest.approx(2.0)
    assert image[0, 9, 5].tolist() == pytest.approx([0.2, 0.6, -0.6])
    assert image[0, 0, 0].tolist() == [1, 1, 1]
    assert depth[0, 0, 0] == 0


def test_nothing_to_draw_gives_background_and_no_gradient():
    inputs = [t.float() for t in scene()]
    inputs[0][:, 2] = -1
    inputs[0].requires_grad_()
    image, alpha, depth = render(*inputs, WIDTH, HEIGHT, RasterConstants(background=0.25))
    assert (image == 0.25).all()
    assert not alpha.any()
    assert not depth.any()
    (image.sum() + depth.sum()).backward()
    assert not inputs[0].grad.any()


def test_what_is_not_finite_is_not_drawn_and_spoils_no_other_gradient():
    inputs = [t.float() for t in scene()]
    inputs[0][10] = float("nan")
    inputs[0][11, 0] = float("inf")
    outputs, grads = gradients(render, inputs)
    assert all(o.isfinite().all() for o in outputs)
    others = torch.ones(len(inputs[0]), dtype=torch.bool)
    others[10:12] = False
    assert all(g[others].isfinite().all() for g in grads[:5])


def test_misfits_and_missing_backends_are_said():
    inputs = [t.float() for t in scene()]
    with pytest.raises(ConfigError, match="quats"):
        render(*inputs[:2], inputs[2][:, :3], *inputs[3:], WIDTH, HEIGHT)
    assert missing_backend("cpu") is None
    if problem := missing_backend("gsplat"):
        assert "gsplat" in problem
        with pytest.raises(ConfigError, match="gsplat"):
            render(*inputs, WIDTH, HEIGHT, backend="gsplat")


@pytest.mark.gpu
@pytest.mark.skipif(missing_backend("gsplat") is not None, reason=str(missing_backend("gsplat")))
def test_both_backends_agree():
    inputs = [t.float() for t in scene()]
    inputs[3] = inputs[3].clamp(max=0.9)
    ours = render(*inputs, WIDTH, HEIGHT)
    theirs = render(*(t.cuda() for t in inputs), WIDTH, HEIGHT)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        # The footprints' edges differ: gsplat may cut a splat where its alpha is still 1 %.
        assert (a - b.cpu()).abs().max() < 0.03
        assert (a - b.cpu()).abs().mean() < 1e-3
