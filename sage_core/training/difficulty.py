"""How hard each clip is: the base model's own anchor loss on samples of it, as the paper measures difficulty.

    python -m sage_core.training.difficulty --settings run.json --out difficulty.json

The file is what ``adapt.mixing.difficulty`` names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from sage_core.errors import SageError, TrainingError
from sage_core.losses import anchor_loss
from sage_core.models import load_model
from sage_core.training.drawing import VideoSamples
from sage_core.training.files import write_text
from sage_core.training.order import Kind, SampleId
from sage_core.training.preparation import image_size, size_rule
from sage_core.training.samples import VideoSample
from sage_core.training.settings import DataSet, ShardPart, TrainSettings
from sage_core.types import Reason


def difficulties(settings: TrainSettings, samples: int = 4) -> dict[str, float]:
    """The mean anchor loss (the paper's formula, mean over all anchors) of each clip's samples, by clip.

    Clips that yield no trajectory are left out. Every draw follows from the settings' seed.

    Raises:
        SageError: weights or shards that cannot be used.
    """
    adapt = settings.adapt
    model = load_model(adapt.base)
    size = size_rule(adapt, model, image_size(adapt, model))
    found: dict[str, list[float]] = {}
    for part in _single_clips(settings):
        one = DataSet(name=str(part.clips), parts=(part,))
        draw = VideoSamples(
            [one], adapt.sampling, size=size, seed=settings.seed, shuffle_views=True
        )
        drawn = [draw(SampleId(Kind.VIDEO, 0, index)) for index in range(samples)]
        found[drawn[0].name.partition("[")[0]] = [_loss(model, s, adapt.loss.alpha) for s in drawn]
    if not found:
        raise TrainingError(
            "no clip yields a trajectory, so none can be measured", reason=Reason.NO_DATA
        )
    return {clip: sum(losses) / len(losses) for clip, losses in sorted(found.items())}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sage_core.training.difficulty", description=__doc__
    )
    parser.add_argument("--settings", type=Path, required=True, help="JSON file (docs/adapt.md)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--samples", type=int, default=4, help="samples of each clip (4)")
    arguments = parser.parse_args(argv)
    try:
        found = difficulties(TrainSettings.read(arguments.settings), arguments.samples)
    except SageError as error:
        print(error, file=sys.stderr)
        return 1
    write_text(arguments.out, json.dumps(found, indent=1))
    return 0


def _single_clips(settings: TrainSettings) -> Iterator[ShardPart]:
    from sage_core.shards import ShardReader, can_draw

    for data in settings.datasets:
        for part in data.parts:
            reader = ShardReader([part.path])
            for name in part.clips or reader.names:
                if can_draw(reader.clip(name), settings.adapt.sampling):
                    yield ShardPart(path=part.path, clips=(name,))


@torch.no_grad()
def _loss(model: torch.nn.Module, sample: VideoSample, alpha: float) -> float:
    output = model(sample.images[None, : sample.context])
    loss = anchor_loss(output.points, output.conf, sample.anchors, alpha=alpha, reduction="mean")
    return float(loss[0])


if __name__ == "__main__":
    sys.exit(main())
