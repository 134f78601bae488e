"""Base beside adapted: a perfect prediction scores 0, equal models tie, a better one wins."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sage_core.config import load_config
from sage_core.errors import SageError
from sage_core.evaluation.compare import compare_json
from sage_core.evaluation.held_out import HeldOutPart, held_out_samples, score_sample
from sage_core.evaluation.labelled import predict, score, score_set, summary, test_sets
from sage_core.models import GeometryOutput, MVDust3rConfig, build_model, save_model
from sage_core.world import room_sample

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from room_shards import write_room_shard

TINY = MVDust3rConfig(
    image_size=32, patch_size=8, enc_embed_dim=32, enc_depth=1, enc_num_heads=2,
    dec_embed_dim=32, dec_depth=1, dec_num_heads=2, skip_dim=4, gs_mlp_dim=16,
)  # fmt: skip


class Oracle(torch.nn.Module):
    """Answers with the truth of one sample, in a unit of its own."""

    device = torch.device("cpu")

    def __init__(self, points):
        super().__init__()
        self.points = torch.as_tensor(points, dtype=torch.float32)

    def forward(self, images):
        points = 0.31 * self.points[None]
        return GeometryOutput(points, torch.ones(points.shape[:-1]), "one_plus_exp", "relative")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    for seed in (1, 2):
        save_model(build_model(TINY, seed), folder / f"{seed}.safetensors")
    return folder


@pytest.fixture(scope="module")
def shard(tmp_path_factory):
    return write_room_shard(tmp_path_factory.mktemp("shards"), clips=1)


def settings(*overrides):
    return load_config(overrides=["adapt.sampling.n_context=3", *overrides])


def job(config, weights, out, models=("1", "2"), held_out=()):
    names = ("base", "adapted")
    return {
        "models": {
            n: str(weights / f"{m}.safetensors") for n, m in zip(names, models, strict=True)
        },
        "config": config.evaluate.model_dump(mode="json"),
        "sampling": config.adapt.sampling.model_dump(mode="json"),
        "rendering": config.adapt.rendering.model_dump(mode="json"),
        "held_out": list(held_out),
        "seed": 1,
        "out": str(out),
        "lists": None,
    }


def test_a_perfect_prediction_scores_nothing_but_hits():
    views = room_sample(11, 3, 32, "P")
    prediction = predict(Oracle(views.reference_points()), views, 32)
    figures = score(prediction, views.cam_from_world)
    for name in ("nd", "cd", "accuracy_m", "completeness_m", "error_normalised"):
        assert figures[name] == pytest.approx(0, abs=1e-5)
    assert figures["dac@0.1"] == figures["pixels_within_m@0.1"] == 1
    assert figures["rra15"] == 1


def test_a_warped_prediction_scores_worse():
    views = room_sample(11, 3, 32, "P")
    truth = views.reference_points()
    scores = [
        score(predict(Oracle(truth * [1, 1, stretch]), views, 32), views.cam_from_world)["cd"]
        for stretch in (1.0, 1.2, 1.5)
    ]
    assert scores[0] < scores[1] < scores[2]


def test_equal_models_tie_and_everything_is_written(weights, shard, tmp_path):
    config = settings(
        "evaluate.rooms=[P]", "evaluate.rooms_tuples=2", "evaluate.views=2",
        "evaluate.pictures=1", "evaluate.held_out_samples=2",
    )  # fmt: skip
    path, clips = shard
    parts = [{"path": str(path), "clips": clips}]
    report = compare_json(job(config, weights, tmp_path, ("1", "1"), parts))
    (rooms,) = report["sets"]
    assert rooms["mean"]["base"] == rooms["mean"]["adapted"]
    assert set(rooms["better"].values()) == {0.0}
    assert rooms["tuples"] == 2
    assert "mvdust3r" in rooms["protocol"]
    assert report["held_out"]["mean"]["base"].keys() == {
        "anchor_error",
        "target_psnr",
        "target_ssim",
    }
    assert json.loads((tmp_path / "metrics.json").read_text()) == report
    files = {picture["file"] for picture in report["pictures"]}
    assert files == {path.name for path in tmp_path.glob("*.jpg")}
    assert len(files) == 3


def test_the_better_model_wins_its_tuples(weights):
    config = settings("evaluate.rooms=[P]", "evaluate.rooms_tuples=2", "evaluate.views=2")
    (tests,) = test_sets(config.evaluate, 32, 1, None)
    rows = score_set(build_model(TINY, 1).eval(), tests, 32)
    truth = tests.tuples[0]()
    perfect = score(predict(Oracle(truth.reference_points()), truth, 32), truth.cam_from_world)
    assert perfect["cd"] < rows[0]["cd"]
    assert summary(rows)["cd"] == pytest.approx(np.mean([row["cd"] for row in rows]))


def test_held_out_measures_follow_the_geometry(shard):
    """The truth has no anchor error, whatever its unit; a squeezed truth has one."""
    path, clips = shard
    sampling = settings("adapt.sampling.n_targets=1").adapt.sampling
    samples = held_out_samples([HeldOutPart(str(path), tuple(clips))], sampling, 2, 32, 5)
    assert [s.name for s in samples] == [
        s.name for s in held_out_samples([HeldOutPart(str(path), tuple(clips))], sampling, 2, 32, 5)
    ]
    sample = samples[0]
    points = _densified(sample)
    exact, _ = score_sample(Oracle(points), sample)
    squeezed, _ = score_sample(Oracle(points * torch.tensor([1.0, 1.0, 0.5])), sample)
    assert exact["anchor_error"] == pytest.approx(0, abs=1e-4)
    assert squeezed["anchor_error"] > 0.05


def _densified(sample):
    """A pointmap that holds each anchor in its pixel."""
    points = torch.zeros(sample.context, 32, 32, 3)
    xy, inside = sample.anchors.xy[0], sample.anchors.weight[0] > 0
    for view in range(sample.context):
        column, row = xy[view][inside[view]].floor().long().T
        points[view, row, column] = sample.anchors.points[0, view][inside[view]]
    return points


def test_nothing_to_evaluate_on_is_said(weights, tmp_path):
    with pytest.raises(SageError, match=r"evaluate\.rgbd.*evaluate\.rooms.*adapt\.held_out"):
        compare_json(job(settings(), weights, tmp_path))
