"""What the golden tensors do not pin: free image sizes, freezing, initial weights."""

import math
from dataclasses import replace

import pytest
import torch

from sage_core.errors import ConfigError
from sage_core.models import MVDust3rConfig, build_model, run_block
from sage_core.models.mvdust3r._heads import points_and_confidence
from sage_core.models.mvdust3r._rope import rotary_table

SMALL = MVDust3rConfig(
    image_size=16,
    patch_size=4,
    enc_embed_dim=32,
    enc_depth=1,
    enc_num_heads=2,
    dec_embed_dim=16,
    dec_depth=2,
    dec_num_heads=2,
    skip_dim=4,
    gs_mlp_dim=8,
)


@pytest.fixture
def model():
    return build_model(SMALL, seed=1).eval()


def images(views=3, height=8, width=12, batch=2):
    generator = torch.Generator().manual_seed(3)
    return torch.rand(batch, views, 3, height, width, generator=generator)


def test_sizes_that_are_not_square(model):
    out = model(images(height=8, width=20))
    assert out.points.shape == (2, 3, 8, 20, 3)
    assert out.gaussians.rotations.shape == (2, 3, 8, 20, 4)
    assert out.points.dtype == torch.float32


def test_a_transposed_image_is_not_a_transposed_answer(model):
    """Rows and columns turn different halves of a head."""
    tall = model(images(height=12, width=8).transpose(-1, -2).contiguous()).points
    wide = model(images(height=12, width=8)).points.transpose(2, 3)
    assert not torch.allclose(tall, wide, atol=1e-3)


def test_the_order_of_sources_does_not_matter(model):
    x = images(views=4)
    order = [0, 3, 1, 2]
    torch.testing.assert_close(model(x[:, order]).points, model(x).points[:, order])


def test_sources_see_each_other(model):
    x = images(views=4)
    changed = x.clone()
    changed[:, 3] = 1 - changed[:, 3]
    assert (model(x).points[:, 1] - model(changed).points[:, 1]).abs().max() > 1e-6


def test_the_seed_fixes_the_weights():
    state, again = build_model(SMALL, 7).state_dict(), build_model(SMALL, 7).state_dict()
    assert all(torch.equal(state[k], again[k]) for k in state)
    other = build_model(SMALL, 8).state_dict()
    assert not torch.equal(
        state["enc_blocks.0.mlp.fc1.weight"], other["enc_blocks.0.mlp.fc1.weight"]
    )


def test_plus_begins_as_the_plain_model():
    plus = build_model(MVDust3rConfig(**{**SMALL.to_json(), "cross_reference": True}), 1).eval()
    x = images(views=4)
    several = plus(x, references=3).points
    torch.testing.assert_close(several[::3], plus(x).points)


@pytest.mark.parametrize("batchnorm", [True, False])
def test_freezing_survives_train(model, batchnorm):
    model.freeze(("encoder", "gaussian_head"), batchnorm=batchnorm)
    model.train()
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert "decoder_embed.weight" in trained
    assert not any(n.startswith(("enc_", "downstream_GS", "mask_token")) for n in trained)
    before = model.downstream_head2.skip_proj[0].norm.running_mean.clone()
    model(images())
    moved = not torch.equal(before, model.downstream_head2.skip_proj[0].norm.running_mean)
    assert moved is not batchnorm


def test_freezing_can_be_undone(model):
    model.freeze()
    model.freeze((), batchnorm=False)
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == {"mask_token"}


def test_a_points_only_loss_reaches_every_trained_tensor(model):
    model.freeze(batchnorm=False)
    out = model.train()(images())
    (out.points.square().mean() + out.conf.log().mean()).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize(
    ("shape", "said"),
    [((1, 1, 3, 8, 8), "2 views"), ((1, 2, 3, 8, 10), "multiples"), ((2, 3, 8, 8), "B, V, 3")],
)
def test_wrong_shapes_are_refused_in_words(model, shape, said):
    with pytest.raises(ConfigError, match=said):
        model(torch.zeros(shape))


def test_unknown_group_is_refused(model):
    with pytest.raises(ConfigError, match="gaussian_head"):
        model.freeze(("gausian_head",))


def test_confidence_is_capped_and_keeps_a_finite_gradient():
    raw = torch.tensor([0.0, 0.0, 0.0, 200.0]).view(1, 4, 1, 1).requires_grad_()
    points, conf = points_and_confidence(raw)
    assert conf.item() == pytest.approx(1e9, rel=1e-6)
    (points.sum() + conf.sum()).backward()
    assert raw.grad.isfinite().all()
    assert points.tolist() == [[[[0.0, 0.0, 0.0]]]]


def test_points_lie_along_xyz_at_expm1_of_its_length():
    raw = torch.tensor([0.3, -0.4, 1.2, 0.0]).view(1, 4, 1, 1)
    points, _ = points_and_confidence(raw)
    expected = raw[0, :3, 0, 0] / 1.3 * math.expm1(1.3)
    torch.testing.assert_close(points[0, 0, 0], expected)


def test_heads_must_fit_the_rotary_embedding():
    with pytest.raises(ConfigError, match="multiple of 4"):
        MVDust3rConfig(enc_embed_dim=24, enc_num_heads=4)


def test_patterns_freeze_parameters_by_name(model):
    model.freeze(("enc_blocks.*", "*.bias"))
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(name.startswith("enc_blocks.") or name.endswith(".bias") for name in trained)
    assert {"patch_embed.proj.weight", "dec_blocks.0.attn.qkv.weight"} <= trained
    assert not model.train().enc_blocks[0].training
    assert model.dec_blocks[0].training
    with pytest.raises(ConfigError, match=r"cannot freeze blocks\.\*"):
        model.freeze(("blocks.*",))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_checkpointed_blocks_give_the_same_gradients(precision):
    model = build_model(replace(SMALL, cross_reference=True), seed=1).train()

    def gradients():
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            out = model(images(), references=2)
        (out.points.sum() + out.conf.log().sum()).backward()
        return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    model.checkpointing = True
    again = gradients()
    assert plain.keys() == again.keys()
    assert "dec_same_view_blocks.0.attn.qkv.weight" in plain
    # The heads take views one by one then, and so sum their weights' gradients in another order.
    close = {"float32": 1e-5, "bfloat16": 1e-2}[precision]
    for name, gradient in plain.items():
        torch.testing.assert_close(
            again[name], gradient, rtol=0, atol=close * float(gradient.abs().max())
        )


def test_a_checkpointed_block_keeps_only_its_input():
    block = build_model(SMALL, seed=1).enc_blocks[0]
    tokens = torch.rand(2, 6, 32, requires_grad=True)
    rotary = rotary_table(2, 3, 16, tokens.device)

    def kept(checkpointing):
        sizes = []

        def note(tensor):
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            run_block(block, tokens, rotary, checkpointing=checkpointing)
        return sum(sizes)

    assert kept(True) <= tokens.numel() < kept(False) / 10


def test_the_trunk_is_bfloat16_under_autocast_and_the_heads_are_not(model):
    seen = {}
    hooks = {"enc_blocks.0.mlp.fc1": "trunk", "downstream_head1.proj": "head"}
    for name, where in hooks.items():
        model.get_submodule(name).register_forward_hook(
            lambda _module, _inputs, out, where=where: seen.update({where: out.dtype})
        )
    with torch.autocast("cpu", torch.bfloat16):
        out = model(images())
    assert seen == {"trunk": torch.bfloat16, "head": torch.float32}
    assert {t.dtype for t in (out.points, out.conf, *vars(out.gaussians).values())} == {
        torch.float32
    }


def test_attention_is_torchs_own_kernel_in_bfloat16(model):
    """Fused attention needs queries, keys and values of one low precision, rotated in float32."""
    from torch.profiler import ProfilerActivity, profile

    with torch.autocast("cpu", torch.bfloat16), profile(activities=[ProfilerActivity.CPU]) as done:
        model(images())
    names = {event.name for event in done.events()}
    assert "aten::_scaled_dot_product_flash_attention_for_cpu" in names
    assert "aten::_scaled_dot_product_attention_math" not in names
