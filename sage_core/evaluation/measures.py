"""All figures of one tuple under a protocol."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from sage_core.evaluation.held_out import image_arrays
from sage_core.evaluation.labelled import Prediction, score
from sage_core.evaluation.metrics import (
    cameras_from_pointmaps,
    focal_from_pointmap,
    psnr,
    ssim,
)
from sage_core.evaluation.protocols import Protocol
from sage_core.evaluation.reconstruction import reconstruction_scores
from sage_core.evaluation.relative_poses import relative_pose_errors, relative_pose_figures
from sage_core.evaluation.samples import LabelledViews
from sage_core.geometry import relative
from sage_core.losses import (
    Perceptual,
    RenderedViews,
    mean_distance,
    rendering_loss,
)
from sage_core.models import GeometricModel, GeometryOutput
from sage_core.training.samples import LabelledSample, labelled_sample


@dataclass(frozen=True)
class NovelViews:
    """How renders are compared: LPIPS, where its weights are given, and its network's name."""

    perceptual: Perceptual | None = None
    network: str = "none"


@torch.no_grad()
def measured(
    model: GeometricModel,
    views: LabelledViews,
    inputs: int,
    protocol: Protocol,
    novel: NovelViews = NovelViews(),
    workers: int = -1,
) -> tuple[dict[str, float], Prediction]:
    """A model's figures on a tuple whose first ``inputs`` views it sees and whose others are rendered.

    ``pointmaps``: :func:`sage_core.evaluation.labelled.score`, its complements ``rre15``, ``rte15``,
        ``mae30`` (as papers
    print them), and ``novel_psnr``, ``novel_ssim``, ``novel_lpips_NETWORK`` where there are targets and the
    model predicts Gaussians. ``reconstruction``: :class:`sage_core.evaluation.reconstruction.CloudScores`
    after ICP, and with ``_before_icp`` before it. ``poses``: relative poses, from the model's own cameras
    or by PnP from its points.

    Raises:
        SageError: a tuple without true depth, or a prediction that is not finite.
    """
    sample = labelled_sample(views, model.image_size)
    output = model(sample.images[None, :inputs].to(model.device))
    prediction = _prediction(sample, output, inputs)
    if protocol.measure == "pointmaps":
        return _pointmaps(
            model, views, inputs, sample, output, prediction, novel, workers
        ), prediction
    if protocol.measure == "poses":
        return _poses(output, prediction, sample.intrinsics, views, inputs), prediction
    return _reconstruction(prediction, protocol, workers), prediction


def _prediction(sample: LabelledSample, output: GeometryOutput, inputs: int) -> Prediction:
    return Prediction(
        images=(sample.images[:inputs].permute(0, 2, 3, 1) * 255 + 0.5).to(torch.uint8).numpy(),
        points=output.points[0].float().cpu().numpy(),
        conf=output.conf[0].float().cpu().numpy(),
        truth=sample.points[:inputs].numpy(),
        valid=sample.valid[:inputs].numpy(),
    )


def _pointmaps(
    model: GeometricModel,
    views: LabelledViews,
    inputs: int,
    sample: LabelledSample,
    output: GeometryOutput,
    prediction: Prediction,
    novel: NovelViews,
    workers: int,
) -> dict[str, float]:
    figures = score(prediction, views.cam_from_world[:inputs], workers)
    figures |= {
        "rre15": 1 - figures["rra15"],
        "rte15": 1 - figures["rta15"],
        "mae30": 1 - figures["maa30"],
    }
    if output.gaussians is None or len(sample.images) == inputs:
        return figures
    rendered = _rendered(output, sample, inputs, model.device)
    images = sample.images[inputs:].to(rendered.device)
    pairs = list(zip(image_arrays(rendered), image_arrays(images), strict=True))
    figures["novel_psnr"] = float(np.mean([psnr(a, b) for a, b in pairs]))
    figures["novel_ssim"] = float(np.mean([ssim(a, b) for a, b in pairs]))
    if novel.perceptual is not None:
        distance = novel.perceptual(rendered, images)
        figures[f"novel_lpips_{novel.network}"] = float(distance.mean())
    return figures


def _rendered(
    output: GeometryOutput, sample: LabelledSample, inputs: int, device: torch.device
) -> Tensor:
    """The targets as the predicted Gaussians show them, [T, 3, H, W]; true cameras at the prediction's
    size.
    """
    valid = sample.valid[None, :inputs].to(device)
    truth = sample.points[None, :inputs].to(device)
    views = RenderedViews(
        sample.images[None, inputs:].to(device),
        sample.cam_from_reference[None, inputs:].to(device),
        sample.intrinsics[None, inputs:].to(device),
        mean_distance(truth, valid),
    )
    assert output.gaussians is not None
    scale = mean_distance(output.points, valid)
    images = sample.images[None, :inputs].to(device)
    terms = rendering_loss(output.points, output.gaussians, images, scale, views)
    return terms.rendered[0].clamp(0, 1)


def _poses(
    output: GeometryOutput,
    prediction: Prediction,
    intrinsics: Tensor,
    views: LabelledViews,
    inputs: int,
) -> dict[str, float]:
    if output.cam_from_world is not None:
        cameras = output.cam_from_world[0].double().cpu().numpy()
    else:  # every pixel that the model itself does not rank among its worst: truth has no part in it
        conf = prediction.conf
        trusted = conf >= np.quantile(conf, 0.03, axis=(1, 2), keepdims=True)
        focal = focal_from_pointmap(prediction.points[0], conf[0])
        cameras = cameras_from_pointmaps(prediction.points, trusted, max(focal, 1e-3))
    truth = relative(views.cam_from_world[:inputs], views.cam_from_world[0])
    return relative_pose_figures(*relative_pose_errors(cameras, truth))


def _reconstruction(prediction: Prediction, protocol: Protocol, workers: int) -> dict[str, float]:
    height, width = prediction.valid.shape[1:]
    rows, columns = _middle(height, protocol.scored), _middle(width, protocol.scored)
    part = (slice(None), rows, columns)
    before, after = reconstruction_scores(
        prediction.points[part],
        prediction.truth[part],
        prediction.valid[part],
        protocol.alignment,
        workers,
    )
    named = {f"{name}_before_icp": value for name, value in asdict(before).items()}
    return asdict(after) | named


def _middle(length: int, share: float) -> slice:
    kept = round(length * share)
    begin = (length - kept) // 2
    return slice(begin, begin + kept)
