"""Several processes: copies or shares of the model, the same samples, one decision."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_training_variants import ALL
from training_runs import losses_of, start, wait_for_step

from sage_core.training import launch
from sage_core.training.journal import read_metrics

pytestmark = pytest.mark.slow
ACROSS_RANKS = 2e-3
"""Relative difference of losses between numbers of ranks: sums in another order, through AdamW at a learning
rate of 1e-3, whose first steps divide by the gradient's size."""


def same_files(a, b, names=("model.safetensors", "losses.jsonl")):
    return all((a.folder / name).read_bytes() == (b.folder / name).read_bytes() for name in names)


def test_all_of_it_on_two_ranks_survives_being_killed_bitwise(settings):
    one = settings("one", **ALL, steps=10)
    whole = settings("whole", **ALL, steps=10, processes=2)
    killed = settings("killed", **ALL, steps=10, processes=2, checkpoint={"steps": 5})
    launch(one, wall_s=300), launch(whole, wall_s=300)
    child = start(killed)
    wait_for_step(killed.folder, 6, child)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    launch(killed, wall_s=300)
    assert same_files(killed, whole)
    lines = [losses_of(run.folder) for run in (one, whole)]
    for a, b in zip(*lines, strict=True):
        assert a["views"] == b["views"]
        assert a["terms"].keys() == b["terms"].keys()
        assert a["terms"] == pytest.approx(b["terms"], rel=ACROSS_RANKS)


def test_shares_of_the_model_train_as_copies_do_and_save_the_same_files(settings):
    changes = {**ALL, "steps": 4, "processes": 2}
    copies = settings("copies", **changes)
    shares = settings("shares", **changes, parallel="fully_shard")
    launch(copies, wall_s=300), launch(shares, wall_s=300)
    lines = losses_of(copies.folder), losses_of(shares.folder)
    for a, b in zip(*lines, strict=True):
        assert a["terms"] == pytest.approx(b["terms"], rel=ACROSS_RANKS)
    # Of the same weights, so that nothing has been enlarged yet.
    assert lines[0][0]["grad_norms"] == pytest.approx(lines[1][0]["grad_norms"], rel=1e-5)
    saved = [run.folder / "checkpoints" / "step_00000004" for run in (copies, shares)]
    for name in ("model.safetensors", "average.safetensors"):
        forms = [{n: (t.shape, t.dtype) for n, t in load_file(f / name).items()} for f in saved]
        assert forms[0] == forms[1]
    moments = [torch.load(folder / "optimizer.pt", weights_only=True) for folder in saved]
    assert moments[0]["param_groups"] == moments[1]["param_groups"]
    for number, of_copies in moments[0]["state"].items():
        of_shares = moments[1]["state"][number]
        assert {n: t.shape for n, t in of_copies.items()} == {
            n: t.shape for n, t in of_shares.items()
        }


def test_shares_of_the_model_agree_on_batch_norm_statistics(settings, base):
    changes = {"steps": 2, "processes": 2, "batchnorm_frozen": False}
    runs = settings("copies", **changes), settings("shares", **changes, parallel="fully_shard")
    for run in runs:
        launch(run, wall_s=300)
    copies, shares = (load_file(run.folder / "model.safetensors") for run in runs)
    before = load_file(base)
    statistics = [name for name in before if name.endswith("running_var")]
    assert statistics
    for name in statistics:
        assert not torch.equal(shares[name], before[name])
        torch.testing.assert_close(shares[name], copies[name], rtol=ACROSS_RANKS, atol=1e-6)


def test_a_run_in_shares_goes_on_bitwise_and_also_in_copies_and_alone(settings):
    changes = {**ALL, "steps": 6}
    whole = settings("whole", **changes, processes=2, parallel="fully_shard")
    launch(whole, wall_s=300)
    killed = settings(
        "killed", **changes, processes=2, parallel="fully_shard", checkpoint={"steps": 3}
    )
    child = start(killed)
    wait_for_step(killed.folder, 3, child)
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for name, then in {
        "shares": {"processes": 2, "parallel": "fully_shard"},
        "copies": {"processes": 2, "parallel": "ddp"},
        "alone": {"processes": 1},
    }.items():
        run = settings(name, **changes, **then)
        shutil.copytree(killed.folder, run.folder, dirs_exist_ok=True)
        launch(run, wall_s=300)
        lines = [read_metrics(one.folder / "metrics.jsonl")[:3] for one in (run, killed)]
        assert lines[0] == lines[1], "with their times: these steps were not done again"
        if name == "shares":
            assert same_files(run, whole)
        for a, b in zip(losses_of(run.folder), losses_of(whole.folder), strict=True):
            assert a["terms"] == pytest.approx(b["terms"], rel=ACROSS_RANKS)


def test_a_loss_that_is_not_finite_on_one_rank_skips_the_step_on_all(tmp_path):
    found = on_two_ranks(tmp_path, 3, 5)
    assert [one["skipped"] for one in found] == [[3, 5], [3, 5]]
    assert [(one["step"], one["error"]) for one in found] == [(10, None)] * 2
    assert found[0]["weights"] == found[1]["weights"]
    assert [line["skipped"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [
        step in (3, 5) for step in range(10)
    ]
    dumps = sorted(path.name for path in (tmp_path / "not_finite").iterdir())
    assert dumps == ["step_00000003.json", "step_00000005.json"]


def test_too_many_of_them_end_the_run_on_all_ranks(tmp_path):
    for one in on_two_ranks(tmp_path, 2, 3, 5):
        assert one["step"] == 6
        assert one["error"].startswith("3 of the last 100 steps")


def test_two_machines_meet(settings):
    """Two launchers, as on two machines, find each other by the rendezvous of the settings."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    one, two = settings("one", steps=2), settings("two", steps=2, nodes=2, rendezvous=meeting)
    launch(one, wall_s=300)
    first = start(two)
    machines = [first, subprocess.Popen(first.args, start_new_session=True)]
    assert [machine.wait(300) for machine in machines] == [0, 0]
    assert json.loads((two.folder / "result.json").read_text())["ranks"] == 2
    for a, b in zip(losses_of(one.folder), losses_of(two.folder), strict=True):
        assert a["terms"] == pytest.approx(b["terms"], rel=ACROSS_RANKS)


def on_two_ranks(folder, *steps):
    script = Path(__file__).with_name("not_finite_on_one_rank.py")
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(script), str(folder), *map(str, steps)]
    root = str(Path(__file__).parents[3])
    paths = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, *run, *arguments], check=True, env={**os.environ, "PYTHONPATH": paths}
    )
    return [json.loads((folder / f"rank_{rank}.json").read_text()) for rank in range(2)]
