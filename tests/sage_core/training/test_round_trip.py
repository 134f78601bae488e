"""Upstream's checkpoint in, two steps of adaptation, and out again in upstream's own key layout."""

import argparse
import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file

from sage_core.models import MVDust3rConfig, build_model, export_model, load_model, registry
from sage_core.training import TrainSettings
from sage_core.training.run import train

SMALL = MVDust3rConfig(32, 8, 32, 1, 2, 32, 1, 2, skip_dim=4, gs_mlp_dim=16)


@pytest.fixture(params=["MVD", "MVDp"])
def checkpoint(request, tmp_path, monkeypatch):
    """A file as upstream's training writes it, at widths that take a second instead of an hour."""
    config = replace(SMALL, cross_reference=request.param == "MVDp")
    small = replace(registry.MVDUST3R, published=lambda names, path: config)
    monkeypatch.setattr(registry, "ARCHITECTURES", (small, registry.VGGT_1))
    state = build_model(config, seed=5).state_dict()
    optimizer = {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]}
    path = tmp_path / f"{request.param}.pth"
    torch.save(
        {
            "model": state,
            "args": argparse.Namespace(model="AsymmetricCroCo3DStereoMultiView(...)", lr=1.5e-4),
            "epoch": 99,
            "optimizer": optimizer,
            "scaler": {"scale": 65536.0},
            "best_so_far": 0.07,
        },
        path,
    )
    return path, state


def shapes(state):
    return {name: (list(t.shape), t.dtype) for name, t in state.items()}


def test_upstream_in_adapted_and_upstream_out(checkpoint, room_shard, tmp_path):
    path, before = checkpoint
    references = 2 if any(name.startswith("dec_same_view") for name in before) else 1
    run = TrainSettings.model_validate(
        {
            "adapt": {
                "base": str(path),
                "steps": 2,
                "sampling": {"n_context": 3, "n_targets": 1},
                "loss": {"perceptual": "none", "references": references},
                "regularisation": {"source": "rooms", "ratio": 1, "pool": 2},
                "optimizer": {"batch": 2, "lr": 1e-3},
                "device": "cpu",
                "threads": 1,
            },
            "datasets": [{"parts": [{"path": str(room_shard)}]}],
            "out": str(tmp_path / "run"),
        }
    )
    train(run)
    assert json.loads((run.folder / "result.json").read_text())["status"] == "finished"
    saved = load_file(run.folder / "model.safetensors")
    assert shapes(saved) == shapes(before)
    adapted = load_model(run.folder / "model.safetensors")
    for form, name in (("upstream", "adapted.pth"), ("safetensors", "adapted.safetensors")):
        export_model(adapted, tmp_path / name, form)
    theirs = torch.load(tmp_path / "adapted.pth", weights_only=True)["model"]
    assert shapes(theirs) == shapes(load_file(tmp_path / "adapted.safetensors")) == shapes(before)
    assert all(torch.equal(theirs[name], saved[name]) for name in theirs)
    changed = {name for name in before if not torch.equal(before[name], theirs[name])}
    frozen = ("downstream_GS_head.", "mask_token")
    assert not [n for n in changed if n.startswith(frozen) or "running" in n]
    trained = [n for n in before if n.startswith(("dec_", "enc_", "downstream_head"))]
    weights = {n for n in trained if n.endswith(("proj.weight", "fc1.weight", "qkv.weight"))}
    assert len(weights & changed) > 0.9 * len(weights)
    again = load_model(tmp_path / "adapted.pth")
    assert asdict(again.config) == asdict(adapted.config)


def test_every_option_at_once_trains_and_resumes_bitwise(checkpoint, room_shard, tmp_path):
    path, before = checkpoint
    references = 2 if any(name.startswith("dec_same_view") for name in before) else 1

    def settings(name):
        return TrainSettings.model_validate(
            {
                "adapt": {
                    "base": str(path),
                    "steps": 4,
                    "sampling": {
                        "mode": "covisibility",
                        "n_context": 3,
                        "n_targets": 1,
                        "covisibility_max": 1.0,
                    },
                    "curriculum": {"share": 0.5},
                    "loss": {
                        "perceptual": "none",
                        "references": references,
                        "camera_scale": "all_views",
                        "labelled_rendering": True,
                        "anchor_weights": "quality",
                        "robust": "cauchy",
                        "reprojection_weight": 1.0,
                        "exposure": "gain_bias",
                        "exposure_trained": True,
                        "masks": True,
                    },
                    "regularisation": {"source": "rooms", "ratio": 1, "pool": 2},
                    "optimizer": {"batch": 2, "lr": 1e-3},
                    "device": "cpu",
                    "threads": 1,
                },
                "datasets": [
                    {"name": name, "weight": weight, "parts": [{"path": str(room_shard)}]}
                    for name, weight in (("a", 3.0), ("b", 1.0))
                ],
                "out": str(tmp_path / name),
            }
        )

    whole, halves = settings("whole"), settings("halves")
    train(whole)
    train(halves, until=2)
    train(halves)
    lines = [json.loads(line) for line in (whole.folder / "losses.jsonl").read_text().splitlines()]
    terms = {name for line in lines for name in line["terms"]}
    assert {"anchor", "reprojection", "photometric", "labelled", "labelled_rendering"} <= terms
    assert not any(line["skipped"] for line in lines)
    for name in ("model.safetensors", "losses.jsonl"):
        assert (halves.folder / name).read_bytes() == (whole.folder / name).read_bytes()
