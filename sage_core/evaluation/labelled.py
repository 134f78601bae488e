"""Scores of a model on labelled multi-view samples, and where such samples come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sage_core.config.evaluate import EvaluateConfig
from sage_core.errors import SageError
from sage_core.evaluation.datasets import Scene
from sage_core.evaluation.datasets.seven_scenes import find_sequences
from sage_core.evaluation.metrics import (
    cameras_from_pointmaps,
    focal_from_pointmap,
    normalised_errors,
    pointmap_scores,
    pose_accuracy,
    pose_errors,
)
from sage_core.evaluation.samples import LabelledViews
from sage_core.evaluation.tuples import frozen_tuples
from sage_core.geometry import relative
from sage_core.models import GeometricModel
from sage_core.types import Reason

Array = npt.NDArray[np.float64]
METRICS_ID = "mvdust3r-shift-scale"
"""Alignment, ND, DAc and CD of MV-DUSt3R's evaluation code (joint medians, no rotation, no ICP)."""


@dataclass(frozen=True)
class TestSet:
    """Tuples of one domain.

    Attributes:
        name: short and fit for a key, e.g. ``rooms-V`` or ``redkitchen/seq-01``.
        protocol: what the numbers hold for.
        tuples: each gives its views when called.
    """

    __test__ = False  # no test, for all its name

    name: str
    protocol: str
    tuples: Sequence[Callable[[], LabelledViews]]


@dataclass(frozen=True)
class Prediction:
    """A model's answer for one tuple at its own image size, beside the truth.

    ``images`` uint8 [V, H, W, 3]; ``points`` and ``truth`` [V, H, W, 3] in view 0's camera frame;
    ``valid`` bool [V, H, W].
    """

    images: npt.NDArray[np.uint8]
    points: npt.NDArray[np.float32]
    conf: npt.NDArray[np.float32]
    truth: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]


def test_sets(config: EvaluateConfig, size: int, seed: int, lists: Path | None) -> list[TestSet]:
    """The labelled sets that the settings name; frame lists are frozen in the folder ``lists``.

    Raises:
        MediaError: a data set that is broken or not there.
        SageError: a sequence from which no tuple can be drawn.
    """
    sets = [_rooms(family, config, size) for family in config.rooms]
    sets += [_world(domain, config, size) for domain in config.world]
    for root in config.rgbd:
        sets += [
            _recorded(s, config, size, seed, lists)
            for s in find_sequences(root, config.max_depth_m)
        ]
    return _uniquely_named(sets)


test_sets.__test__ = False  # type: ignore[attr-defined]


def _rooms(family: str, config: EvaluateConfig, size: int) -> TestSet:
    from sage_core.world.rooms import SPLITS, room_sample

    seeds = SPLITS["test"][: config.rooms_tuples]
    tuples = [partial(room_sample, seed, config.views, size, family) for seed in seeds]
    return TestSet(
        f"rooms-{family}", f"rooms-{family}/{config.views}x{size}px/{METRICS_ID}", tuples
    )


def _world(domain: str, config: EvaluateConfig, size: int) -> TestSet:
    from sage_core.world.domains import domain_named, domain_sample

    known = domain_named(domain)
    seeds = known.seeds(config.world_tuples)
    tuples = [partial(domain_sample, known, seed, config.views, size) for seed in seeds]
    name = f"world-{domain}"
    return TestSet(name, f"{name}/{config.views}x{size}px/{METRICS_ID}", tuples)


def _recorded(
    sequence: Scene, config: EvaluateConfig, size: int, seed: int, lists: Path | None
) -> TestSet:
    band = (config.min_overlap, config.max_overlap)
    frames = frozen_tuples(sequence, config.views, config.rgbd_tuples, seed, band, lists)
    protocol = (
        f"7scenes-layout/overlap {band[0]:g}-{band[1]:g}/{config.views}x{size}px/{METRICS_ID}"
    )
    return TestSet(sequence.name, protocol, [partial(sequence.views, chosen) for chosen in frames])


def _uniquely_named(sets: list[TestSet]) -> list[TestSet]:
    """Two folders may hold sequences of one name: the later ones get a number."""
    seen: dict[str, int] = {}
    named = []
    for one in sets:
        seen[one.name] = seen.get(one.name, 0) + 1
        number = f" ({seen[one.name]})" if seen[one.name] > 1 else ""
        named.append(TestSet(one.name + number, one.protocol, one.tuples))
    return named


@torch.no_grad()
def predict(model: GeometricModel, views: LabelledViews, size: int) -> Prediction:
    """The model's answer; views are cropped to their middle square and resized to ``size``."""
    from sage_core.training.samples import labelled_sample

    sample = labelled_sample(views, size)
    output = model(sample.images[None].to(model.device))
    return Prediction(
        images=(sample.images.permute(0, 2, 3, 1) * 255 + 0.5).to(torch.uint8).numpy(),
        points=output.points[0].float().cpu().numpy(),
        conf=output.conf[0].float().cpu().numpy(),
        truth=sample.points.numpy(),
        valid=sample.valid.numpy(),
    )


def score(prediction: Prediction, cam_from_world: Array, workers: int = 1) -> dict[str, float]:
    """All figures of one tuple.

    ``nd`` (m), ``cd`` (m²), ``dac@t`` (0 or 1) as in MV-DUSt3R's evaluation code; ``pixels_within_m@t`` and
    ``pixels_within_normalised@t`` are shares of pixels, as papers describe DAc; ``accuracy_m`` and
    ``completeness_m`` plain mean distances; ``error_normalised`` the mean error once either side has mean
    distance 1; ``rra15``, ``rta15``, ``maa30`` shares of view pairs, from cameras found by PnP.

    Raises:
        SageError: a tuple without any true depth, or a prediction that is not finite.
    """
    points, truth, valid = prediction.points, prediction.truth, prediction.valid
    found = pointmap_scores(points, truth, valid, workers=workers)
    figures = {
        "nd": found.nd,
        "cd": found.cd,
        "accuracy_m": found.accuracy_m,
        "completeness_m": found.completeness_m,
        "error_normalised": float(normalised_errors(points, truth, valid).mean()),
    }
    figures |= {f"dac@{t:g}": float(hit) for t, hit in found.dac.items()}
    figures |= {f"pixels_within_m@{t:g}": share for t, share in found.within_m.items()}
    figures |= {f"pixels_within_normalised@{t:g}": s for t, s in found.within_normalised.items()}
    return figures | _pose_figures(prediction, cam_from_world)


def _pose_figures(prediction: Prediction, cam_from_world: Array) -> dict[str, float]:
    focal = focal_from_pointmap(prediction.points[0], prediction.conf[0])
    cameras = cameras_from_pointmaps(prediction.points, prediction.valid, max(focal, 1e-3))
    accuracy = pose_accuracy(*pose_errors(cameras, relative(cam_from_world, cam_from_world[0])))
    return {"rra15": accuracy.rra15, "rta15": accuracy.rta15, "maa30": accuracy.maa30}


def score_set(
    model: GeometricModel, tests: TestSet, size: int, workers: int = 1
) -> list[dict[str, float]]:
    """Figures of every tuple, in order.

    Raises:
        SageError: a tuple that cannot be scored; the message names it.
    """
    rows = []
    for make in tests.tuples:
        views = make()
        try:
            rows.append(score(predict(model, views, size), views.cam_from_world, workers))
        except SageError as error:
            raise SageError(
                f"{tests.name}, tuple {views.name}: {error}", reason=Reason.NO_DATA
            ) from error
    return rows


def summary(rows: list[dict[str, float]]) -> dict[str, float]:
    """Means over tuples, and the median of ``cd`` (as tables show it)."""
    means = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    if "cd" in means:
        means["cd_median"] = float(np.median([row["cd"] for row in rows]))
    return means
