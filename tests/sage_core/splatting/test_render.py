"""The CPU rasteriser against torch, tiled and dense, and what rendering must obey."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from sage_core.config.rendering import RenderingConfig
from sage_core.errors import ConfigError
from sage_core.splatting import RasterConstants, _gsplat, _reference, missing_backend, render
from sage_core.splatting._projection import rotation_matrix

WIDTH, HEIGHT = 37, 21  # no multiple of a tile, not square
NAMES = ("means", "scales", "quats", "opacities", "colours", "cameras", "K")


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


def tiled(side):
    def draw(*arguments):
        return _reference.render(*arguments, tile=side)

    return draw


def close(ours, theirs, tolerance):
    for name, a, b in zip(NAMES, ours, theirs, strict=True):
        scale = b.abs().max()
        assert scale > 0, name
        assert (a - b).abs().max() / scale < tolerance, name


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-5)])
@pytest.mark.parametrize("draw", [render, tiled(8), tiled(16)])
def test_equals_the_dense_rasteriser(draw, dtype, tolerance):
    inputs = scene(dtype=dtype)
    ours = draw(*inputs, WIDTH, HEIGHT, RasterConstants())
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
    close(ours, theirs, 1e-8)


def test_gradients_equal_the_tiled_reference_and_finite_differences():
    """Autograd through torch, and the function itself, moved a little along a random direction."""
    inputs = scene(60)
    outputs, ours = gradients(render, inputs)
    _, theirs = gradients(tiled(8), inputs)
    close(ours, theirs, 1e-9)
    g = torch.Generator().manual_seed(9)
    weights = [torch.randn(o.shape, generator=g, dtype=torch.float64) for o in outputs]

    def objective(moved):
        drawn = render(*moved, WIDTH, HEIGHT, RasterConstants())
        return sum((w * o).sum() for w, o in zip(weights, drawn, strict=True)).item()

    for place, name in enumerate(NAMES):
        direction = torch.randn(inputs[place].shape, generator=g, dtype=torch.float64)
        if name == "K":  # the last row is no parameter
            direction[:, 2], direction[:, 0, 1], direction[:, 1, 0] = 0, 0, 0
        step = 1e-7 * direction
        ahead, back = list(inputs), list(inputs)
        ahead[place], back[place] = inputs[place] + step, inputs[place] - step
        difference = (objective(ahead) - objective(back)) / 2e-7
        assert (ours[place] * direction).sum().item() == pytest.approx(difference, rel=2e-4), name


def test_float32_gradients_are_as_good_as_torchs():
    """Both against float64, where the kernels and autograd agree to 1e-9."""
    inputs = scene(600)
    _, exact = gradients(render, inputs)
    single = [t.float() for t in inputs]
    _, ours = gradients(render, single)
    _, torchs = gradients(tiled(16), single)
    for name, truth, a, b in zip(NAMES, exact, ours, torchs, strict=True):
        error, theirs = ((g - truth).abs().mean() / truth.abs().mean() for g in (a, b))
        assert error < max(2 * theirs, 1e-5), name


def test_the_same_bits_at_any_number_of_threads():
    inputs = [t.float() for t in scene(5000)]
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 1, 2):
            torch.set_num_threads(threads)
            outputs, grads = gradients(render, inputs)
            results.append((*outputs, *grads))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


_CHILD = """
import sys, hashlib, torch, numba
torch.set_num_threads(int(sys.argv[1]))
from test_render import gradients, scene
from sage_core.splatting import render
outputs, grads = gradients(render, [t.float() for t in scene(5000)])
assert torch.get_num_threads() == numba.get_num_threads() == int(sys.argv[1])
print(hashlib.sha256(b"".join(t.detach().numpy().tobytes() for t in (*outputs, *grads))).hexdigest())
"""


@pytest.mark.slow
def test_the_same_bits_in_processes_with_more_threads_than_cores(tmp_path):
    """Numba's pool is as large as the process says at its start, and leaves torch's count alone.

    The first process compiles the kernels, the others read them from the cache.
    """
    here = Path(__file__).parent
    paths = [str(here), str(here.parents[2]), os.environ.get("PYTHONPATH", "")]
    digests = set()
    for threads in (1, 2, 3, 4):
        environment = {
            **os.environ,
            "NUMBA_NUM_THREADS": "4",
            "NUMBA_CACHE_DIR": str(tmp_path),
            "PYTHONPATH": os.pathsep.join(paths),
        }
        done = subprocess.run(
            [sys.executable, "-c", _CHILD, str(threads)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        digests.add(done.stdout.strip())
    assert len(digests) == 1


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


def test_no_gaussians_give_background():
    inputs = [t.float() for t in scene()]
    empty = [t[:0].requires_grad_() for t in inputs[:5]]
    image, alpha, depth = render(*empty, *inputs[5:], WIDTH, HEIGHT)
    assert image.shape == (2, HEIGHT, WIDTH, 3)
    assert (image == 1).all()
    assert not alpha.any()
    (image.sum() + depth.sum()).backward()
    assert all(t.grad.shape == t.shape for t in empty)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        (0, (NAN, 0, 2)), (0, (INF, 0, 2)), (0, (0, 0, INF)), (0, (0, 0, -1)), (0, (0, 0, 0)),
        (0, (1e30, 1e30, 2)), (1, (NAN, 1, 1)), (1, (INF, 1, 1)), (1, (1e30, 1e30, 1e30)),
        (2, (NAN, 0, 0, 0)), (3, NAN), (3, 0.0), (3, -1.0),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_not_and_spoils_no_gradient(tensor, value):
    """Behind the camera, not finite, beyond all numbers, invisible: as if it were not there."""
    inputs = [t.float() for t in scene()]
    without = [*(torch.cat((t[:10], t[11:])) for t in inputs[:5]), *inputs[5:]]
    inputs[tensor][10] = torch.tensor(value)
    outputs, grads = gradients(render, inputs)
    wanted, others = gradients(render, without)
    assert all(torch.equal(a, b) for a, b in zip(outputs, wanted, strict=True))
    for name, grad, other in zip(NAMES[:5], grads, others, strict=False):
        assert not grad[10].any(), name
        assert torch.equal(torch.cat((grad[:10], grad[11:])), other), name


def test_splats_without_size_and_larger_than_the_image_are_drawn():
    inputs = scene()
    inputs[1][20], inputs[1][21] = 0.0, 5.0
    inputs[1][22] = torch.tensor((3.0, 1e-6, 0.0))  # a needle through everything
    outputs, grads = gradients(render, inputs)
    wanted, others = gradients(dense, inputs)
    for a, b in zip(outputs, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)
    close(grads, others, 1e-7)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 60),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    log_scale=st.floats(-4, 1.5),
    spread=st.floats(0.1, 6),
    channels=st.integers(1, 5),
    cap=st.sampled_from([0.9, 0.99, 0.999]),
    eps2d=st.sampled_from([0.01, 0.1, 0.3]),
)
def test_random_scenes_agree_with_the_reference(
    seed, count, size, log_scale, spread, channels, cap, eps2d
):
    means, scales, quats, opacities, _, cameras, K = scene(max(count, 9), seed=seed, spread=spread)
    g = torch.Generator().manual_seed(seed)
    colours = torch.rand(len(means), channels, generator=g, dtype=torch.float64)
    inputs = [
        means,
        scales * 10**log_scale / 0.05,
        normalize(quats),
        opacities,
        colours,
        cameras,
        K,
    ]
    constants = RasterConstants(alpha_cap=cap, eps2d=eps2d, background=0.3)
    results = []
    for draw in (render, tiled(8)):
        leaves = [t.clone().requires_grad_() for t in inputs]
        outputs = draw(*leaves, *size, constants)
        assert outputs[0].shape == (2, size[1], size[0], channels)
        (outputs[0].square().sum() + outputs[2].sum()).backward()
        results.append((outputs, [t.grad for t in leaves]))
    (ours, grads), (theirs, wanted) = results
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=1e-8)
    for name, a, b in zip(NAMES, grads, wanted, strict=True):
        torch.testing.assert_close(
            a, b, atol=1e-7 * max(1.0, b.abs().max().item()), rtol=1e-7, msg=name
        )


def test_misfits_and_missing_backends_are_said():
    inputs = [t.float() for t in scene()]
    with pytest.raises(ConfigError, match="quats"):
        render(*inputs[:2], inputs[2][:, :3], *inputs[3:], WIDTH, HEIGHT)
    with pytest.raises(ConfigError, match="bfloat16"):
        render(*inputs[:4], inputs[4].bfloat16(), *inputs[5:], WIDTH, HEIGHT)
    with pytest.raises(ConfigError, match="0x21"):
        render(*inputs, 0, HEIGHT)
    assert missing_backend("cpu") is None
    if problem := missing_backend("gsplat"):
        assert "gsplat" in problem
        with pytest.raises(ConfigError, match="gsplat"):
            render(*inputs, WIDTH, HEIGHT, backend="gsplat")


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha_cap", 1.0), ("alpha_min", 0.0), ("transmittance_min", -1.0), ("eps2d", NAN), ("near", -1.0)],
)  # fmt: skip
def test_constants_out_of_bounds_are_refused(name, value):
    with pytest.raises(ConfigError, match=name):
        replace(RasterConstants(), **{name: value})


def test_settings_and_constants_have_the_same_defaults():
    assert RasterConstants(**RenderingConfig().model_dump()) == RasterConstants()


def test_what_gsplat_has_compiled_in_cannot_be_asked_to_differ(monkeypatch):
    """The installed package's constants are read; here those of 1.6, whose cap is not MV-DUSt3R's."""
    monkeypatch.setattr(_gsplat, "version", lambda name: "1.6.0")
    theirs = {"alpha_cap": 0.99, "alpha_min": 1 / 255, "transmittance_min": 1e-4}
    monkeypatch.setattr(_gsplat, "built_in", lambda: theirs)
    assert _gsplat.misfit(RasterConstants(alpha_cap=0.99)) is None
    said = _gsplat.misfit(RasterConstants())
    assert "gsplat 1.6.0 has alpha_cap 0.99" in said
    assert "adapt.rendering.alpha_cap=0.99" in said


@pytest.mark.gpu
@pytest.mark.skipif(missing_backend("gsplat") is not None, reason=str(missing_backend("gsplat")))
def test_both_backends_agree():
    inputs = [t.float() for t in scene(1500)]
    inputs[3] = inputs[3].clamp(max=0.9)
    constants = RasterConstants(**_gsplat.built_in())

    def draw(*arguments):
        return render(*(t.cuda() for t in arguments[:7]), *arguments[7:9], constants)

    ours, grads = gradients(lambda *a: render(*a[:9], constants), inputs)
    theirs, others = gradients(lambda *a: tuple(o.cpu() for o in draw(*a)), inputs)
    for a, b in zip(ours[:2], theirs[:2], strict=True):
        # The footprints' edges differ: gsplat may cut a splat where its alpha is still 1 %.
        assert (a - b).abs().max() < 0.03
        assert (a - b).abs().mean() < 1e-3
    for name, a, b in zip(NAMES[:6], grads, others, strict=False):  # gsplat gives none for K
        assert (a - b).norm() / a.norm() < 0.05, name
