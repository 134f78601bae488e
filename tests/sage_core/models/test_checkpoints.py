"""Weights on disk: what is written is read back, and nothing that does not fit slips in."""

import argparse
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sage_core.errors import CheckpointError, ConfigError
from sage_core.models import (
    MVDust3rConfig,
    VGGTConfig,
    blank_model,
    build_model,
    export_model,
    load_model,
    read_info,
    save_model,
)
from sage_core.models.registry import architecture, recognise

SHARED = Path(os.environ.get("SAGE_SHARED", Path(__file__).parents[3].parent / "shared"))

SMALL = MVDust3rConfig(16, 4, 16, 1, 2, 16, 1, 2, 2, 4, 8)


@pytest.fixture
def model():
    model = build_model(SMALL, seed=2).eval()
    model.licence = "CC BY-NC 4.0"
    return model


def same_weights(a, b):
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_saved_model_comes_back_with_settings_and_licence(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(model, path, provenance={"base": "mini"})
    loaded = load_model(path)
    assert same_weights(model, loaded)
    assert (loaded.config, loaded.licence, loaded.training) == (SMALL, "CC BY-NC 4.0", False)
    assert read_info(path).provenance == {"base": "mini"}
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]
    x = torch.rand(1, 2, 3, 8, 8)
    assert torch.equal(model(x).points, loaded(x).points)


def test_upstream_checkpoint_with_its_namespace_is_read(model, tmp_path):
    path = tmp_path / "MVD.pth"
    torch.save({"model": model.state_dict(), "args": argparse.Namespace(lr=1e-4), "epoch": 3}, path)
    loaded = load_model(path, SMALL)
    assert same_weights(model, loaded)
    assert loaded.licence == "CC BY-NC 4.0"


class Evil:
    def __reduce__(self):
        return (print, ("code from a pickle ran",))


def test_a_pickle_that_would_run_code_is_refused(model, tmp_path, capsys):
    path = tmp_path / "evil.pth"
    torch.save({"model": model.state_dict(), "args": Evil()}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_model(path, SMALL)
    plain = tmp_path / "plain.pth"
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        plain.write_bytes(pickle.dumps({"model": {"x": Evil()}}, protocol=protocol))
        with pytest.raises(CheckpointError, match=r"run code: [\w.]*print\. Where") as found:
            load_model(plain, SMALL)
        assert "safetensors.torch.save_file" in str(found.value)
    assert "code from a pickle ran" not in capsys.readouterr().out


def test_misfits_are_named(model, tmp_path):
    path = tmp_path / "m.safetensors"
    state = {k: v.clone() for k, v in model.state_dict().items()}
    state["stranger"] = state.pop("dec_norm.bias")
    state["enc_norm.weight"] = torch.ones(3)
    save_file(state, path)
    with pytest.raises(CheckpointError) as caught:
        load_model(path, SMALL)
    message = str(caught.value)
    assert "missing: dec_norm.bias" in message
    assert "unknown: stranger" in message
    assert "enc_norm.weight [3] where [16] fits" in message


def test_without_widths_the_published_ones_are_tried_and_misfits_said(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_file(dict(model.state_dict()), path)
    with pytest.raises(CheckpointError, match="enc_embed_dim=1024"):
        load_model(path)


def test_one_decoder_serves_both_where_a_file_has_but_one(model, tmp_path):
    path = tmp_path / "m.safetensors"
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("dec_blocks2.")}
    save_file(state, path)
    loaded = load_model(path, SMALL).state_dict()
    assert torch.equal(loaded["dec_blocks2.0.norm1.weight"], loaded["dec_blocks.0.norm1.weight"])


@pytest.mark.parametrize("keep", [0, 5, 300])
def test_truncated_files_are_refused(model, tmp_path, keep):
    whole, path = tmp_path / "whole.safetensors", tmp_path / "m.safetensors"
    save_model(model, whole)
    path.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="cut short"):
        load_model(path)
    pth = tmp_path / "m.pth"
    torch.save({"model": model.state_dict()}, pth)
    pth.write_bytes(pth.read_bytes()[:keep])
    with pytest.raises(CheckpointError):
        load_model(pth, SMALL)


def test_other_formats_and_missing_files(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    save_file(load_file(path), path, {"format": "sage-model-99"})
    with pytest.raises(CheckpointError, match="sage-model-99"):
        load_model(path)
    with pytest.raises(CheckpointError, match="looks like safetensors"):
        load_model(path.rename(tmp_path / "m.bin"))
    with pytest.raises(CheckpointError, match="no weights file"):
        load_model(tmp_path / "nowhere.safetensors")
    with pytest.raises(CheckpointError, match="sage models pull mvdust3r"):
        load_model("mvdust3r")
    with pytest.raises(ConfigError, match="mini"):
        build_model("maxi", 0)


def test_widths_that_contradict_the_file_are_refused(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    with pytest.raises(CheckpointError, match="asked for"):
        load_model(path, MVDust3rConfig.mini())


# VGGT: what upstream has and the model does not need

VGGT_KEYS = SHARED / "spec" / "vggt_1b_keys.json"


def all_keys(path):
    """Name -> shape of all tensors in a list of patterns."""
    found = {}
    for entry in json.loads(path.read_text())["entries"]:
        names = (entry["key"].replace("{i}", str(i)) for i in range(entry.get("count", 1)))
        found |= dict.fromkeys(names, tuple(entry["shape"]))
    return found


@pytest.mark.skipif(not VGGT_KEYS.exists(), reason=f"no list of VGGT-1B's keys at {VGGT_KEYS}")
@pytest.mark.parametrize("point_head", [True, False])
def test_golden_vggt_1b_has_the_published_keys(point_head):
    published = all_keys(VGGT_KEYS)
    model = blank_model(VGGTConfig(point_head=point_head))
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    entry = architecture("vggt")
    assert ours.items() <= published.items()
    assert all(entry.keeps(name) for name in published.keys() - ours.keys())
    assert recognise(published.keys()) is entry
    assert {n.partition(".")[0] for n in published.keys() - ours.keys()} == (
        {"track_head"} if point_head else {"track_head", "point_head"}
    )


@pytest.fixture
def vggt_state():
    """A published VGGT in small: all heads, and a tracker of which SAGE knows nothing."""
    state = build_model(VGGTConfig.tiny(), seed=1).state_dict()
    return {**state, "track_head.a.weight": torch.rand(3, 4), "track_head.steps": torch.arange(2)}


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize("point_head", [True, False])
def test_vggt_loads_from_every_form_and_is_written_back_whole(
    vggt_state, tmp_path, nested, wrapper, point_head
):
    named = {wrapper + name: tensor for name, tensor in vggt_state.items()}
    path, config = tmp_path / "model.pt", replace(VGGTConfig.tiny(), point_head=point_head)
    torch.save({"model": named, "optimizer": {"x": 1}} if nested else named, path)
    model = load_model(path, config)
    assert {"track_head.a.weight", "track_head.steps"} <= model.kept_tensors.keys()
    assert point_head != any(name.startswith("point_head.") for name in model.kept_tensors)
    for form in ("upstream", "safetensors"):
        out = tmp_path / form
        export_model(model, out, form)
        back = torch.load(out, weights_only=True) if form == "upstream" else load_file(out)
        assert back.keys() == vggt_state.keys()
        assert all(torch.equal(back[name], tensor) for name, tensor in vggt_state.items())
    save_model(model, tmp_path / "ours.safetensors")
    again = load_model(tmp_path / "ours.safetensors")
    assert again.config == config
    assert again.kept_tensors.keys() == model.kept_tensors.keys()


def test_adapted_weights_have_upstreams_keys_and_shapes(vggt_state, tmp_path):
    path = tmp_path / "model.safetensors"
    save_file(vggt_state, path)
    model = load_model(path, VGGTConfig.tiny()).train()
    model.freeze(["point_head"])
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.rand(1, 2, 3, 28, 28)).points.square().mean().backward()
        optimizer.step()
    save_model(model, tmp_path / "adapted.safetensors")
    back = load_file(tmp_path / "adapted.safetensors")
    assert {k: t.shape for k, t in back.items()} == {k: t.shape for k, t in vggt_state.items()}
    changed = {k.partition(".")[0] for k, t in back.items() if not torch.equal(t, vggt_state[k])}
    assert changed == {"aggregator", "camera_head", "depth_head"}


def test_quantised_and_foreign_weights_are_refused(model, tmp_path):
    path = tmp_path / "m.safetensors"
    state = {k: t.clone() for k, t in model.state_dict().items()}
    state["enc_norm.weight"] = torch.ones(16, dtype=torch.int8)
    save_file(state, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"quantised\): enc_norm\.weight"):
        load_model(path, SMALL)
    save_file({"backbone.x": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match=r"no model that this SAGE knows.*backbone\.x"):
        load_model(path)
    with pytest.raises(CheckpointError, match="no architecture 'vgt'"):
        load_model(f"vgt:{path}")
    with pytest.raises(CheckpointError, match=r"missing: aggregator"):
        load_model(f"vggt:{path}")
    save_model(model, path)
    with pytest.raises(CheckpointError, match="a model of mvdust3r, not of vggt"):
        load_model(f"vggt:{path}")


def test_the_offending_global_is_named(model, tmp_path):
    path = tmp_path / "m.pth"
    torch.save({"model": model.state_dict(), "x": argparse.ArgumentParser}, path)
    with pytest.raises(CheckpointError, match=r"run code: argparse\.ArgumentParser"):
        load_model(path, SMALL)


def test_half_precision_files_come_back_in_float32(model, tmp_path):
    path = tmp_path / "m.pth"
    half = {k: t.bfloat16() if t.is_floating_point() else t for k, t in model.state_dict().items()}
    torch.save({"model": half}, path)
    loaded = load_model(path, SMALL).state_dict()
    assert all(torch.equal(loaded[k].double(), half[k].double()) for k in half)
    assert {t.dtype for t in loaded.values()} == {torch.float32, torch.int64}


def test_a_replaced_file_does_not_change_a_loaded_model(model, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(model, path)
    loaded = load_model(path)
    with path.open("r+b") as file:
        file.write(b"\0" * path.stat().st_size)
    assert same_weights(model, loaded)
