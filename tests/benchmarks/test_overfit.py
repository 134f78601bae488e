"""The room that is learnt by heart: its truth is true, and the benchmark says what it measured."""

import json

import numpy as np
import pytest
import torch

from benchmarks import overfit
from sage_core.config.sampling import SamplingConfig
from sage_core.losses import sample_at
from sage_core.models import Gaussians, GeometryOutput
from sage_core.world.clips import RoomClip, write_room_shard

SIZE = 32


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    room = RoomClip(7)
    shard, _ = write_room_shard(tmp_path_factory.mktemp("room"), [room])
    sampling = SamplingConfig(n_context=overfit.VIEWS, n_targets=overfit.TARGETS)
    return overfit.Truth(room, shard, SIZE, sampling)


def test_the_truth_agrees_with_the_anchors(truth):
    """Up to a quarter of the pixel that an anchor may lie off its centre, where depths jump more."""
    for sample, points in zip(truth.samples, truth.points, strict=True):
        assert points.shape == (1, overfit.VIEWS, SIZE, SIZE, 3)
        real = sample.anchors.weight > 0
        there = sample_at(points, sample.anchors.xy)[real]
        off = (there - sample.anchors.points[real]).norm(dim=-1) / there.norm(dim=-1)
        assert off.median() < 0.02


def test_a_model_that_knows_the_room_has_no_error_and_renders_it_best(truth):
    class Knowing(torch.nn.Module):
        def __init__(self, points):
            super().__init__()
            self.points = points

        def forward(self, images):
            shape = self.points.shape[:-1]
            turn = torch.zeros(*shape, 4)
            turn[..., 0] = 1
            size = 0.03 * torch.ones(*shape, 3)
            splats = Gaussians(torch.full(shape, 0.9), size, turn, torch.zeros(*shape, 3))
            conf = torch.ones(shape)
            return GeometryOutput(self.points, conf, "one_plus_exp", "relative", splats)

    sample, points = truth.samples[0], truth.points[0]
    right = truth._one(Knowing(3 * points), sample, points)
    assert right["error"] == pytest.approx(0, abs=1e-5)
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=points.shape)).float()
    wrong = truth._one(Knowing(points + 0.3 * noise), sample, points)
    assert wrong["error"] > 0.02
    assert wrong["psnr"] < right["psnr"] - 1


@pytest.mark.slow
def test_few_steps_are_measured_and_drawn(capsys, tmp_path):
    files = ["--json", str(tmp_path / "out.json"), "--plot", str(tmp_path / "out.svg")]
    overfit.main(["--steps", "8", "--every", "4", "--runs", "anchors", "rendering", *files])
    record = json.loads((tmp_path / "out.json").read_text())
    assert "One room by heart" in capsys.readouterr().out
    assert [(c["run"], c["step"]) for c in record["curves"]] == [
        (run, step) for run in ("anchors", "rendering") for step in (0, 4, 8)
    ]
    anchors, rendering = record["rows"]
    assert anchors["error after"] < 0.9 * anchors["error before"]
    assert rendering["PSNR after"] > rendering["PSNR before"]
    assert (tmp_path / "out.svg").read_text().startswith("<?xml")
