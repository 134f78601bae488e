"""Pretraining goes on where it stopped, and its short cuts change nothing."""

import json

import numpy as np
import pytest
import torch

from sage_core.models import build_model
from sage_core.world import room_batch, room_sample
from sage_core.world.pretrain import Phase, Pretraining, learning_rate
from sage_core.world.pretrain_curves import draw_curves, read_log
from sage_core.world.pretrain_losses import (
    as_input,
    mean_error,
    predict_points,
    splat_loss,
    true_points,
    without_skip,
)

PHASE = Phase("two", 1.0, 2, 2, 1e-3)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_true_points_are_those_of_the_sample():
    batch = room_batch([8], 3, 16, "P")
    np.testing.assert_allclose(
        true_points(batch)[0], room_sample(8, 3, 16, "P").reference_points(), atol=1e-5
    )


def test_short_cut_equals_the_model():
    model = build_model("mini", 3).eval()
    images = torch.rand(1, 3, 3, 64, 64)
    with torch.no_grad():
        whole = model(images)
        with without_skip(model):
            points, conf = predict_points(model, images)
    torch.testing.assert_close(points, whole.points, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(conf, whole.conf, atol=1e-5, rtol=1e-4)


def test_error_ignores_scale_and_sees_shape():
    truth = true_points(room_batch([1, 2], 2, 16, "P"))
    assert mean_error(3.7 * truth, truth) < 1e-6
    assert mean_error(truth.flip(0), truth) > 0.05


def test_rate_rises_then_falls():
    rates = [learning_rate(PHASE, share) for share in (0.0, 0.05, 0.5, 1.0)]
    assert rates[0] < rates[2] < rates[1]
    assert rates[1] == pytest.approx(PHASE.lr)
    assert rates[3] == pytest.approx(0.01 * PHASE.lr)


def test_resumed_pretraining_takes_the_same_steps(tmp_path):
    first = Pretraining(tmp_path, 1.0)
    first._step(PHASE, 0.3)
    first.save()
    resumed = Pretraining(tmp_path, 1.0)
    assert vars(resumed.progress) == vars(first.progress)
    assert resumed._step(PHASE, 0.3) == first._step(PHASE, 0.3)
    for a, b in zip(first.model.parameters(), resumed.model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_rendering_reaches_the_gaussian_head_alone():
    model = build_model("mini", 0)
    loss, psnr = splat_loss(model.eval(), room_batch([0], 3, 64, "P", smooth_edges=False))
    loss.backward()
    reached = {
        model.group_of(name)
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
    assert reached == {"gaussian_head"}
    assert np.isfinite(psnr)
    assert as_input(room_batch([0], 2, 64, "P").images).max() <= 1


def test_curves_are_drawn_of_a_log_that_breaks_off(tmp_path):
    rows = [
        {"phase": "2 views", "mean_pointmap": {"labelled": 0.33, "choice": 0.37}},
        {"phase": "2 views", "step": 3, "samples": 24, "error": {"labelled": 0.2, "choice": 0.3}},
        {"phase": "4 views", "mean_pointmap": {"labelled": 0.38, "choice": 0.42}},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    draw_curves(read_log(tmp_path / "log.jsonl"), tmp_path / "curves.svg")
    text = (tmp_path / "curves.svg").read_text()
    assert text.count("<path") > 10
    assert "<script" not in text
