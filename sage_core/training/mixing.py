"""From mined clips to weighed data sets: by source, and by difficulty within a source. Light to import."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sage_core.config.losses import MixingConfig
from sage_core.errors import ConfigError
from sage_core.training.settings import DataSet, ShardPart

BY_LOSS, BY_COVISIBILITY = "loss", "covisibility"
"""Values of ``adapt.mixing.difficulty`` that are no file's name."""

_REST = "*"


@dataclass(frozen=True)
class MinedClip:
    """A clip in a shard.

    Attributes:
        clip: its id.
        path: of its shard's frames file.
        origin: ids and sources that ``adapt.mixing.sources`` is compared with.
    """

    clip: str
    path: str
    origin: tuple[str, ...] = ()


def mixed(
    clips: Iterable[MinedClip],
    mixing: MixingConfig,
    known: Mapping[str, float | None] | None = None,
) -> tuple[DataSet, ...]:
    """The data sets that the clips make under these settings, and their weights.

    ``known``: difficulties by clip (:func:`sage_core.training.difficulties.known_difficulties`); by default
    those of the file that ``mixing.difficulty`` names.

    Raises:
        ConfigError: a source that no clip comes from, nothing left, or a clip of unknown difficulty.
    """
    groups = _by_source(list(clips), mixing.sources)
    if mixing.difficulty is None:
        return tuple(_data_set(name, weight, found) for name, weight, found in groups)
    known = read_difficulty(Path(mixing.difficulty)) if known is None else known
    return tuple(
        data_set
        for name, weight, found in groups
        for data_set in _by_difficulty(name, weight, found, known, mixing.difficulty_weights)
    )


def read_difficulty(path: Path) -> dict[str, float | None]:
    """Difficulties by clip, as :mod:`sage_core.training.difficulty` writes them; None: no sample, no number.

    Raises:
        ConfigError: no such file, or not a number for each clip.
    """
    try:
        data = json.loads(path.read_text())
        return {clip: None if value is None else float(value) for clip, value in data.items()}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"adapt.mixing.difficulty={str(path)!r} is no JSON file with a number for each clip "
            f"({error}): measure it with python -m sage_core.training.difficulty"
        ) from error


def _by_source(
    clips: list[MinedClip], weights: Mapping[str, float]
) -> list[tuple[str, float, list[MinedClip]]]:
    if not weights:
        return [("videos", 1.0, clips)] if clips else []
    found: dict[str, list[MinedClip]] = {name: [] for name in weights}
    named = [name for name in weights if name != _REST]
    for clip in clips:
        texts = (clip.clip, *clip.origin)
        match = next((n for n in named if any(n in text for text in texts)), _REST)
        if match in found:
            found[match].append(clip)
    if absent := [name for name, members in found.items() if not members and weights[name] > 0]:
        raise ConfigError(
            f"adapt.mixing.sources names {', '.join(absent)}, but no clip that is trained on comes from "
            "there: mend the name, give it weight 0, or take it out"
        )
    kept = [(name, weights[name], found[name]) for name in weights if weights[name] > 0]
    if not kept:
        raise ConfigError("adapt.mixing.sources gives no source any weight, so nothing is left")
    return kept


def _by_difficulty(
    name: str,
    weight: float,
    clips: Sequence[MinedClip],
    known: Mapping[str, float | None],
    weights: Sequence[float],
) -> list[DataSet]:
    if unknown := [clip.clip for clip in clips if clip.clip not in known]:
        raise ConfigError(
            f"adapt.mixing.difficulty does not say how hard {len(unknown)} of the {len(clips)} clips of "
            f"{name} are, among them {unknown[0]}: measure them with python -m sage_core.training.difficulty"
        )
    measured = {c.clip: value for c in clips if (value := known[c.clip]) is not None}
    if len(measured) < len(weights):
        raise ConfigError(
            f"the {len(measured)} clips of {name} do not make {len(weights)} classes of difficulty: give "
            "adapt.mixing.difficulty_weights fewer"
        )
    kept = [clip for clip in clips if clip.clip in measured]
    ordered = sorted(kept, key=lambda clip: (measured[clip.clip], clip.clip))
    n = len(weights)
    return [
        _data_set(
            f"{name}, difficulty {k + 1} of {n}",
            weight * share / sum(weights),
            ordered[k * len(ordered) // n : (k + 1) * len(ordered) // n],
        )
        for k, share in enumerate(weights)
        if share > 0
    ]


def _data_set(name: str, weight: float, clips: Sequence[MinedClip]) -> DataSet:
    by_path: dict[str, list[str]] = {}
    for clip in clips:
        by_path.setdefault(clip.path, []).append(clip.clip)
    parts = (
        ShardPart(path=path, clips=tuple(sorted(ids))) for path, ids in sorted(by_path.items())
    )
    return DataSet(name=name, parts=tuple(parts), weight=weight)
