"""The teacher: the averaged weights, which see the target views besides the context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn

from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError
from sage_core.models import GeometryOutput
from sage_core.training.precision import half, trunk_autocast
from sage_core.training.samples import LabelledSample, Pseudo, VideoSample

Sample = VideoSample | LabelledSample


def teacher(
    adapt: AdaptConfig, device: torch.device
) -> Callable[[nn.Module, Sequence[Sample]], list[Sample]] | None:
    """What adds a teacher's pointmaps to video samples (:class:`sage_core.training.step.Parts`), or None.

    View 0 is the reference of both, so the teacher's first pointmaps are the student's views in the same
    camera frame, but for the unit.

    Raises:
        ConfigError: there are no views that the student does not see as well.
    """
    if not adapt.teacher.weight:
        return None
    if not adapt.sampling.n_targets:
        raise ConfigError(
            "adapt.teacher needs views that only the teacher sees: set adapt.sampling.n_targets to 1 or more"
        )

    def teach(model: nn.Module, samples: Sequence[Sample]) -> list[Sample]:
        videos = [sample for sample in samples if isinstance(sample, VideoSample)]
        # Also where all are labelled: the ranks of a model in shares call it equally often, or wait for ever.
        images = torch.stack([sample.images for sample in videos or samples]).to(device)
        with trunk_autocast(device, half(adapt, device)):
            output = model(images)
        answers = iter(_answers(output, videos[0].context) if videos else [])
        return [
            replace(sample, taught=next(answers)) if isinstance(sample, VideoSample) else sample
            for sample in samples
        ]

    return teach


def _answers(output: GeometryOutput, seen: int) -> list[Pseudo]:
    """Of each sample what concerns the views that the student sees."""
    points, conf = output.points[:, :seen], output.conf[:, :seen]
    return [Pseudo(points[i : i + 1], conf[i : i + 1]) for i in range(len(points))]
