"""The loop itself, with a small network in place of a geometric model: it must not know the difference."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from sage_core.errors import CheckpointError, TrainingError
from sage_core.training.checkpoints import newest_checkpoint
from sage_core.training.engine import Ending, Trainer
from sage_core.training.journal import CIRCUMSTANCES, MetricsLog, loss_figures, read_metrics
from sage_core.training.lock import run_lock
from sage_core.training.optimisation import (
    LearningRate,
    TrainedGroup,
    build_optimizer,
    clip_gradients,
)
from sage_core.training.order import Kind, SampleOrder
from sage_core.training.ranks import Ranks
from sage_core.training.routine import Routine
from sage_core.training.schedule import lr_share
from sage_core.training.step import Parts
from sage_core.types import Reason

ALONE = Ranks(0, 1, 0, torch.device("cpu"))


def parts(*, bad=frozenset()):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))

    def sample(sample_id):
        x = sample_id.rng(7).normal(size=4).astype(np.float32)
        return str(sample_id), torch.from_numpy(x)

    def losses(forward, samples):
        x = torch.stack([x for _, x in samples])
        each = (forward(x)[:, 0] - x.sum(1)).square()
        factors = [math.nan if name in bad else 1.0 for name, _ in samples]
        each = each * torch.tensor(factors)
        return each.mean(), [{"square": float(value)} for value in each.detach()]

    groups = [TrainedGroup("all", tuple(model.parameters()))]
    return Parts(model, groups, sample, losses, ("square",))


def routine(**changes):
    defaults = {
        "order": SampleOrder(per_epoch=12, ratio=5, batch=4),
        "rate": LearningRate(peak=1e-2, last=1e-4, warmup=2, steps=10),
        "seed": 7,
        "fingerprint": "f",
        "micro_batch": 2,
    }
    return Routine(**{**defaults, **changes})


def trained(folder, *, stop_after=None, **changes):
    folder.mkdir(exist_ok=True)
    if stop_after:
        assert Trainer(parts(), routine(**changes), folder, ALONE).run(stop_after) is Ending.STOPPED
    trainer = Trainer(parts(), routine(**changes), folder, ALONE)
    assert trainer.run() is Ending.FINISHED
    lines = [
        {k: v for k, v in line.items() if k not in CIRCUMSTANCES}
        for line in read_metrics(folder / "metrics.jsonl")
    ]
    return trainer, lines


def test_ten_steps_equal_five_and_five_bitwise(tmp_path):
    whole, lines = trained(tmp_path / "whole")
    halves, halved_lines = trained(tmp_path / "halves", stop_after=5)
    assert halved_lines == lines
    assert len(lines) == 10
    for name, value in whole.parts.model.state_dict().items():
        assert torch.equal(value, halves.parts.model.state_dict()[name]), name
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_a_run_killed_between_checkpoints_repeats_the_lost_steps(tmp_path):
    _, lines = trained(tmp_path / "whole")
    folder = tmp_path / "killed"
    folder.mkdir()
    broken = parts()
    made = broken.sample

    def dies_at_step_seven(sample_id):
        if sample_id in routine().order.step(7):
            raise KeyboardInterrupt
        return made(sample_id)

    dying = Parts(broken.model, broken.groups, dies_at_step_seven, broken.losses, broken.terms)
    with pytest.raises(KeyboardInterrupt):
        Trainer(dying, routine(checkpoint_steps=3), folder, ALONE).run()
    assert newest_checkpoint(folder / "checkpoints").name == "step_00000006"
    _, resumed = trained(folder, checkpoint_steps=3)
    assert resumed == lines


def test_only_the_newest_checkpoints_stay(tmp_path):
    trained(tmp_path / "run", checkpoint_steps=2, keep=3)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["step_00000006", "step_00000008", "step_00000010"]


def test_what_an_interrupted_writer_left_is_no_checkpoint(tmp_path):
    folder = tmp_path / "run"
    (folder / "checkpoints" / ".partial_00000099").mkdir(parents=True)
    assert newest_checkpoint(folder / "checkpoints") is None
    trained(folder)
    assert not list((folder / "checkpoints").glob(".partial*"))


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    trained(tmp_path / "run", stop_after=5)
    with pytest.raises(CheckpointError, match="other settings"):
        Trainer(parts(), routine(fingerprint="g"), tmp_path / "run", ALONE)


def test_a_checkpoint_that_memory_does_not_hold_is_not_called_damaged(tmp_path, monkeypatch):
    trained(tmp_path / "run")

    def load(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(torch.OutOfMemoryError):
        Trainer(parts(), routine(), tmp_path / "run", ALONE)


def test_a_damaged_checkpoint_is_named(tmp_path):
    trained(tmp_path / "run")
    newest = newest_checkpoint(tmp_path / "run" / "checkpoints")
    (newest / "optimizer.pt").write_bytes(b"cut short")
    with pytest.raises(CheckpointError, match="damaged"):
        Trainer(parts(), routine(), tmp_path / "run", ALONE)


def test_a_step_that_is_not_finite_changes_nothing_and_is_written_down(tmp_path):
    bad = str(routine().order.step(3)[1])
    how = routine(ema_decay=0.5)
    before = Trainer(parts(), how, tmp_path, ALONE)
    before.run(until=3)
    averages = before.average.gathered(ALONE)
    state = {n: v.clone() for n, v in before.parts.model.state_dict().items()}
    assert "1.running_mean" in state
    trainer = Trainer(parts(bad={bad}), how, tmp_path, ALONE)
    trainer.run(until=4)
    assert all(torch.equal(v, averages[n]) for n, v in trainer.average.gathered(ALONE).items())
    # The passes moved the batch norm's statistics before the loss was known.
    assert all(torch.equal(v, state[n]) for n, v in trainer.parts.model.state_dict().items())
    assert trainer.state.skipped == (3,)
    dumped = json.loads((tmp_path / "not_finite" / "step_00000003.json").read_text())
    assert bad in dumped["samples"]
    assert read_metrics(tmp_path / "metrics.jsonl")[3]["skipped"]
    assert Trainer(parts(bad={bad}), how, tmp_path, ALONE).run() is Ending.FINISHED


def test_too_many_such_steps_end_the_run(tmp_path):
    bad = {str(one) for step in (2, 3, 5) for one in routine().order.step(step)[:1]}
    trainer = Trainer(parts(bad=bad), routine(max_skipped=2), tmp_path, ALONE)
    with pytest.raises(TrainingError, match="not finite") as error:
        trainer.run()
    assert error.value.reason is Reason.NOT_FINITE
    assert trainer.state.step == 6


def test_a_batch_that_does_not_divide_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="multiple of 3"):
        Trainer(parts(), routine(micro_batch=3), tmp_path, ALONE)


def test_one_run_folder_has_one_trainer(tmp_path):
    refused = pytest.raises(TrainingError, match="is being trained by process")
    with run_lock(tmp_path), refused, run_lock(tmp_path):
        pass
    with run_lock(tmp_path):
        pass


def test_samples_follow_from_the_number_alone():
    order = SampleOrder(per_epoch=60, ratio=30, batch=4)
    stream = [order.at(n) for n in range(31 * 6)]
    kinds = [one.kind for one in stream]
    assert kinds.count(Kind.LABELLED) == 6
    assert kinds[30] is Kind.LABELLED
    assert len(set(stream)) == len(stream)
    videos = [one for one in stream if one.kind is Kind.VIDEO]
    assert [(one.epoch, one.index) for one in videos] == [divmod(n, 60) for n in range(180)]
    for world in (1, 2, 4):
        shared = [one for rank in range(world) for one in order.share(5, rank, world)]
        assert shared == order.step(5)
    assert order.steps(3) == math.ceil((180 + 6) / 4)
    draws = {float(one.rng(1).random()) for one in stream}
    assert len(draws) == len(stream)


def test_without_labels_every_sample_is_video():
    order = SampleOrder(per_epoch=5, ratio=None, batch=2)
    assert all(order.at(n).kind is Kind.VIDEO for n in range(100))
    assert order.steps(2) == 5


def test_learning_rate_rises_then_falls():
    shares = [lr_share(step, 100, 10, 0.01) for step in range(100)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[9] == shares[10] == pytest.approx(1.0)
    assert shares[-1] == pytest.approx(0.01)
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert shares[54] == pytest.approx(0.505, abs=0.01)


def test_weight_decay_spares_vectors():
    layer = nn.Linear(3, 2)
    optimizer = build_optimizer(
        [TrainedGroup("l", tuple(layer.parameters()), 0.5)], betas=(0.9, 0.95), weight_decay=0.05
    )
    decayed = {g["weight_decay"]: [p.ndim for p in g["params"]] for g in optimizer.param_groups}
    assert decayed == {0.05: [2], 0.0: [1]}


@pytest.mark.parametrize("per_group", [False, True])
def test_clipping(per_group):
    a, b = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))
    a.grad, b.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    groups = [TrainedGroup("a", (a,)), TrainedGroup("b", (b,))]
    norms = clip_gradients(groups, 1.0, per_group=per_group)
    assert norms == {"a": 3.0, "b": 4.0, "total": 5.0}
    assert float(a.grad[0]) == pytest.approx(1.0 if per_group else 0.6)


def test_metrics_survive_a_line_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0, "terms": {"a": 4.0}}\n{"step": 1, "terms": {"a": 2.0}}\n{"st')
    log = MetricsLog(path, next_step=1)
    log.write({"step": 1, "terms": {"a": 1.0, "b": 5.0}})
    log.close()
    lines = read_metrics(path)
    assert [line["step"] for line in lines] == [0, 1]
    assert loss_figures(lines, window=1) == {
        "a": {"first": 4.0, "last": 1.0},
        "b": {"first": 5.0, "last": 5.0},
    }
