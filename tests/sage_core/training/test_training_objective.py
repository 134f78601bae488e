"""The loss of a sample, on predictions that are right, wrong, or not finite."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from sage_core.config.adapt import AdaptConfig
from sage_core.config.sampling import SamplingConfig
from sage_core.models import Gaussians, GeometryOutput
from sage_core.training.drawing import VideoSamples
from sage_core.training.objective import Objective
from sage_core.training.order import Kind, SampleId
from sage_core.training.renders import strip
from sage_core.training.settings import DataSet, ShardPart

CPU = torch.device("cpu")
SIZE = 48


@pytest.fixture(scope="module")
def sample(room_shard):
    parts = (ShardPart(path=str(room_shard)),)
    sampling = SamplingConfig(n_context=3, n_targets=2)
    draw = VideoSamples([DataSet(parts=parts)], sampling, size=SIZE, seed=1, shuffle_views=True)
    return draw(SampleId(Kind.VIDEO, 0, 0))


class Answer(nn.Module):
    """A model whose prediction is a parameter."""

    def __init__(self, points, splat=0.1):
        super().__init__()
        self.splat = splat
        self.points = nn.Parameter(points)

    def forward(self, images):
        shape = self.points.shape[:-1]
        turn = torch.zeros(*shape, 4)
        turn[..., 0] = 1
        return GeometryOutput(
            self.points,
            torch.full(shape, 1.5),
            "one_plus_exp",
            "relative",
            Gaussians(
                torch.full(shape, 0.9),
                torch.full((*shape, 3), self.splat),
                turn,
                torch.zeros(*shape, 3),
            ),
        )


def guess(sample, unit=1.0):
    """Pointmaps that are right at the anchors (in another unit), and their mean elsewhere."""
    a = sample.anchors
    points = a.points[a.weight > 0].mean(0).expand(1, 3, SIZE, SIZE, 3).clone()
    for view in range(3):
        real = a.weight[0, view] > 0
        column, row = a.xy[0, view, real].floor().long().T
        points[0, view, row, column] = a.points[0, view, real]
    return points * unit


def objective(**loss):
    return Objective(AdaptConfig.model_validate({"loss": {"perceptual": "none", **loss}}), CPU)


def test_right_anchors_cost_nothing_in_any_unit(sample):
    alone = objective(rendering_weight=0.0, alpha=0.0)
    for unit in (1.0, 7.3):
        _, (terms,) = alone(Answer(guess(sample, unit)), [sample])
        assert terms["anchor"] == pytest.approx(0, abs=1e-4)
    _, (wrong,) = alone(Answer(guess(sample) + torch.tensor([0.5, 0, 0])), [sample])
    assert wrong["anchor"] > 0.1


def test_the_unit_changes_no_rendering(sample):
    both = [objective()(Answer(guess(sample, u), 0.1 * u), [sample])[1][0] for u in (1.0, 7.3)]
    assert both[0]["photometric"] == pytest.approx(both[1]["photometric"], rel=1e-3)


def test_weights_weigh(sample):
    loss, (terms,) = objective(anchor_weight=3.0, rendering_weight=0.5)(
        Answer(guess(sample)), [sample]
    )
    expected = 3 * terms["anchor"] + 0.5 * (terms["photometric"] + terms["scale_penalty"])
    assert (
        loss.item() == pytest.approx(expected, rel=1e-5) == pytest.approx(terms["total"], rel=1e-5)
    )


def test_gradients_of_both_losses_are_finite_and_reach_the_points(sample):
    model = Answer(guess(sample) * 1.1 + 0.05)
    loss, _ = objective()(model, [sample])
    loss.backward()
    gradient = model.points.grad
    assert gradient.isfinite().all()
    assert (gradient.abs().sum(-1) > 0).float().mean() > 0.5


def test_points_that_are_not_finite_are_not_rendered(sample):
    a = sample.anchors
    points = guess(sample)
    column, row = a.xy[0, 0, 0].floor().long()
    points[0, 0, 0, 0] = float("nan")
    assert (row, column) != (0, 0)
    loss, (terms,) = objective()(Answer(points), [sample])
    assert loss.isfinite()
    assert terms["photometric"] > 0


def test_fewer_rendered_views_follow_the_samples_own_draw(sample):
    some = objective(rendered_context=1)
    assert some._rendering.chosen_views(sample) == [sample.render_order[0], 3, 4]
    assert objective()._rendering.chosen_views(sample) == [*sample.render_order, 3, 4]


def test_renders_stand_beside_their_targets(sample):
    targets, rendered = objective().renders(Answer(guess(sample)), sample)
    assert torch.equal(targets, sample.images[3:])
    assert rendered.shape == targets.shape
    picture = strip(targets, rendered)
    assert picture.shape == (2 * SIZE, 2 * SIZE, 3)
    assert np.array_equal(picture[:SIZE, :SIZE], as_bytes(targets[0]))
    assert np.array_equal(picture[SIZE:, SIZE:], as_bytes(rendered[1]))


def as_bytes(image):
    return (255 * image.movedim(0, -1)).round().byte().numpy()


def test_a_sample_without_anchors_gives_nothing_but_stays_tied(sample):
    anchors = replace(sample.anchors, weight=torch.zeros_like(sample.anchors.weight))
    model = Answer(guess(sample))
    loss, (terms,) = objective()(model, [replace(sample, anchors=anchors)])
    loss.backward()
    assert loss.item() == terms["total"] == 0
    assert not model.points.grad.any()


def test_only_an_image_close_to_the_scene_renders_well(sample):
    """True geometry renders the targets better than geometry that is turned inside out."""
    right = objective()(Answer(guess(sample)), [sample])[1][0]["photometric"]
    wrong = objective()(Answer(guess(sample) * torch.tensor([-1.0, -1.0, 1.0])), [sample])[1][0]
    assert right < wrong["photometric"]
