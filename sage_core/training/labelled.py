"""Where labelled samples come from: procedural rooms, or a data set on disk."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError, TrainingError
from sage_core.evaluation.datasets import Scene
from sage_core.evaluation.datasets.seven_scenes import find_sequences
from sage_core.evaluation.samples import LabelledViews
from sage_core.evaluation.tuples import draw_tuples, overlap_matrix
from sage_core.training.order import SampleId

LabelledSource = Callable[[SampleId], LabelledViews]
_WORLD = "world:"
_WINDOW = 32
_STRIDES = 8
_TRIES = 20
_BAND = (0.3, 1.0)
"""Overlap of a view with the nearest of those before it, as in the published training's easier tuples."""


def labelled_source(adapt: AdaptConfig, size: int, seed: int) -> LabelledSource:
    """What gives the labelled views with an id; a pure function of seed and id.

    Raises:
        ConfigError: regularisation is on and no source is named.
    """
    regularisation, views = adapt.regularisation, adapt.sampling.n_context
    if not regularisation.enabled:
        return _none
    if regularisation.source is None:
        raise ConfigError(
            "no labelled samples are configured, and without them the model forgets what it was trained "
            "on: set adapt.regularisation.source to 'rooms' (procedural rooms), 'world:labelled' or the path "
            "of an RGB-D data set, or switch them off with adapt.regularisation.enabled=false"
        )
    if regularisation.source == "rooms":
        return rooms(regularisation.pool, views, size, seed)
    if regularisation.source.startswith(_WORLD):
        return world(
            regularisation.source.removeprefix(_WORLD), regularisation.pool, views, size, seed
        )
    return recorded(regularisation.source, regularisation.pool, views, seed)


def rooms(pool: int, views: int, size: int, seed: int) -> LabelledSource:
    """Samples of ``pool`` procedural rooms of the family that ``mini`` was pretrained on, in turn."""

    def source(sample: SampleId) -> LabelledViews:
        from sage_core.world.rooms import SPLITS, room_sample

        seeds = SPLITS["train"]
        drawn = seeds[int(_turn(sample, pool, seed).integers(len(seeds)))]
        return room_sample(drawn, sample.views or views, size)

    return source


def world(domain: str, pool: int, views: int, size: int, seed: int) -> LabelledSource:
    """Samples of ``pool`` scenes of a domain of the procedural world, in turn.

    Raises:
        ConfigError: there is no such domain.
    """
    from sage_core.world.domains import domain_named, domain_sample

    try:
        known = domain_named(domain)
    except ValueError as error:
        raise ConfigError(f"adapt.regularisation.source={_WORLD}{domain}: {error}") from error
    seeds = known.seeds(pool)

    def source(sample: SampleId) -> LabelledViews:
        drawn = seeds[int(_turn(sample, pool, seed).integers(len(seeds)))]
        return domain_sample(known, drawn, sample.views or views, size)

    return source


def recorded(root: str, pool: int, views: int, seed: int) -> LabelledSource:
    """Tuples of overlapping frames from RGB-D sequences in the 7-Scenes layout, ``pool`` of them in turn.

    A tuple comes from a window of a sequence, with a random stride, grown by overlap of true depth as the
    test tuples are.

    Raises:
        MediaError: no sequence there, or a broken one.
    """
    sequences = find_sequences(root)

    def source(sample: SampleId) -> LabelledViews:
        rng, wanted = _turn(sample, pool, seed), sample.views or views
        for _ in range(_TRIES):
            sequence = sequences[int(rng.integers(len(sequences)))]
            found = _tuple(sequence, wanted, rng)
            if found is not None:
                return found
        raise TrainingError(
            f"no {wanted} frames of the sequences below {root} overlap enough to be a labelled sample: "
            "lower adapt.sampling.n_context, or name another data set"
        )

    return source


def _tuple(sequence: Scene, views: int, rng: np.random.Generator) -> LabelledViews | None:
    stride = int(rng.integers(1, max(2, min(_STRIDES, len(sequence) // views) + 1)))
    first = int(rng.integers(max(1, len(sequence) - stride * _WINDOW)))
    frames = np.arange(first, len(sequence), stride)[:_WINDOW]
    window = sequence.select(frames.tolist())
    drawn = draw_tuples(overlap_matrix(window), views, 1, int(rng.integers(2**31)), *_BAND)
    return window.views(drawn[0]) if drawn else None


def _turn(sample: SampleId, pool: int, seed: int) -> np.random.Generator:
    return SampleId(sample.kind, 0, sample.index % pool).rng(seed)


def _none(sample: SampleId) -> LabelledViews:
    raise ConfigError(f"sample {sample} is labelled, but regularisation is off")
