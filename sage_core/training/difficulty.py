"""How hard each clip is: the base model's own anchor loss on samples of it, as the paper measures difficulty.

    python -m sage_core.training.difficulty --settings run.json --out difficulty.json

The file is what ``adapt.mixing.difficulty`` names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean

import torch

from sage_core.errors import SageError, TrainingError
from sage_core.losses import anchor_loss
from sage_core.models import GeometricModel, load_model
from sage_core.shards import ShardReader, can_draw
from sage_core.training.drawing import VideoSamples
from sage_core.training.files import write_text
from sage_core.training.order import Kind, SampleId
from sage_core.training.preparation import image_size, size_rule
from sage_core.training.ranks import joined
from sage_core.training.samples import VideoSample
from sage_core.training.settings import DataSet, ShardPart, TrainSettings
from sage_core.types import Reason


def difficulties(
    settings: TrainSettings,
    samples: int = 4,
    tell: Callable[[str, float | None], None] = lambda _clip, _difficulty: None,
) -> dict[str, float | None]:
    """The mean anchor loss (the paper's formula, mean over all anchors) of each clip's samples, by clip.

    None for a clip that yields no trajectory: no training draws from it either. Every draw follows from the
    settings' seed. ``tell`` is given each clip as it is done.

    Raises:
        SageError: weights or shards that cannot be used.
    """
    adapt = settings.adapt
    with joined(adapt.device, adapt.threads) as ranks:
        model = load_model(adapt.base).to(ranks.device)
    size = size_rule(adapt, model, image_size(adapt, model))
    found: dict[str, float | None] = {}
    for clip, part in _single_clips(settings):
        found[clip] = None
        if part is not None:
            draw = VideoSamples(
                [DataSet(name=clip, parts=(part,))],
                adapt.sampling,
                size=size,
                seed=settings.seed,
                shuffle_views=True,
            )
            drawn = (draw(SampleId(Kind.VIDEO, 0, index)) for index in range(samples))
            found[clip] = fmean(_loss(model, sample, adapt.loss.alpha) for sample in drawn)
        tell(clip, found[clip])
    if all(difficulty is None for difficulty in found.values()):
        raise TrainingError(
            "no clip yields a trajectory, so none can be measured", reason=Reason.NO_DATA
        )
    return dict(sorted(found.items()))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sage_core.training.difficulty", description=__doc__
    )
    parser.add_argument("--settings", type=Path, required=True, help="JSON file (docs/adapt.md)")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--samples", type=int, default=4, help="samples of each clip (4)")
    arguments = parser.parse_args(argv)
    if arguments.samples < 1:
        parser.error(f"--samples {arguments.samples}: at least 1 is needed")
    try:
        found = difficulties(TrainSettings.read(arguments.settings), arguments.samples, _told)
        write_text(arguments.out, json.dumps(found, indent=1))
    except SageError as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"cannot write {arguments.out}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _told(clip: str, difficulty: float | None) -> None:
    said = "no trajectory" if difficulty is None else f"{difficulty:.4g}"
    print(f"{clip}: {said}", file=sys.stderr, flush=True)


def _single_clips(settings: TrainSettings) -> Iterator[tuple[str, ShardPart | None]]:
    """Each clip, and what to draw from, or None where nothing can be drawn."""
    for data in settings.datasets:
        for part in data.parts:
            reader = ShardReader([part.path])
            for name in part.clips or reader.names:
                drawable = can_draw(reader.clip(name), settings.adapt.sampling)
                yield name, ShardPart(path=part.path, clips=(name,)) if drawable else None


@torch.no_grad()
def _loss(model: GeometricModel, sample: VideoSample, alpha: float) -> float:
    sample = sample.to(model.device)
    output = model(sample.images[None, : sample.context])
    loss = anchor_loss(
        output.points,
        output.conf,
        sample.anchors,
        conf_kind=output.conf_kind,
        alpha=alpha,
        reduction="mean",
    )
    return float(loss[0])


if __name__ == "__main__":
    sys.exit(main())
