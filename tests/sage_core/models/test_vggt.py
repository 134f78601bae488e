"""What the recorded tensors do not pin: free sizes, freezing, precision, files, what every model keeps to."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sage_core.errors import CheckpointError, ConfigError
from sage_core.geometry.batched import (
    invert,
    pointmap,
    project,
    quaternion_from_rotation,
    transform,
)
from sage_core.models import VGGT, VGGTConfig, build_model, load_model, save_model
from sage_core.models.vggt import _model, decode_cameras, encode_cameras

TINY = VGGTConfig.tiny()
DEPTH_ALONE = ("point_head",)


@pytest.fixture
def model():
    """Fresh weights, shaken so that cameras differ from view to view."""
    model = build_model(TINY, seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        model.camera_head.pose_branch.fc2.bias.copy_(torch.tensor([0, 0, 0, 0, 0, 0, 1, 1.0, 1.2]))
    return model


def images(views=3, height=42, width=56, batch=1):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, views, 3, height, width, generator=generator)


def test_everything_has_its_shape_and_is_float32(model):
    out = model(images(batch=2))
    assert out.points.shape == (2, 3, 42, 56, 3)
    assert out.conf.shape == out.depth.shape == (2, 3, 42, 56)
    assert out.cam_from_world.shape == (2, 3, 3, 4)
    assert out.intrinsics.shape == (2, 3, 3, 3)
    assert out.gaussians.rotations.shape == (2, 3, 42, 56, 4)
    tensors = [t for t in vars(out).values() if isinstance(t, torch.Tensor)]
    tensors += [*out.native.values(), *vars(out.gaussians).values()]
    assert {t.dtype for t in tensors} == {torch.float32}
    assert all(t.isfinite().all() for t in tensors)
    assert (out.conf >= 1).all()


def test_points_of_each_view_fit_its_own_camera(model):
    """Depth is positive, and a pixel's point projects into that pixel's centre."""
    out = model(images())
    for view in range(3):
        own = transform(out.cam_from_world[0, view], out.points[0, view].flatten(0, 1))
        assert (own[:, 2] > 0).all()
        torch.testing.assert_close(own[:, 2], out.depth[0, view].flatten(), rtol=1e-4, atol=1e-5)
        xy, _ = project(out.intrinsics[0, view], own)
        y, x = torch.meshgrid(torch.arange(42) + 0.5, torch.arange(56) + 0.5, indexing="ij")
        wanted = torch.stack((x, y), -1).flatten(0, 1)
        torch.testing.assert_close(xy, wanted, rtol=0, atol=2e-2)


def test_view_0_is_the_world(model):
    out = model(images())
    torch.testing.assert_close(out.cam_from_world[:, 0], torch.eye(3, 4)[None])
    assert (out.cam_from_world[:, 1] - out.cam_from_world[:, 0]).abs().max() > 1e-3


def test_the_order_of_the_other_views_does_not_matter(model):
    order = [0, 3, 1, 2]
    x = images(views=4)
    a, b = model(x), model(x[:, order])
    torch.testing.assert_close(b.points, a.points[:, order], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(b.depth, a.depth[:, order], rtol=1e-4, atol=1e-4)
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            model(x[:, [1, 0, 2, 3]]).depth, a.depth[:, [1, 0, 2, 3]], rtol=1e-4, atol=1e-4
        )


def test_scenes_of_a_batch_do_not_see_each_other(model):
    x = images(batch=2)
    torch.testing.assert_close(model(x).points[1:], model(x[1:]).points, rtol=1e-4, atol=1e-4)


def test_one_view_is_enough(model):
    assert model(images(views=1)).points.isfinite().all()


def test_a_few_frames_at_a_time_give_the_same(model, monkeypatch):
    x = images(views=5)
    whole = model(x)
    monkeypatch.setattr(_model, "FRAMES_AT_ONCE", 2)
    torch.testing.assert_close(model(x).native["world_points"], whole.native["world_points"])


@pytest.mark.parametrize(
    ("points", "idle"),
    [("depth", ("point_head",)), ("point_head", ("camera_head", "depth_head"))],
)
def test_a_points_only_loss_reaches_every_trained_tensor(model, points, idle):
    model = _with(model, points=points)
    model.freeze(idle)
    out = model.train()(images())
    (out.points.square().mean() + out.conf.log().mean()).backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert "aggregator.frame_blocks.0.attn.qkv.weight" in trained
    for name, parameter in trained.items():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
    assert all(p.grad is None for n, p in model.named_parameters() if n not in trained)


def test_points_depend_on_depth_and_cameras_with_true_gradients():
    generator = torch.Generator().manual_seed(5)
    depth = 1 + torch.rand(1, 2, 2, 3, generator=generator, dtype=torch.float64)
    rounds = torch.randn(1, 1, 2, 9, generator=generator, dtype=torch.float64)
    rounds[..., 7:] = 1.1

    def points(depth, rounds):
        cameras, intrinsics = VGGT._cameras(rounds, depth[:, :, None])
        return pointmap(depth, intrinsics, invert(cameras))

    assert torch.autograd.gradcheck(points, (depth.requires_grad_(), rounds.requires_grad_()))


def test_recomputing_blocks_changes_nothing(model):
    gradients = []
    for model.checkpointing in (False, True):
        model.zero_grad()
        out = model.train()(images())
        out.points.square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    plain, again = gradients
    assert plain.keys() == again.keys()
    for name in plain:
        torch.testing.assert_close(again[name], plain[name], rtol=1e-5, atol=1e-7)


def test_blocks_that_are_recomputed_keep_less(model):
    kept = []
    for model.checkpointing in (False, True):
        sizes = []
        hooks = torch.autograd.graph.saved_tensors_hooks(
            lambda t, sizes=sizes: sizes.append(t.nbytes) or t, lambda t: t
        )
        with hooks:
            model.train()(images())
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 3


def test_heads_stay_float32_under_autocast(model):
    """On the CPU too: only the trunk's layers lose digits, not the sums that run past them."""
    seen = {}
    for name in ("camera_head", "depth_head"):
        module = model.get_submodule(name)
        module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out.dtype}))
    block = model.aggregator.global_blocks[0].mlp.fc1
    block.register_forward_hook(lambda _m, _i, out: seen.update({"trunk": out.dtype}))
    model.aggregator.global_blocks[0].register_forward_hook(
        lambda _m, _i, out: seen.update({"residual": out.dtype})
    )
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        half = model(images())
    assert seen == {
        "camera_head": torch.float32,
        "depth_head": torch.float32,
        "trunk": torch.bfloat16,
        "residual": torch.float32,
    }
    full = model(images())
    assert half.points.dtype == torch.float32
    assert (half.depth.log() - full.depth.log()).abs().max() < 0.2


def test_a_frozen_point_head_does_not_run(model):
    model.freeze(("point_head",))
    assert "world_points" not in model(images()).native
    model.freeze(())
    assert "world_points" in model(images()).native
    aside = VGGT(replace(TINY, point_head=False)).eval()
    assert "world_points" not in aside(images()).native


def test_groups_take_in_every_tensor(model):
    sizes = {g: sum(p.numel() for _, p in m) for g, m in model.parameter_groups().items()}
    assert sizes.keys() == {"encoder", "backbone", "camera_head", "depth_head", "point_head"}
    assert sum(sizes.values()) == 964_664
    model.freeze(("encoder",))
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        n for n, _ in model.named_parameters() if n.startswith("aggregator.patch_embed.")
    }
    assert not model.train().aggregator.patch_embed.blocks[0].training
    assert model.aggregator.frame_blocks[0].training


def test_a_file_in_upstreams_layout_goes_round(model, tmp_path):
    """The tracker's tensors come back with the rest, whichever of its heads this model has."""
    tracker = {"track_head.updateformer.flow_head.bias": torch.rand(3)}
    published = {**model.state_dict(), **tracker}
    torch.save({"model": {f"module.{n}": t for n, t in published.items()}}, tmp_path / "model.pt")
    for number, config in enumerate((TINY, replace(TINY, point_head=False))):
        loaded = load_model(tmp_path / "model.pt", config)
        out = loaded(images())
        torch.testing.assert_close(out.points, model(images()).points, rtol=0, atol=0)
        save_model(loaded, tmp_path / f"{number}.safetensors")
        saved = load_file(tmp_path / f"{number}.safetensors")
        assert saved.keys() == published.keys()
        assert all(torch.equal(saved[name], published[name]) for name in saved)
        assert load_model(tmp_path / f"{number}.safetensors").config == config


def test_a_missing_head_is_no_small_thing(model, tmp_path):
    state = {n: t for n, t in model.state_dict().items() if not n.startswith("camera_head.")}
    save_file(state, tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match=r"missing: camera_head\."):
        load_model(tmp_path / "m.safetensors", TINY)


def test_learned_splats_begin_as_the_rule_and_are_upstreams_no_more(model, tmp_path):
    save_file(model.state_dict(), tmp_path / "published.safetensors")
    learned = load_model(tmp_path / "published.safetensors", replace(TINY, gaussian_residuals=True))
    rule, ours = model(images()).gaussians, learned(images()).gaussians
    for name, value in vars(rule).items():
        torch.testing.assert_close(getattr(ours, name), value)
    learned.freeze(("encoder", "backbone", "camera_head", "depth_head", "point_head"))
    splats = learned(images()).gaussians
    (splats.opacities.mean() + splats.scales.mean()).backward()
    trained = {n: p.grad for n, p in learned.named_parameters() if p.requires_grad}
    assert trained.keys() == {"gaussian_head.residual.weight", "gaussian_head.residual.bias"}
    assert all(g.abs().max() > 0 for g in trained.values())
    save_model(learned, tmp_path / "ours.safetensors")
    added = load_file(tmp_path / "ours.safetensors").keys() - model.state_dict().keys()
    assert added == trained.keys()


def test_fields_of_view_of_nothing_and_of_everything_stay_finite():
    code = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0.0, 0.0])[None].requires_grad_()
    camera, K = decode_cameras(code, 42, 56)
    assert camera.isfinite().all()
    assert 0 < K[0, 0, 0] < 1e4
    torch.testing.assert_close(camera[0, :, :3], torch.eye(3))
    (camera.sum() + K.sum()).backward()
    assert code.grad.isfinite().all()
    _, wide = decode_cameras(torch.tensor([[0, 0, 0, 0, 0, 0, 1, 4.0, 4.0]]), 42, 56)
    assert (wide[0, 0, 0] > 0) & (wide[0, 1, 1] > 0)


def test_the_principal_point_lies_half_a_pixel_beyond_the_middle():
    """VGGT counts whole pixels and puts it at W/2 there: the corner between four of its pixels."""
    _, K = decode_cameras(torch.tensor([0, 0, 0, 0, 0, 0, 1, 1.0, 1.0]), 42, 56)
    assert K[:2, 2].tolist() == [28.5, 21.5]
    assert K[1, 1].item() == pytest.approx(21 / math.tan(0.5))


angles = st.floats(-math.pi, math.pi)


@given(angles, angles, angles, st.floats(0.2, 2.5), st.floats(0.2, 2.5))
def test_cameras_survive_their_code(a, b, c, fov_h, fov_w):
    rotation = torch.linalg.matrix_exp(
        torch.tensor([[0, -a, b], [a, 0, -c], [-b, c, 0]], dtype=torch.float64)
    )
    camera = torch.cat((rotation, torch.tensor([[0.3], [-2.0], [1.0]], dtype=torch.float64)), 1)
    focal = [side / 2 / math.tan(fov / 2) for side, fov in ((56, fov_w), (42, fov_h))]
    K = torch.diag(torch.tensor([*focal, 1.0], dtype=torch.float64))
    code = encode_cameras(camera, K, 42, 56)
    assert code[6] >= 0
    assert code[3:7].norm().item() == pytest.approx(1)
    assert code[7:].tolist() == pytest.approx([fov_h, fov_w])
    back, found = decode_cameras(code, 42, 56)
    torch.testing.assert_close(back, camera)
    torch.testing.assert_close(torch.diagonal(found), torch.diagonal(K))


@pytest.mark.parametrize("axis", range(3))
def test_half_turns_have_quaternions_too(axis):
    turn = -torch.eye(3)
    turn[axis, axis] = 1
    wanted = torch.zeros(4)
    wanted[1 + axis] = 1
    torch.testing.assert_close(quaternion_from_rotation(turn).abs(), wanted)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"embed_dim": 40}, "multiple of 4"),
        ({"camera_num_heads": 5}, "camera_num_heads"),
        ({"dpt_layers": [0, 1, 2, 4]}, "of 4 pairs"),
        ({"dpt_layers": [0, 1, 2]}, "4 layers"),
        ({"dpt_features": 12}, "multiple of 8"),
        ({"image_size": 60}, "no multiple of the patch"),
        ({"points": "point_head", "point_head": False}, "point head"),
        ({"points": "rays"}, "wrong kind"),
        ({"embed_dim": "48"}, "wrong kind"),
        ({"depth": 3}, "unknown"),
    ],
)
def test_widths_that_cannot_be_are_refused_in_words(changes, said):
    with pytest.raises(ConfigError, match=said):
        VGGTConfig.from_json({**TINY.to_json(), **changes})


def test_widths_survive_json():
    for config in (TINY, VGGTConfig.vggt_1b(), replace(TINY, points="point_head")):
        assert VGGTConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("shape", "said"), [((1, 2, 3, 42, 50), "multiples"), ((2, 3, 42, 42), "B, V, 3")]
)
def test_wrong_shapes_are_refused_in_words(model, shape, said):
    with pytest.raises(ConfigError, match=said):
        model(torch.zeros(shape))


def _with(model, **changes):
    other = VGGT(replace(model.config, **changes))
    other.load_state_dict(model.state_dict())
    return other.eval()
