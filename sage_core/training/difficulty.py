"""How hard each clip is: the base model's own anchor loss on samples of it, as the paper measures difficulty.

    python -m sage_core.training.difficulty --settings run.json --out difficulty.json

The file is what ``adapt.mixing.difficulty`` may name. ``sage shards difficulty`` stores the same figures
beside the shards, where ``adapt.mixing.difficulty=loss`` finds them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import fmean

import torch

from sage_core.config.adapt import AdaptConfig
from sage_core.errors import SageError, TrainingError
from sage_core.losses import anchor_loss
from sage_core.models import GeometricModel, load_model
from sage_core.shards import ShardReader, can_draw
from sage_core.shards.read import shard_files
from sage_core.training.difficulties import (
    Difficulty,
    DifficultyMeasure,
    covisibility_difficulty,
    read_stored,
    sample_ids,
    shard_name,
    write_stored,
)
from sage_core.training.drawing import VideoSamples
from sage_core.training.files import write_text
from sage_core.training.preparation import image_size, size_rule
from sage_core.training.ranks import joined
from sage_core.training.samples import VideoSample
from sage_core.training.settings import DataSet, ShardPart, TrainSettings
from sage_core.types import Reason

Tell = Callable[[str, float | None], None]


def _silent(_clip: str, _difficulty: float | None) -> None:
    return None


def difficulties(
    settings: TrainSettings, samples: int = 4, tell: Tell = _silent
) -> dict[str, float | None]:
    """The mean anchor loss (the paper's formula, mean over all anchors) of each clip's samples, by clip.

    None for a clip that yields no trajectory: no training draws from it either. Every draw follows from the
    settings' seed. ``tell`` is given each clip as it is done.

    Raises:
        SageError: weights or shards that cannot be used.
    """
    meter = _Meter(settings.adapt, settings.seed, samples)
    found: dict[str, float | None] = {}
    for data in settings.datasets:
        for part in data.parts:
            reader = ShardReader([part.path])
            for clip in part.clips or reader.names:
                found[clip] = meter.loss(reader, part.path, clip)
                tell(clip, found[clip])
    if all(difficulty is None for difficulty in found.values()):
        raise TrainingError(
            "no clip yields a trajectory, so none can be measured", reason=Reason.NO_DATA
        )
    return dict(sorted(found.items()))


def measure_shards(
    paths: Iterable[str | Path], adapt: AdaptConfig, seed: int, tell: Tell = _silent
) -> dict[str, Difficulty]:
    """Measure the clips of these shards that have not been, store all beside them, and give all by clip.

    What is done is stored shard by shard, so a run that was stopped goes on where it was. ``tell`` is given
    each clip as it is done.

    Raises:
        SageError: weights or shards that cannot be used.
        OSError: the folder of the shards cannot be written to.
    """
    measure = DifficultyMeasure.of(adapt, seed)
    meter: _Meter | None = None
    everything: dict[str, Difficulty] = {}
    for path in shard_files(paths):
        file, name, reader = measure.file(path.parent), shard_name(path), ShardReader([path])
        known = read_stored(file).get(name, {})
        missing = [clip for clip in reader.names if clip not in known]
        if missing:
            meter = meter or _Meter(adapt, seed, measure.samples)
            for clip in missing:
                known[clip] = meter.difficulty(reader, path, clip)
                tell(clip, known[clip].loss)
            write_stored(file, measure, {**read_stored(file), name: known})
        everything |= known
    return everything


class _Meter:
    """The base model, and what it says of clips."""

    def __init__(self, adapt: AdaptConfig, seed: int, samples: int) -> None:
        with joined(adapt.device, adapt.threads) as ranks:
            self._model = load_model(adapt.base).to(ranks.device)
        self._size = size_rule(adapt, self._model, image_size(adapt, self._model))
        self._adapt, self._seed, self._samples = adapt, seed, samples

    def difficulty(self, reader: ShardReader, path: Path, clip: str) -> Difficulty:
        info = reader.clip(clip)
        covisibility = covisibility_difficulty(
            info, self._adapt.sampling, self._samples, self._seed
        )
        return Difficulty(self.loss(reader, path, clip), covisibility)

    def loss(self, reader: ShardReader, path: str | Path, clip: str) -> float | None:
        """Mean over samples of the clip, None if there are none."""
        adapt = self._adapt
        if not can_draw(reader.clip(clip), adapt.sampling):
            return None
        draw = VideoSamples(
            [DataSet(name=clip, parts=(ShardPart(path=str(path), clips=(clip,)),))],
            adapt.sampling,
            size=self._size,
            seed=self._seed,
            shuffle_views=True,
        )
        drawn = map(draw, sample_ids(self._samples))
        return fmean(_loss(self._model, sample, adapt.loss.alpha) for sample in drawn)


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
