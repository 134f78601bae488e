"""Where labelled samples come from: procedural rooms, or a data set on disk."""

from __future__ import annotations

from collections.abc import Callable

from sage_core.config.adapt import AdaptConfig
from sage_core.errors import ConfigError
from sage_core.evaluation.samples import LabelledViews
from sage_core.training.order import SampleId

LabelledSource = Callable[[SampleId], LabelledViews]
_ROOM_SEEDS = 2**31


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
            "on: set adapt.regularisation.source to 'rooms' (procedural rooms) or to the path of an "
            "RGB-D data set, or switch them off with adapt.regularisation.enabled=false"
        )
    if regularisation.source == "rooms":
        return rooms(regularisation.pool, views, size, seed)
    raise ConfigError(f"no labelled data set {regularisation.source!r}")


def rooms(pool: int, views: int, size: int, seed: int) -> LabelledSource:
    """Samples of ``pool`` procedural rooms of the family that ``mini`` was pretrained on, in turn."""

    def source(sample: SampleId) -> LabelledViews:
        from sage_core.world import room_sample

        turn = SampleId(sample.kind, 0, sample.index % pool)
        return room_sample(int(turn.rng(seed).integers(_ROOM_SEEDS)), views, size)

    return source


def _none(sample: SampleId) -> LabelledViews:
    raise ConfigError(f"sample {sample} is labelled, but regularisation is off")
