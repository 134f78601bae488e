"""How hard clips are, measured once and kept beside their shards. Light to import.

Two measures, both on the samples that training would draw of a clip: the base model's own loss (the paper's),
measured by :mod:`sage_core.training.difficulty`, and how little its views share, which takes no model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from sage_core.config.adapt import AdaptConfig
from sage_core.config.sampling import SamplingConfig
from sage_core.errors import ConfigError, ShardError
from sage_core.hub import sha256_of, weights_path
from sage_core.shards import ClipInfo, ShardReader, can_draw, draw_trajectory
from sage_core.training.files import write_json
from sage_core.training.mixing import BY_COVISIBILITY, BY_LOSS, MinedClip, read_difficulty
from sage_core.training.order import Kind, SampleId

FORMAT = 1


@dataclass(frozen=True)
class Difficulty:
    """How hard a clip is; None for one that yields no sample, so that no training draws from it either.

    Attributes:
        loss: mean anchor loss of the base model on its samples.
        covisibility: 1 - the mean over views of the largest share of points that one has in common with a
            view before it: 0 where all see the same, 1 where they have nothing in common.
    """

    loss: float | None
    covisibility: float | None


@dataclass(frozen=True)
class DifficultyMeasure:
    """What the figures depend on besides the clip; those of equal measures may be compared.

    Attributes:
        model: SHA-256 of the base model's weights.
        sampling, image_px, image_shape, alpha: as in ``adapt``.
        samples: drawn of each clip.
        seed: of the draws.
    """

    model: str
    sampling: dict[str, Any]
    image_px: int | None
    image_shape: str
    alpha: float
    samples: int
    seed: int

    @classmethod
    def of(cls, adapt: AdaptConfig, seed: int) -> DifficultyMeasure:
        """As these settings measure.

        Raises:
            CheckpointError: the base weights are not there.
        """
        return cls(
            model=sha256_of(weights_path(adapt.base)),
            sampling=adapt.sampling.model_dump(mode="json"),
            image_px=adapt.image_px,
            image_shape=adapt.image_shape,
            alpha=adapt.loss.alpha,
            samples=adapt.mixing.difficulty_samples,
            seed=seed,
        )

    def file(self, folder: Path) -> Path:
        """Where the figures of a folder's shards are kept."""
        text = json.dumps(asdict(self), sort_keys=True)
        return folder / f"difficulty-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


Stored = dict[str, dict[str, Difficulty]]
"""Difficulties by shard, then by clip: a clip that is assembled again lies in another shard."""


def read_stored(file: Path) -> Stored:
    """What :func:`write_stored` wrote; empty if there is no such file.

    Raises:
        ShardError: it is damaged, or of another format.
    """
    try:
        data = json.loads(file.read_text())
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, not {FORMAT}")
        return {
            shard: {clip: Difficulty(**found) for clip, found in clips.items()}
            for shard, clips in data["shards"].items()
        }
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(
            f"{file} holds no difficulties that can be read ({error}): delete it and measure again"
        ) from error


def write_stored(file: Path, measure: DifficultyMeasure, stored: Stored) -> None:
    """Write all that is known, whole or not at all."""
    shards = {
        shard: {clip: asdict(found) for clip, found in clips.items()}
        for shard, clips in stored.items()
    }
    write_json(file, {"format": FORMAT, "measure": asdict(measure), "shards": shards})


def shard_name(frames_path: Path) -> str:
    """The shard's name, which is a hash of what it was made from."""
    return frames_path.stem.removeprefix("frames-")


def sample_ids(samples: int) -> Iterator[SampleId]:
    """The first samples that a run draws of a clip that is alone."""
    return (SampleId(Kind.VIDEO, 0, index) for index in range(samples))


def covisibility_difficulty(
    clip: ClipInfo, sampling: SamplingConfig, samples: int, seed: int
) -> float | None:
    """:attr:`Difficulty.covisibility` of a clip, from its row in the shard alone."""
    if not can_draw(clip, sampling):
        return None
    shared = clip.covisibility.matrix(clip.n_frames)
    drawn = (draw_trajectory(clip, sampling, one.rng(seed)).context for one in sample_ids(samples))
    return 1.0 - fmean(
        float(shared[views[k], views[:k]].max()) for views in drawn for k in range(1, len(views))
    )


def known_difficulties(
    clips: Iterable[MinedClip], adapt: AdaptConfig, seed: int
) -> Mapping[str, float | None] | None:
    """The difficulties that ``adapt.mixing.difficulty`` asks for, by clip; None if it asks for none.

    Raises:
        ConfigError: the losses of some clips have not been measured with this base model in this way, or the
            file that is named cannot be used.
        ShardError: shards, or what is stored beside them, cannot be read.
    """
    asked = adapt.mixing.difficulty
    if asked is None:
        return None
    if asked == BY_COVISIBILITY:
        samples = adapt.mixing.difficulty_samples
        return {
            clip.clip: covisibility_difficulty(_info(clip), adapt.sampling, samples, seed)
            for clip in clips
        }
    return (
        _stored_losses(list(clips), adapt, seed)
        if asked == BY_LOSS
        else read_difficulty(Path(asked))
    )


def _info(clip: MinedClip) -> ClipInfo:
    return ShardReader([clip.path]).clip(clip.clip)


def _stored_losses(
    clips: list[MinedClip], adapt: AdaptConfig, seed: int
) -> dict[str, float | None]:
    measure = DifficultyMeasure.of(adapt, seed)
    files = {measure.file(Path(clip.path).parent) for clip in clips}
    stored = {file: read_stored(file) for file in files}
    found: dict[str, float | None] = {}
    missing = []
    for clip in clips:
        path = Path(clip.path)
        known = stored[measure.file(path.parent)].get(shard_name(path), {}).get(clip.clip)
        if known is None:
            missing.append(clip)
        else:
            found[clip.clip] = known.loss
    if missing:
        folder = Path(missing[0].path).parent
        raise ConfigError(
            f"adapt.mixing.difficulty=loss, and {measure.file(folder).name} beside the shards lacks "
            f"{len(missing)} of {len(clips)} clips, among them {missing[0].clip}: measure them with "
            f"`sage shards difficulty {folder}` under the same settings"
        )
    return found
