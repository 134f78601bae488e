"""Weights on disk: what is written is read back, and nothing that does not fit slips in."""

import argparse
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from sage_core.errors import CheckpointError, ConfigError
from sage_core.models import MVDust3rConfig, build_model, load_model, read_info, save_model

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
    plain.write_bytes(pickle.dumps(Evil(), protocol=2))
    with pytest.raises(CheckpointError):
        load_model(plain, SMALL)
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
