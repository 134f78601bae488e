"""Confidence by its kind: what it weighs, what trains it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sage_core.losses import (
    HIT_ERROR,
    SparseAnchors,
    anchor_loss,
    conf_weight,
    confident_loss,
    supervised_loss,
)

ERRORS = torch.tensor([0.0, 0.01, 0.5, 2.0], dtype=torch.float64)


def test_each_kind_by_its_formula():
    conf = torch.tensor([1.5, 2.0, 3.0, 1.0], dtype=torch.float64)
    assert torch.equal(confident_loss(ERRORS, conf, 0.2), conf * ERRORS - 0.2 * conf.log())
    assert torch.equal(confident_loss(ERRORS, conf, 0.2, "none"), ERRORS)
    probability = 1 / (1 + (-conf).exp())
    right = torch.tensor([1.0, 1, 0, 0], dtype=torch.float64)
    doubt = -(right * probability.log() + (1 - right) * (1 - probability).log())
    found = confident_loss(ERRORS, conf, 0.2, "logit")
    assert torch.allclose(found, probability * ERRORS + 0.2 * doubt)


@given(st.floats(-20, 20), st.floats(0, 5).filter(lambda e: abs(e - HIT_ERROR) > 1e-6))
def test_a_logit_learns_to_tell_right_from_wrong_and_nothing_else(logit, error):
    conf = torch.tensor(logit, dtype=torch.float64, requires_grad=True)
    distance = torch.tensor(error, dtype=torch.float64, requires_grad=True)
    confident_loss(distance, conf, 1.0, "logit").backward()
    right = error < HIT_ERROR
    assert conf.grad <= 0 if right else conf.grad >= 0
    assert torch.allclose(distance.grad, torch.sigmoid(conf.detach()))


@pytest.mark.parametrize("kind", ["one_plus_exp", "logit", "none"])
def test_weights_rank_as_confidence_does(kind):
    conf = torch.tensor([1.0, 1.5, 4.0, 9.0])
    weight = conf_weight(conf, kind)
    assert (weight >= 0).all()
    assert (weight.diff() >= 0).all()


@pytest.mark.parametrize("kind", ["logit", "none"])
def test_losses_take_negative_confidence_of_the_other_kinds(kind):
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(1, 2, 8, 8, 3, generator=generator).requires_grad_()
    conf = torch.randn(1, 2, 8, 8, generator=generator).requires_grad_()
    xy = torch.rand(1, 2, 5, 2, generator=generator) * 8
    anchors = SparseAnchors(xy, torch.rand(1, 2, 5, 3, generator=generator), torch.ones(1, 2, 5))
    truth, valid = torch.rand(1, 2, 8, 8, 3, generator=generator), torch.ones(1, 2, 8, 8).bool()
    loss = anchor_loss(points, conf, anchors, conf_kind=kind).sum()
    loss = loss + supervised_loss(points, conf, truth, valid, conf_kind=kind)
    loss.backward()
    assert loss.isfinite()
    assert points.grad.isfinite().all()
    assert points.grad.abs().sum() > 0
    assert bool(conf.grad.any()) == (kind == "logit")
