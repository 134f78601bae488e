"""Adapting models that are the user's own installation, around the stand-ins of ``stand_ins.py``."""

import importlib
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from sage_core.config.adapt import AdaptConfig
from sage_core.models import build_model, load_model, read_info, save_model
from sage_core.models.adapters import MapAnythingConfig, Pi3Config
from sage_core.training import DataSet, ShardPart, TrainSettings
from sage_core.training.engine import Ending
from sage_core.training.journal import read_metrics
from sage_core.training.plan import plan
from sage_core.training.run import train


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """The stand-ins importable, for one test; returns the module that wrote them."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "models")
    module = importlib.import_module("stand_ins")
    module.write_packages(tmp_path / "installed")
    monkeypatch.syspath_prepend(tmp_path / "installed")
    importlib.invalidate_caches()
    yield module
    for name in [n for n in sys.modules if n.split(".")[0] in ("pi3", "mapanything")]:
        del sys.modules[name]


@pytest.mark.parametrize("kind", ["pi3", "pi3x", "mapanything"])
def test_two_steps_and_upstreams_keys_come_back(stand_ins, kind, room_shard, tmp_path):
    config = (
        MapAnythingConfig(stand_ins.MAPANYTHING_ARGUMENTS)
        if kind == "mapanything"
        else Pi3Config(kind)
    )
    base = tmp_path / "base.safetensors"
    save_model(build_model(config, seed=2), base)
    extra = {"depth_emb": torch.ones(1, 1, 8)} if kind == "pi3x" else {}
    if extra:
        save_file({**load_file(base), **extra}, base)
    adapt = {
        "base": f"pi3:{base}" if extra else str(base),
        "steps": 2,
        "image_px": 56,
        "image_shape": "model",
        "frozen": ["encoder"],
        "sampling": {"n_context": 3, "n_targets": 1},
        "loss": {"perceptual": "none", "rendering_weight": 0},
        "regularisation": {"source": "rooms", "ratio": 2, "pool": 3},
        "optimizer": {"batch": 2, "lr": 1e-3},
        "device": "cpu",
        "threads": 1,
    }
    run = TrainSettings(
        adapt=AdaptConfig.model_validate(adapt),
        datasets=(DataSet(parts=(ShardPart(path=str(room_shard)),)),),
        out=str(tmp_path / "run"),
        seed=3,
    )
    found = plan(run)
    assert found.trained_parameters.keys() >= {"decoder", "point_head", "camera_head"}
    counted = kind != "mapanything"  # which looks at values on its way
    assert ("activations" in found.memory_mb) == counted
    assert (found.tflop_per_sample is not None) == counted
    assert train(run) is Ending.FINISHED
    lines = read_metrics(run.folder / "metrics.jsonl")
    assert all(line["grad_norm"] > 0 and not line["skipped"] for line in lines)
    before, after = load_file(base), load_file(run.folder / "model.safetensors")
    assert {n: t.shape for n, t in before.items()} == {n: t.shape for n, t in after.items()}
    changed = {n.split(".")[0] for n in before if not torch.equal(before[n], after[n])}
    assert not changed & {"encoder", "depth_emb", "ray_dirs_encoder", "depth_encoder"}
    assert changed >= ({"point_head", "camera_head"} if extra or kind == "pi3" else {"dense_head"})
    assert load_model(run.folder / "model.safetensors").config == config
    assert read_info(run.folder / "model.safetensors").architecture == kind.removesuffix("x")
