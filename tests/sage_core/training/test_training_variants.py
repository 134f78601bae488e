"""What may train and in what form it may run: adapters, averages, a teacher, varying views, and the rest."""

import json
import math
import os
import signal
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file
from training_runs import losses_of, start, wait_for_step

from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError
from sage_core.losses import teacher_loss
from sage_core.models import load_model
from sage_core.training import launch
from sage_core.training.average import WeightAverage
from sage_core.training.drawing import VideoSamples
from sage_core.training.engine import Ending
from sage_core.training.journal import read_metrics
from sage_core.training.order import Kind, SampleId, SampleOrder, ViewCounts
from sage_core.training.preparation import (
    adapted,
    frozen_entries,
    trained_groups,
)
from sage_core.training.routine import Routine
from sage_core.training.run import train
from sage_core.training.teaching import teacher

ALL = {
    "lora": {"encoder": {"rank": 2}, "decoder": {"rank": 4, "targets": ["*.attn.qkv"]}},
    "ema_decay": 0.9,
    "teacher": {"weight": 0.5},
    "views": {"min": 2, "max": 3},
    "checkpoint_activations": True,
    "render_steps": 2,
}
"""Everything that a checkpoint must carry, or a step must not depend on."""


def test_all_of_it_stopped_and_resumed_is_bitwise_the_same(settings):
    whole, halves = settings("whole", **ALL), settings("halves", **ALL)
    assert train(whole) is Ending.FINISHED
    for stop in (1, 3):
        assert train(halves, until=stop) is Ending.STOPPED
    assert train(halves) is Ending.FINISHED
    assert losses_of(halves.folder) == losses_of(whole.folder)
    for name in ("model.safetensors", "losses.jsonl", "renders/step_00000002.png"):
        assert (halves.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_adapters_train_alone_and_leave_plain_weights(settings, base):
    lora = {name: {"rank": 2} for name in ("encoder", "decoder", "point_head")}
    run = settings(lora=lora)
    train(run)
    before, after = load_file(base), load_file(run.folder / "model.safetensors")
    assert {n: t.shape for n, t in before.items()} == {n: t.shape for n, t in after.items()}
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert "enc_blocks.0.attn.qkv.weight" in changed
    assert "downstream_head1.proj.weight" in changed
    assert all(name.endswith(".weight") for name in changed)
    assert not any(word in name for name in changed for word in ("norm", "patch_embed", "conv"))
    name = "enc_blocks.0.mlp.fc1.weight"
    assert torch.linalg.matrix_rank(after[name] - before[name], rtol=1e-3) == 2
    saved = load_file(run.folder / "checkpoints" / "step_00000004" / "model.safetensors")
    assert sum(name.endswith(".lora_a") for name in saved) == sum(
        name.endswith(".lora_b") for name in saved
    )
    result = json.loads((run.folder / "result.json").read_text())
    adapters = [t.numel() for name, t in saved.items() if ".lora_" in name]
    assert result["trained_parameters"] == sum(adapters) > 0
    assert load_model(run.folder / "model.safetensors")


def test_the_average_is_what_the_run_gives(settings):
    run, plain = settings("ema", ema_decay=0.5), settings("plain")
    train(run), train(plain)
    final = run.folder / "checkpoints" / "step_00000004"
    given = load_file(run.folder / "model.safetensors")
    average, last = load_file(final / "average.safetensors"), load_file(final / "model.safetensors")
    assert all(torch.equal(given[name], tensor) for name, tensor in average.items())
    assert any(not torch.equal(last[name], tensor) for name, tensor in average.items())
    assert all(torch.equal(last[name], given[name]) for name in last.keys() - average.keys())
    results = [json.loads((r.folder / "result.json").read_text()) for r in (run, plain)]
    assert [result["weights"] for result in results] == ["average", "last"]
    # Averaging watches and changes nothing.
    assert losses_of(run.folder) == losses_of(plain.folder)


def test_an_average_forgets_at_its_decay():
    layer = torch.nn.Linear(2, 1, bias=False)
    layer.weight.data[:] = torch.tensor([[0.0, 8.0]])
    average = WeightAverage(layer, 0.75)
    layer.weight.data[:] = torch.tensor([[4.0, 0.0]])
    average.update()
    with average.swapped():
        assert layer.weight.tolist() == [[1.0, 6.0]]
    assert layer.weight.tolist() == [[4.0, 0.0]]


def test_the_average_begins_at_the_base_weights(settings):
    run = settings(ema_decay=0.5, steps=1)
    train(run)
    final = run.folder / "checkpoints" / "step_00000001"
    base = load_file(run.adapt.base)
    average, last = load_file(final / "average.safetensors"), load_file(final / "model.safetensors")
    name = "enc_blocks.0.mlp.fc1.weight"
    torch.testing.assert_close(average[name], (base[name] + last[name]) / 2)


def test_the_teacher_sees_more_and_pulls(settings, room_shard):
    run = settings(**{**ALL, "views": {}})
    adapt = run.adapt
    samples = VideoSamples(run.datasets, adapt.sampling, size=32, seed=1, shuffle_views=True)
    sample = samples(SampleId(Kind.VIDEO, 0, 0))
    model = load_model(adapt.base)
    seen = []
    hook = model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    with torch.no_grad():
        (taught,) = teacher(adapt, torch.device("cpu"))(model, [sample])
    hook.remove()
    assert seen == [sample.context + 1]
    assert taught.taught.points.shape == (1, 3, 32, 32, 3)
    with torch.no_grad():
        own = model(sample.images[None, :3])
        right = model(sample.images[None]).points[:, :3]
    assert float(teacher_loss(right, taught.taught.points, taught.taught.conf)) == pytest.approx(
        0, abs=1e-5
    )
    assert float(teacher_loss(own.points, taught.taught.points, taught.taught.conf)) > 1e-3
    train(run)
    terms = [line["terms"] for line in read_metrics(run.folder / "metrics.jsonl")]
    assert all(math.isfinite(t["teacher"]) and t["teacher"] > 0 for t in terms)


def test_the_teachers_loss_counts_what_it_trusts_in_any_unit():
    generator = torch.Generator().manual_seed(1)
    taught = torch.rand(1, 2, 4, 4, 3, generator=generator) + 1
    trust = torch.rand(1, 2, 4, 4, generator=generator)
    half = trust >= trust.flatten(2).quantile(0.5, dim=2)[..., None, None]
    wrong = torch.where(half[..., None], 5 * taught, 100.0).requires_grad_()
    loss = teacher_loss(wrong, taught, trust, kept_share=0.5)
    assert loss.item() == pytest.approx(0, abs=1e-6)
    moved = (taught + torch.tensor([0.1, 0, 0])).requires_grad_()
    teacher_loss(moved, taught, trust, kept_share=0.5).backward()
    assert torch.equal(moved.grad.abs().sum(-1) > 0, half)
    broken = taught.clone()
    broken[0, 0, 0, 0] = math.nan
    assert teacher_loss(moved, broken, trust).isfinite()


def test_a_teacher_needs_an_average_and_views_of_its_own(settings):
    with pytest.raises(ValidationError, match="set ema_decay"):
        settings(teacher={"weight": 1.0})
    run = settings(
        teacher={"weight": 1.0}, ema_decay=0.9, sampling={"n_context": 3, "n_targets": 0}
    )
    with pytest.raises(ConfigError, match="n_targets"):
        train(run)


def test_view_counts_follow_from_seed_and_step():
    order = SampleOrder(60, 3, batch=4, view_counts=ViewCounts(2, 5, seed=9))
    views = [order.views(step) for step in range(200)]
    assert set(views) == {2, 3, 4, 5}
    assert views == [order.views(step) for step in range(200)]
    assert views != [
        replace(order, view_counts=ViewCounts(2, 5, seed=8)).views(s) for s in range(200)
    ]
    for step in range(20):
        assert {one.views for one in order.step(step)} == {views[step]}
    plain = SampleOrder(60, 3, batch=4)
    assert [replace(one, views=0) for one in order.step(7)] == plain.step(7)


def test_images_at_once_stay_within_the_budget():
    order = SampleOrder(60, None, batch=12, view_counts=ViewCounts(2, 6, seed=9))
    how = Routine(order, rate=None, seed=0, fingerprint="", micro_batch=2, images=6)
    for step in range(30):
        assert how.at_once(step) == max(1, 6 // order.views(step))
        assert how.at_once(step) * order.views(step) <= 6


def test_views_vary_in_a_run(settings):
    run = settings(views={"min": 2, "max": 4}, optimizer={"batch": 6, "micro_batch": 2}, steps=6)
    train(run)
    lines = read_metrics(run.folder / "metrics.jsonl")
    assert {line["views"] for line in lines} == {2, 3, 4}
    assert all(line["terms"].keys() >= {"anchor", "labelled"} for line in lines)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": {"min": 2}}, "given together"),
        ({"views": {"min": 4, "max": 3}}, "above max"),
        ({"views": {"min": 2, "max": 9}}, "more images than a process takes at once"),
        ({"views": {"min": 2, "max": 3}, "sampling": {"mode": "candidates"}}, "candidates"),
        ({"curriculum": {"share": 0.3}, "sampling": {"mode": "candidates"}}, "curriculum.share"),
        ({"views": {"min": 2, "max": 4}, "loss": {"references": 3}}, "views.min 2"),
        ({"loss": {"references": 9}}, "sampling.n_context 8"),
        ({"loss": {"rendered_context": 0}, "sampling": {"n_targets": 0}}, "no view is rendered"),
        ({"loss": {"anchor_weight": 0, "rendering_weight": 0}}, "teach nothing"),
        ({"sampling": {"covisibility_min": 0.7}}, "above covisibility_max"),
        ({"mixing": {"difficulty_weights": [0, 0]}}, "no class of difficulty"),
        ({"mixing": {"difficulty_weights": []}}, "no class of difficulty"),
        ({"mixing": {"sources": {"estate": -1}}}, "greater than or equal to 0"),
        ({"lr_factors": {"encoder": -1}}, "greater than 0"),
        ({"held_out": [""]}, "at least 1 character"),
        ({"lora": {"encoder": {"rank": 0}}}, "greater than or equal to 1"),
        ({"ema_decay": 1.0}, "less than 1"),
    ],
)
def test_settings_that_contradict(changes, message):
    with pytest.raises(ValidationError, match=message):
        AdaptConfig.model_validate(changes)


def test_several_references_need_paths_that_exchange(settings):
    with pytest.raises(ConfigError, match=r"references=2.*set it to 1.*mvdust3r_plus"):
        train(settings(loss={"references": 2}))


def test_shares_of_a_single_process_say_that_they_are_none(settings, caplog):
    run = settings(steps=1, parallel="fully_shard", loss={"rendering_weight": 0})
    train(run)
    (line,) = [r.message for r in caplog.records if "fully_shard" in r.message]
    assert "single process" in line
    assert "adapt.processes" in line
    assert json.loads((run.folder / "result.json").read_text())["parallel"] == "none"


def test_the_gaussian_head_is_frozen_unless_the_settings_say_otherwise(base):
    model = load_model(str(base))
    assert frozen_entries(AdaptConfig(), model) == ("gaussian_head",)
    assert frozen_entries(AdaptConfig(frozen=()), model) == ()
    assert frozen_entries(AdaptConfig(frozen=("encoder",)), model) == ("encoder",)
    assert AdaptConfig().gaussian_head_frozen
    assert not AdaptConfig(frozen=("encoder",)).gaussian_head_frozen


def test_runs_that_gather_statistics_differ_by_what_those_are_of(settings, monkeypatch):
    def prints(**changes):
        found = [settings(optimizer={"micro_batch": n}, **changes).fingerprint() for n in (1, 2)]
        monkeypatch.setenv("WORLD_SIZE", "2")
        found.append(settings(optimizer={"micro_batch": 1}, **changes).fingerprint())
        monkeypatch.delenv("WORLD_SIZE")
        return found

    assert len({*prints()}) == 1
    assert len({*prints(batchnorm_frozen=False)}) == 3


def test_what_does_not_change_results_does_not_change_the_run(settings):
    plain = settings("plain")
    other = settings(
        "other",
        render_steps=1,
        peak_tflops=0.1,
        parallel="fully_shard",
    )
    assert plain.fingerprint() == other.fingerprint()
    train(plain), train(other)
    assert losses_of(other.folder) == losses_of(plain.folder)
    assert (other.folder / "losses.jsonl").read_bytes() == (
        plain.folder / "losses.jsonl"
    ).read_bytes()
    lines = read_metrics(other.folder / "metrics.jsonl")
    assert all(0 < line["mfu"] < 1 for line in lines)
    assert all(line["mfu"] is None for line in read_metrics(plain.folder / "metrics.jsonl"))
    assert len(list((other.folder / "renders").iterdir())) == 4
    picture = cv2.imread(str(other.folder / "renders" / "step_00000004.png"))
    assert picture.shape == (32, 64, 3)
    assert np.ptp(picture) > 50


def test_checkpointed_activations_change_losses_by_rounding_alone(settings):
    plain, again = settings("plain"), settings("again", checkpoint_activations=True)
    assert plain.fingerprint() == again.fingerprint()
    train(plain), train(again)
    for a, b in zip(losses_of(plain.folder), losses_of(again.folder), strict=True):
        assert a["terms"] == pytest.approx(b["terms"], rel=1e-3)


def test_bfloat16_trains_within_its_rounding(settings):
    plain, half = settings("plain"), settings("half", precision="bfloat16")
    train(plain), train(half)
    for a, b in zip(losses_of(plain.folder), losses_of(half.folder), strict=True):
        assert a["terms"] == pytest.approx(b["terms"], rel=0.1)
    tensors = load_file(half.folder / "checkpoints" / "step_00000004" / "model.safetensors")
    assert {t.dtype for t in tensors.values() if t.is_floating_point()} == {torch.float32}


def test_learning_rates_by_group_and_pattern(settings):
    run = settings(
        lr_factors={"enc_blocks.0.attn.*": 0.5, "enc_blocks.*": 0.2, "encoder": 0.1}, steps=1
    )
    model = adapted(load_model(run.adapt.base), run.adapt, seed=0)
    groups = {g.name: g for g in trained_groups(model, run.adapt.lr_factors)}
    assert groups.keys() == {
        "encoder",
        "enc_blocks.*",
        "enc_blocks.0.attn.*",
        "decoder",
        "point_head",
    }
    assert len(groups["enc_blocks.0.attn.*"].parameters) == 4
    total = sum(p.numel() for g in groups.values() for p in g.parameters)
    assert total == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert (groups["encoder"].lr_factor, groups["enc_blocks.*"].lr_factor) == (0.1, 0.2)
    train(run)
    (line,) = read_metrics(run.folder / "metrics.jsonl")
    assert line["lrs"]["enc_blocks.0.attn.*"] == pytest.approx(0.5 * line["lr"])
    assert line["lrs"]["decoder"] == line["lr"]
    assert line["grad_norms"].keys() == line["lrs"].keys()


def test_tensorboard_is_written_or_missed_by_name(settings):
    run = settings(tensorboard=True, render_steps=2, steps=2)
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    except ImportError:
        with pytest.raises(ConfigError, match="extra 'viewer'"):
            train(run)
        return
    assert train(run, until=1) is Ending.STOPPED
    assert train(run) is Ending.FINISHED
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    assert {"loss/anchor", "grad_norm/encoder", "lr/decoder", "speed/samples_per_s"} <= set(
        events.Tags()["scalars"]
    )
    assert [e.step for e in events.Scalars("loss/total")] == [0, 1]
    assert len(events.Images("targets_and_renders")) == 1


@pytest.mark.slow
def test_no_compiler_is_said_so(settings, tmp_path):
    """In a process of its own: torch finds its compiler once."""
    run = settings(compile=True)
    environment = {
        **os.environ,
        "CXX": str(tmp_path / "nothing"),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
    }
    status, message = in_child(run, environment)
    assert status == 1
    assert "adapt.compile is on and torch.compile does not work on cpu" in message
    assert json.loads((run.folder / "result.json").read_text())["reason"] == "bad_config"


def first_gradient(run):
    """What the first step handed the optimiser, out of AdamW's first moment: (1 - beta1) times it."""
    path = run.folder / "checkpoints" / "step_00000001" / "optimizer.pt"
    moments = torch.load(path, weights_only=True)["state"]
    return torch.cat([moments[number]["exp_avg"].flatten() for number in sorted(moments)])


@pytest.mark.slow
def test_compiled_blocks_train_alike_under_the_same_names(settings):
    """Loss and gradient of the first step, from the same weights, agree to float32's rounding.

    Not so what comes after: AdamW's first steps are the learning rate times the gradient's sign, which
    rounding turns over where the gradient is next to nothing. Nor the rendering's gradient, which is no
    block's: cut-offs of splats make it jump by 1e-4 when weights change by their last bit, compiled or not.
    """
    changes = {"steps": 1, "optimizer": {"batch": 3}, "loss": {"rendering_weight": 0}}
    plain, compiled = (
        settings("plain", **changes),
        settings("compiled", **changes, compile=True, checkpoint_activations=True),
    )
    train(plain)
    assert in_child(compiled, dict(os.environ))[0] == 0
    (a,), (b,) = (losses_of(run.folder) for run in (plain, compiled))
    assert {"anchor", "labelled"} <= a["terms"].keys()
    assert a["terms"] == pytest.approx(b["terms"], rel=1e-6)
    mine, theirs = first_gradient(plain), first_gradient(compiled)
    assert (mine - theirs).norm() < 1e-5 * mine.norm()
    names = [load_file(run.folder / "model.safetensors").keys() for run in (plain, compiled)]
    assert names[0] == names[1]


@pytest.mark.slow
def test_out_of_memory_says_what_to_lower(settings):
    """A real allocation that fails: once data flows, the process may not grow by what the images take."""
    run = settings(
        image_px=1024, optimizer={"batch": 2, "micro_batch": 2}, regularisation={"enabled": False}
    )
    code = (
        "import cv2, resource, sys\n"
        "from sage_core.training import __main__ as trainer, step\n"
        "cv2.setNumThreads(1)\n"
        "passes = step.Passes.run\n"
        "def limited(*inputs):\n"
        "    now = resource.getpagesize() * int(open('/proc/self/statm').read().split()[0])\n"
        "    resource.setrlimit(resource.RLIMIT_AS, (now + (400 << 20),) * 2)\n"
        "    return passes(*inputs)\n"
        "step.Passes.run = limited\n"
        "sys.exit(trainer.main(sys.argv[1:]))"
    )
    status, message = in_child(run, dict(os.environ), code)
    assert status == 1, message
    for name in (
        "micro_batch (now 2",
        "image_px (now 1024)",
        "checkpoint_activations=true",
        "rendered_context",
    ):
        assert name in message
    assert json.loads((run.folder / "result.json").read_text())["reason"] == "memory_limit"


@pytest.mark.slow
def test_all_of_it_killed_outright_and_launched_again(settings):
    whole = settings("whole", **ALL, steps=10)
    killed = settings("killed", **ALL, steps=10, checkpoint={"steps": 3})
    train(whole)
    child = start(killed)
    wait_for_step(killed.folder, 5, child)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert launch(killed, wall_s=300).result["steps"] == 10
    for name in ("model.safetensors", "losses.jsonl", "renders/step_00000010.png"):
        assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def in_child(run, environment, code=None):
    """Train in a process of its own; returns its status and what it said."""
    run.folder.mkdir(parents=True, exist_ok=True)
    file = run.folder / "settings.json"
    file.write_text(run.model_dump_json())
    what = ["-c", code] if code else ["-m", "sage_core.training"]
    done = subprocess.run(
        [sys.executable, *what, "--settings", str(file)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr
