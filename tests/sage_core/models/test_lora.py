"""Adapters: nothing at first, little to train, nothing left of them after merging."""

import pytest
import torch
from torch import nn

from sage_core.config.training import LoraConfig
from sage_core.errors import ConfigError
from sage_core.models import MVDust3rConfig, build_model, load_model, save_model
from sage_core.models.lora import LoraLinear, add_lora, merge_lora

SMALL = MVDust3rConfig(
    image_size=16,
    patch_size=4,
    enc_embed_dim=32,
    enc_depth=2,
    enc_num_heads=2,
    dec_embed_dim=16,
    dec_depth=1,
    dec_num_heads=2,
    skip_dim=4,
    gs_mlp_dim=8,
)
LORA = LoraConfig(rank=2, alpha=4)


@pytest.fixture
def model():
    made = build_model(SMALL, seed=1)
    made.freeze()
    return made.train()


@pytest.fixture(scope="module")
def images():
    return torch.rand(1, 3, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def trained(model):
    return {name for name, p in model.named_parameters() if p.requires_grad}


def test_nothing_changes_before_the_first_step(model, images):
    before = model(images).points
    add_lora(model, {"encoder": LORA}, seed=5)
    assert torch.equal(model(images).points, before)


def test_only_the_adapters_of_a_group_train(model, images):
    decoder = {n for n in trained(model) if model.group_of(n) != "encoder"}
    add_lora(model, {"encoder": LORA}, seed=5)
    adapters = {n for n in trained(model) if model.group_of(n) == "encoder"}
    assert len(adapters) == 2 * 4 * SMALL.enc_depth
    assert all(name.endswith((".lora_a", ".lora_b")) for name in adapters)
    assert trained(model) == decoder | adapters
    before = {n: p.clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    model(images).points.square().mean().backward()
    optimizer.step()
    frozen = {n for n, p in model.named_parameters() if torch.equal(p, before[n])}
    assert not any("lora_b" in name for name in frozen)
    assert {n for n in before if n.startswith("enc_blocks") and ".lora_" not in n} <= frozen


def test_targets_and_patterns_choose_layers(model):
    qkv = LoraConfig(rank=2, targets=("*.attn.qkv",))
    add_lora(model, {"decoder": qkv, "enc_blocks.1.mlp.fc?": LORA}, seed=5)
    adapted = {n for n, m in model.named_modules() if isinstance(m, LoraLinear)}
    assert adapted == {
        "dec_blocks.0.attn.qkv",
        "dec_blocks2.0.attn.qkv",
        "enc_blocks.1.mlp.fc1",
        "enc_blocks.1.mlp.fc2",
    }
    assert "enc_blocks.1.attn.qkv.weight" in trained(model)
    assert "enc_blocks.1.mlp.fc1.weight" not in trained(model)
    assert "dec_blocks.0.attn.proj.weight" not in trained(model)


def test_merged_weights_give_the_same_under_the_old_names(model, images, tmp_path):
    names = list(model.state_dict())
    add_lora(model, {"encoder": LORA, "decoder": LORA}, seed=5)
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("lora_b"):
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    adapted = model.eval()(images)
    merge_lora(model)
    assert list(model.state_dict()) == names
    assert not any(isinstance(m, LoraLinear) for m in model.modules())
    torch.testing.assert_close(model(images).points, adapted.points, rtol=1e-4, atol=1e-5)
    plain = build_model(SMALL, seed=1).eval()(images)
    assert (plain.points - adapted.points).abs().max() > 1e-2
    save_model(model, tmp_path / "merged.safetensors")
    assert torch.equal(
        load_model(tmp_path / "merged.safetensors")(images).points, model(images).points
    )


def test_the_seed_fixes_the_adapters_whatever_their_order():
    adapters = {"encoder": LORA, "enc_blocks.1.*": LoraConfig(rank=1), "decoder": LORA}

    def made(seed, adapters):
        model = build_model(SMALL, seed=1)
        add_lora(model, adapters, seed)
        return {n: p for n, p in model.state_dict().items() if n.endswith("lora_a")}

    torch.manual_seed(0)
    one = made(5, adapters)
    torch.manual_seed(1)
    two = made(5, dict(reversed(adapters.items())))
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["enc_blocks.1.attn.qkv.lora_a"].shape[0] == 1
    assert one["enc_blocks.0.attn.qkv.lora_a"].shape[0] == 2
    other = made(6, adapters)
    assert not any(torch.equal(one[name], other[name]) for name in one)
    assert len({tensor.sum().item() for tensor in one.values()}) == len(one)


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ({"gaussian_head": LORA}, "freezes"),
        ({"encode": LORA}, "fits no linear layer"),
        ({"encoder": LoraConfig(targets=("*.conv",))}, "fits no linear layer"),
        ({"encoder": LORA, "enc_blocks.*": LORA}, "lora.encoder .* fits no linear layer"),
    ],
)
def test_adapters_that_fit_nothing_are_refused(model, adapters, message):
    with pytest.raises(ConfigError, match=message):
        add_lora(model, adapters, seed=1)


def test_a_layer_without_a_bias_can_be_adapted():
    layer = LoraLinear(nn.Linear(4, 3, bias=False), rank=2, alpha=2)
    nn.init.ones_(layer.lora_a), nn.init.ones_(layer.lora_b)
    x = torch.rand(5, 4)
    torch.testing.assert_close(layer.merged()(x), layer(x))
    assert layer.merged().bias is None
