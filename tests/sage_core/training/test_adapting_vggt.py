"""Adapting a real, tiny VGGT on a shard of rooms: upstream's file in, upstream's file out."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError
from sage_core.models import VGGTConfig, build_model, load_model, read_info, save_model
from sage_core.training import DataSet, ShardPart, TrainSettings, launch
from sage_core.training.engine import Ending
from sage_core.training.journal import read_metrics
from sage_core.training.plan import plan
from sage_core.training.preparation import adapted, trained_groups
from sage_core.training.run import train

TINY = VGGTConfig.tiny()
TRACKER = {"track_head.query_ref_token": torch.arange(8.0).view(1, 2, 4)}


@pytest.fixture(scope="session")
def upstream(tmp_path_factory):
    """A file as upstream publishes it: a flat state dict, the tracker's tensors in it, no settings."""
    path = tmp_path_factory.mktemp("upstream") / "model.safetensors"
    save_file({**build_model(TINY, seed=1).state_dict(), **TRACKER}, path)
    return path


@pytest.fixture(scope="session")
def base(upstream):
    """The same with its widths inside, which for the published model are known."""
    path = upstream.with_name("base.safetensors")
    save_model(load_model(upstream, TINY), path)
    return path


@pytest.fixture
def settings(room_shard, base, tmp_path):
    def made(name="run", **changes):
        adapt = {
            "base": str(base),
            "steps": 2,
            "frozen": ("encoder", "point_head"),
            "sampling": {"n_context": 3, "n_targets": 1},
            "loss": {"perceptual": "none", **changes.pop("loss", {})},
            "regularisation": {"source": "rooms", "ratio": 2, "pool": 3},
            "optimizer": {"batch": 2, "lr": 1e-3, **changes.pop("optimizer", {})},
            "device": "cpu",
            "threads": 1,
        }
        return TrainSettings(
            adapt=AdaptConfig.model_validate({**adapt, **changes}),
            datasets=(DataSet(parts=(ShardPart(path=str(room_shard)),)),),
            out=str(tmp_path / name),
            seed=11,
        )

    return made


def test_two_steps_give_back_upstreams_file(settings, upstream):
    run = settings()
    assert train(run) is Ending.FINISHED
    lines = read_metrics(run.folder / "metrics.jsonl")
    seen = {name for line in lines for name in line["terms"]}
    assert seen == {
        *("anchor", "photometric", "scale_penalty", "total"),
        *("labelled", "labelled_camera", "labelled_depth"),
    }
    for terms in (line["terms"] for line in lines if "labelled" in line["terms"]):
        parts = 5 * terms["labelled_camera"] + terms["labelled_depth"]
        assert terms["labelled"] == pytest.approx(parts, rel=1e-4)
    assert all(math.isfinite(v) for line in lines for v in line["terms"].values())
    assert all(line["grad_norm"] > 0 and not line["skipped"] for line in lines)
    before, after = load_file(upstream), load_file(run.folder / "model.safetensors")
    assert {n: t.shape for n, t in before.items()} == {n: t.shape for n, t in after.items()}
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    assert {n.split(".")[0] for n in changed} == {"aggregator", "camera_head", "depth_head"}
    assert not any(n.startswith("aggregator.patch_embed.") for n in changed)
    assert read_info(run.folder / "model.safetensors").config == TINY


def test_with_the_point_head_open_it_learns_from_labels(settings, base):
    run = settings(frozen=(), steps=3)
    train(run)
    before, after = load_file(base), load_file(run.folder / "model.safetensors")
    unchanged = {n for n in before if torch.equal(before[n], after[n])}
    assert unchanged == {"aggregator.patch_embed.mask_token", *TRACKER}


def test_the_answer_of_the_point_head_can_be_adapted(settings, upstream, tmp_path):
    config = VGGTConfig.from_json({**TINY.to_json(), "points": "point_head"})
    save_model(load_model(upstream, config), tmp_path / "points.safetensors")
    run = settings(
        base=str(tmp_path / "points.safetensors"), frozen=("encoder", "camera_head", "depth_head")
    )
    train(run)
    before = load_file(upstream)
    after = load_file(run.folder / "model.safetensors")
    changed = {n.split(".")[0] for n in before if not torch.equal(before[n], after[n])}
    assert changed == {"aggregator", "point_head"}


@pytest.mark.slow
def test_anchors_alone_learn(settings):
    run = settings(
        steps=30,
        loss={"rendering_weight": 0.0},
        regularisation={"enabled": False},
        optimizer={"lr": 3e-3},
    )
    train(run)
    anchor = json.loads((run.folder / "result.json").read_text())["losses"]["anchor"]
    assert anchor["last"] < 0.8 * anchor["first"]


@pytest.mark.slow
def test_the_plan_counts_what_vggt_keeps(settings):
    frozen = plan(settings())
    assert frozen.image_px == TINY.image_size
    assert frozen.trained_parameters.keys() == {"backbone", "camera_head", "depth_head"}
    opened = plan(settings(frozen=()))
    assert opened.memory_mb["activations"] > frozen.memory_mb["activations"] > 0


def test_a_group_that_vggt_does_not_have_is_named(settings):
    with pytest.raises(ConfigError, match="groups are backbone, encoder, camera_head"):
        train(settings(frozen=("gaussian_head",)))


def test_sides_are_multiples_of_its_patch(settings):
    with pytest.raises(ConfigError, match="patch of 14 px"):
        train(settings(image_px=64))


@pytest.mark.slow
def test_stopped_and_resumed_is_bitwise_the_same(settings):
    whole, halves = settings("whole", steps=4), settings("halves", steps=4)
    train(whole)
    assert train(halves, until=2) is Ending.STOPPED
    assert train(halves) is Ending.FINISHED
    for name in ("model.safetensors", "losses.jsonl"):
        assert (halves.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_recomputing_activations_changes_no_weight(settings):
    kept, again = settings("kept"), settings("again", checkpoint_activations=True)
    assert kept.fingerprint() == again.fingerprint()
    train(kept), train(again)
    a, b = (load_file(run.folder / "model.safetensors") for run in (kept, again))
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=1e-3, atol=1e-5)


def test_adapters_merge_back_into_upstreams_layout(settings, upstream):
    run = settings(lora={"backbone": {"rank": 2, "targets": ("*.attn.qkv",)}})
    train(run)
    before, after = load_file(upstream), load_file(run.folder / "model.safetensors")
    assert before.keys() == after.keys()
    changed = {n for n in before if not torch.equal(before[n], after[n])}
    backbone = {n for n in changed if n.startswith("aggregator.")}
    assert len(backbone) == 2 * TINY.aa_depth
    assert all(n.endswith(".attn.qkv.weight") for n in backbone)


def test_a_trunk_in_bfloat16_learns_about_the_same(settings):
    full, half = settings("full"), settings("half", precision="bfloat16")
    train(full), train(half)
    a, b = (read_metrics(run.folder / "metrics.jsonl") for run in (full, half))
    assert not any(line["skipped"] for line in b)
    assert b[0]["terms"] != a[0]["terms"]
    assert b[0]["terms"]["total"] == pytest.approx(a[0]["terms"]["total"], rel=0.05)


def test_an_average_of_it_teaches(settings):
    run = settings(ema_decay=0.5, teacher={"weight": 1.0}, steps=3)
    train(run)
    lines = read_metrics(run.folder / "metrics.jsonl")
    assert any("teacher" in line["terms"] for line in lines)
    assert not any(line["skipped"] for line in lines)


@pytest.mark.slow
def test_shares_of_it_learn_what_the_whole_learns(settings):
    whole = settings("whole", processes=2)
    shares = settings("shares", processes=2, parallel="fully_shard")
    launch(whole, wall_s=300), launch(shares, wall_s=300)
    a, b = (load_file(run.folder / "model.safetensors") for run in (whole, shares))
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(b[name], a[name], rtol=5e-3, atol=1e-4)


@pytest.mark.slow
def test_two_ranks_wait_for_no_gradient_in_vain(settings):
    """As one process the trainer is run by hand; as two, each has parts that its samples do not reach."""
    run = settings(frozen=(), processes=2, steps=3)
    launch(run, wall_s=300)
    result = json.loads((run.folder / "result.json").read_text())
    assert (result["status"], result["ranks"], result["steps"]) == ("finished", 2, 3)


def test_it_trains_at_the_shape_of_the_pictures(settings):
    run = settings(image_shape="model", steps=2)
    assert train(run) is Ending.FINISHED
    lines = read_metrics(run.folder / "metrics.jsonl")
    assert {"anchor", "photometric", "labelled"} <= {n for line in lines for n in line["terms"]}
    assert all(line["grad_norm"] > 0 and not line["skipped"] for line in lines)
    square = settings("square", steps=2)
    assert train(square) is Ending.FINISHED
    other = read_metrics(square.folder / "metrics.jsonl")
    assert lines[0]["terms"]["anchor"] != other[0]["terms"]["anchor"]


def test_samples_of_several_shapes_do_not_pass_together(settings):
    run = settings(image_shape="model", optimizer={"micro_batch": 2})
    with pytest.raises(ConfigError, match=r"set adapt\.optimizer\.micro_batch=1"):
        train(run)


def test_several_references_are_refused_in_words(settings):
    with pytest.raises(ConfigError, match=r"only MV-DUSt3R\+ has: set it to 1"):
        train(settings(loss={"references": 2}))


def test_a_model_without_a_gaussian_head_needs_no_frozen_and_may_name_none(base):
    model = load_model(str(base))
    assert "gaussian_head" not in model.parameter_groups()
    trained = {g.name for g in trained_groups(adapted(model, AdaptConfig(), seed=0), {})}
    assert trained == set(model.parameter_groups())
    with pytest.raises(ConfigError, match="cannot freeze gaussian_head: this model's groups are"):
        adapted(model, AdaptConfig(frozen=("gaussian_head",)), seed=0)
