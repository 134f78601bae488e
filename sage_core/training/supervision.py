"""A model's own loss on labelled samples, as its published training has it."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sage_core.config.adapt import LossConfig
from sage_core.losses import (
    LabelledScenes,
    by_reference,
    points_by_reference,
    supervised_loss,
    vggt_loss,
)
from sage_core.models import VGGT, GeometricModel, GeometryOutput
from sage_core.training.samples import LabelledSample

Supervision = Callable[[GeometryOutput, LabelledSample, LossConfig], dict[str, Tensor]]
"""The loss of one sample, given as a batch of one, from the model's output for it: ``labelled``, and what it
is made of, for the record, as ``labelled_…``."""

PARTS = ("labelled_camera", "labelled_depth", "labelled_points")


def supervision(model: GeometricModel) -> Supervision:
    """Cameras, depth and points for VGGT; for every other model its pointmaps, which all models have."""
    return by_cameras_and_depth if isinstance(model, VGGT) else by_pointmaps


def by_pointmaps(
    output: GeometryOutput, sample: LabelledSample, loss: LossConfig
) -> dict[str, Tensor]:
    """MV-DUSt3R's: both sides are divided by their own mean distance, a row for each reference."""
    cameras, references = sample.cam_from_reference[None], loss.references
    value = supervised_loss(
        output.points,
        output.conf,
        points_by_reference(sample.points[None], cameras, references),
        by_reference(sample.valid[None], references),
        conf_kind=output.conf_kind,
        alpha=loss.alpha,
        trained_scale=loss.trained_scale,
    )
    return {"labelled": value}


def by_cameras_and_depth(
    output: GeometryOutput, sample: LabelledSample, loss: LossConfig
) -> dict[str, Tensor]:
    """VGGT's: only the truth is divided, since VGGT is to predict at mean distance 1.

    Its published training ranks errors over a batch; here each sample is taken by itself.
    """
    assert output.native is not None
    truth = LabelledScenes(
        sample.cam_from_reference[None],
        sample.intrinsics[None],
        sample.points[None],
        sample.depth[None],
        sample.valid[None],
    )
    terms = vggt_loss(output.native, truth, alpha=loss.alpha)
    parts = {"labelled_camera": terms.camera.total, "labelled_depth": terms.depth.total}
    if terms.points is not None:
        parts["labelled_points"] = terms.points.total
    return {"labelled": terms.total} | {name: part.detach() for name, part in parts.items()}
