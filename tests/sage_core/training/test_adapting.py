"""Adapting a real, tiny MV-DUSt3R on a shard of rooms, with anchors, rendering and labelled samples."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_runs import TINY, losses_of, start, wait_for_step

from sage_core.errors import CheckpointError, ConfigError, TrainingError
from sage_core.models import load_model, read_info
from sage_core.training import launch
from sage_core.training.__main__ import main
from sage_core.training.engine import Ending
from sage_core.training.journal import read_metrics
from sage_core.training.plan import plan
from sage_core.training.run import train
from sage_core.types import Reason


def test_four_steps_with_every_loss(settings, base):
    run = settings()
    assert train(run) is Ending.FINISHED
    lines = read_metrics(run.folder / "metrics.jsonl")
    seen = {name for line in lines for name in line["terms"]}
    assert seen == {"anchor", "photometric", "scale_penalty", "labelled", "total"}
    assert all(math.isfinite(v) for line in lines for v in line["terms"].values())
    assert all(line["grad_norm"] > 0 and not line["skipped"] for line in lines)
    result = json.loads((run.folder / "result.json").read_text())
    assert result["status"] == "finished"
    assert (result["video_samples"], result["labelled_samples"]) == (6, 2)
    before, after = load_file(base), load_file(run.folder / "model.safetensors")
    assert {n: t.shape for n, t in before.items()} == {n: t.shape for n, t in after.items()}
    changed = {n.split(".")[0] for n in before if not torch.equal(before[n], after[n])}
    assert "downstream_GS_head" not in changed
    assert {"patch_embed", "enc_blocks", "dec_blocks", "dec_blocks2", "downstream_head1"} <= changed
    statistics = [n for n in before if n.endswith(("running_mean", "running_var"))]
    assert statistics
    assert all(torch.equal(before[n], after[n]) for n in statistics)
    assert load_model(run.folder / "model.safetensors").config == TINY
    assert read_info(run.folder / "model.safetensors").provenance["steps"] == 4


def test_the_bare_trainer_says_how_far_it_is(settings, tmp_path, caplog):
    run, file = settings(steps=1), tmp_path / "run.json"
    file.write_text(run.model_dump_json())
    assert main(["--settings", str(file)]) == 0
    assert "step 1 of 1: anchor" in caplog.text
    assert f"finished: {run.folder / 'model.safetensors'}" in caplog.text
    caplog.clear()
    assert main(["--settings", str(file), "--quiet"]) == 0
    assert caplog.text == ""


def test_stopped_and_resumed_is_bitwise_the_same(settings):
    whole, halves = settings("whole"), settings("halves", loader_threads=1)
    assert train(whole) is Ending.FINISHED
    assert train(halves, until=2) is Ending.STOPPED
    assert not (halves.folder / "result.json").exists()
    assert train(halves) is Ending.FINISHED
    assert losses_of(halves.folder) == losses_of(whole.folder)
    for name in ("model.safetensors", "losses.jsonl"):
        assert (halves.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_how_samples_are_grouped_does_not_matter(settings):
    alone, together = settings("alone"), settings("together", optimizer={"micro_batch": 2})
    assert alone.fingerprint() == together.fingerprint()
    train(alone), train(together)
    for a, b in zip(losses_of(alone.folder), losses_of(together.folder), strict=True):
        assert a["terms"] == pytest.approx(b["terms"], rel=1e-3)


def test_a_finished_run_is_left_alone_and_another_is_refused(settings):
    run = settings(steps=1)
    train(run)
    stamp = (run.folder / "result.json").stat().st_mtime_ns
    assert train(run) is Ending.FINISHED
    assert (run.folder / "result.json").stat().st_mtime_ns == stamp
    with pytest.raises(TrainingError, match="its own folder"):
        train(settings(steps=2))


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


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"regularisation": {"source": None}}, ConfigError, "regularisation.enabled=false"),
        ({"loss": {"perceptual": "alex"}}, ConfigError, "perceptual_weights"),
        ({"base": "nowhere.safetensors"}, CheckpointError, "no weights file"),
        ({"base": "mvdust3r"}, CheckpointError, "sage models pull mvdust3r"),
        ({"image_px": 36}, ConfigError, "multiple of the model's patch"),
        ({"frozen": ("head",)}, ConfigError, "cannot freeze head"),
        ({"lr_factors": {"encode": 2.0}}, ConfigError, "lr_factors names encode"),
        (
            {"frozen": ("encoder", "decoder", "point_head", "gaussian_head")},
            ConfigError,
            "nothing to train",
        ),
    ],
)
def test_what_cannot_be_trained_says_why(settings, changes, error, message):
    run = settings(**changes)
    with pytest.raises(error, match=message):
        train(run)
    written = json.loads((run.folder / "result.json").read_text())
    assert written["status"] == "failed"
    assert written["reason"] in {r.value for r in Reason}


class Evil:
    def __reduce__(self):
        return (os.system, ("touch code-from-a-pickle-ran",))


def test_a_base_with_code_in_it_is_a_verdict_and_does_not_run(
    settings, base, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    evil = tmp_path / "evil.pth"
    torch.save({"model": load_file(base), "args": Evil()}, evil)
    run = settings(base=str(evil))
    with pytest.raises(CheckpointError, match="could run code: "):
        train(run)
    written = json.loads((run.folder / "result.json").read_text())
    assert written["reason"] == Reason.BAD_CHECKPOINT
    assert "system" in written["message"]
    assert not (tmp_path / "code-from-a-pickle-ran").exists()


def test_the_plan_is_what_the_run_takes(settings):
    run = settings(steps=None, epochs=2, trajectories=20)
    found = plan(run)
    assert found.steps == (40 + 20) / 2
    assert (found.video_samples, found.labelled_samples) == (40, 20)
    assert found.trained_parameters.keys() == {"encoder", "decoder", "point_head"}
    assert sum(found.parameters.values()) == sum(
        p.numel() for p in load_model(run.adapt.base).parameters()
    )
    assert 0 < found.memory_mb["activations"] < found.memory_mb["total"] < 100


def test_a_run_is_planned_where_its_device_is_not(settings):
    found = plan(settings(device="cuda", processes=1))
    assert found.memory_mb["activations"] > 0
    assert (found.hours is None) == (not torch.cuda.is_available())


@pytest.mark.slow
def test_killed_outright_and_launched_again(settings):
    """SIGKILL in the middle; the same command finishes, and every byte is as if nothing had happened."""
    whole, killed = settings("whole", steps=6), settings("killed", steps=6, checkpoint={"steps": 2})
    train(whole)
    child = start(killed)
    wait_for_step(killed.folder, 3, child)
    child.kill()
    child.wait()
    assert not (killed.folder / "model.safetensors").exists()
    seen = []
    launched = launch(killed, wall_s=300, on_step=seen.append)
    assert launched.result["steps"] == 6
    assert seen[-1]["step"] == 5
    for name in ("model.safetensors", "losses.jsonl"):
        assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.slow
def test_sigterm_saves_and_stops(settings):
    run = settings(steps=1000)
    child = start(run)
    wait_for_step(run.folder, 2, child)
    child.send_signal(signal.SIGTERM)
    assert child.wait(300) == 128 + signal.SIGTERM
    newest = sorted((run.folder / "checkpoints").iterdir())[-1]
    assert int(newest.name.removeprefix("step_")) == len(read_metrics(run.folder / "metrics.jsonl"))


@pytest.mark.slow
def test_the_trainer_dies_with_who_launched_it(settings, tmp_path):
    run = settings(steps=1000)
    file = tmp_path / "outer.json"
    file.write_text(run.model_dump_json())
    code = (
        "import sys; from pathlib import Path; from sage_core.training import *; "
        "launch(TrainSettings.read(Path(sys.argv[1])), wall_s=600)"
    )
    outer = subprocess.Popen([sys.executable, "-c", code, str(file)])
    wait_for_step(run.folder, 1, outer)
    outer.kill()
    outer.wait()
    deadline = time.monotonic() + 300
    while not (run.folder / "checkpoints").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (run.folder / "checkpoints").exists()
    held = int((run.folder / "lock").read_text().split()[1])
    while Path(f"/proc/{held}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{held}").exists()


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_run_goes_on_with_more(settings, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=900k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        run = settings("disk/run", checkpoint={"steps": 1})
        with pytest.raises(TrainingError, match="is full") as error:
            launch(run, wall_s=300)
        assert error.value.reason is Reason.DISK_FULL
        assert error.value.retryable
        subprocess.run(["mount", "-o", "remount,size=20m", str(disk)], check=True)
        assert launch(run, wall_s=300).result["steps"] == 4
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_the_gaussian_head_can_be_trained_too(settings, base):
    """Two ranks, since not every sample reaches every parameter then."""
    run = settings(processes=2, frozen=(), loss={"gaussian_gradient": "all"})
    launch(run, wall_s=300)
    before, after = load_file(base), load_file(run.folder / "model.safetensors")
    head = [n for n in before if n.startswith("downstream_GS_head") and "mlp_opacity" in n]
    assert all(not torch.equal(before[n], after[n]) for n in head)
    assert torch.equal(before["mask_token"], after["mask_token"])


@pytest.mark.slow
def test_two_ranks_see_the_same_samples_and_resume_bitwise(settings):
    one = settings("one", steps=4)
    train(one)
    whole = settings("whole", steps=4, processes=2)
    launch(whole, wall_s=300)
    assert json.loads((whole.folder / "result.json").read_text())["ranks"] == 2
    for a, b in zip(losses_of(one.folder), losses_of(whole.folder), strict=True):
        assert a["terms"].keys() == b["terms"].keys()
        assert a["terms"] == pytest.approx(b["terms"], rel=2e-3)
    killed = settings("killed", steps=4, processes=2, checkpoint={"steps": 1})
    child = start(killed)
    wait_for_step(killed.folder, 1, child)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    launch(killed, wall_s=300)
    for name in ("model.safetensors", "losses.jsonl"):
        assert (killed.folder / name).read_bytes() == (whole.folder / name).read_bytes()
