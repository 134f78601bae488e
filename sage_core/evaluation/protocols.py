"""Named protocols: which frames of a data set are measured, and how. Numbers of two protocols are never
compared.

A protocol's frame list is drawn by its rule, once, and kept; the hash over rule, data set and list stands
beside every number.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sage_core.errors import ConfigError, MediaError, SageError
from sage_core.evaluation.datasets import Reading, Scene
from sage_core.evaluation.datasets._named import Opener
from sage_core.evaluation.published_tuples import Clouds, grow, order_at_test
from sage_core.evaluation.reconstruction import Alignment
from sage_core.evaluation.tuples import Grid, coarse_grids, coverage, draw_tuples, overlap_matrix
from sage_core.types import Reason

Measure = Literal["pointmaps", "reconstruction", "poses"]


@dataclass(frozen=True)
class TestTuple:
    """Frames that a model sees together; the first is the reference. Frames by their numbers."""

    __test__ = False  # no test, for all its name

    scene: str
    inputs: tuple[int, ...]
    targets: tuple[int, ...] = ()


@dataclass(frozen=True)
class Grown:
    """Tuples grown by overlap from a random first view.

    Attributes:
        views: inputs of a tuple.
        targets: further views that are only rendered.
        rule: ``sage``: each next view's largest overlap with those chosen lies in the band, overlap by
            projection of true depth; targets are the best covered of some random frames. ``mvdust3r``: the
            published code's clouds, growth and order.
        band: smallest and largest overlap.
        count: tuples of the whole data set, spread over its scenes.
        seed: draws them.
        most_frames: of a longer scene every n-th frame is used, so that at most so many are.
    """

    views: int
    targets: int
    rule: Literal["sage", "mvdust3r"] = "sage"
    band: tuple[float, float] = (0.3, 1.0)
    count: int = 200
    seed: int = 777
    most_frames: int = 250


@dataclass(frozen=True)
class Strided:
    """One tuple a scene: every n-th frame of it.

    Attributes:
        every: n by data set; ``*`` for those for which none is published.
        at_most_half: n is at most half the scene's length, so that there are two frames at least.
    """

    every: Mapping[str, int]
    at_most_half: bool = False


@dataclass(frozen=True)
class Drawn:
    """One tuple a scene: random frames of it, in random order."""

    views: int = 10
    seed: int = 42


@dataclass(frozen=True)
class Protocol:
    """One way to measure.

    Attributes:
        name: what commands call it.
        frames: which frames.
        measure: which figures.
        alignment: of clouds, before ICP, where figures are of reconstructions.
        scored: middle part of the picture's side that is scored.
        text: what it is and where it departs from what was published.
        published_on: data sets with published numbers.
    """

    name: str
    frames: Grown | Strided | Drawn
    measure: Measure
    text: str
    alignment: Alignment = "median"
    scored: float = 1.0
    published_on: tuple[str, ...] = ()

    def rule(self) -> dict[str, Any]:
        """What the frame list and the figures depend on."""
        return {
            "name": self.name,
            "frames": {"kind": type(self.frames).__name__, **asdict(self.frames)},
            "measure": self.measure,
            "alignment": self.alignment,
            "scored": self.scored,
        }


_CANDIDATES = 12
"""Frames that are asked for each rendered view."""
VIEW_COUNTS = (4, 8, 12, 16, 20, 24)
_7N = ("7scenes", "nrgbd")
PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        *(
            Protocol(
                f"sage-{views}",
                Grown(views, views // 4),
                "pointmaps",
                f"SAGE: {views} views grown by overlap from true depth, {views // 4} rendered; MV-DUSt3R's "
                "figures. The paper's own lists are not published",
                published_on=("scannet", "7scenes", "tum", "matterport3d", "uasol"),
            )
            for views in VIEW_COUNTS
        ),
        *(
            Protocol(
                f"mvdust3r-{views}",
                Grown(views, views // 4, "mvdust3r", (0.3, 0.7), 1000),
                "pointmaps",
                f"MV-DUSt3R: {views} + {views // 4} views by the published code's rule (overlap of clouds, "
                "band 0.3 to 0.7, order at test). The authors' own lists are not published",
                published_on=("scannet",),
            )
            for views in VIEW_COUNTS
        ),
        Protocol(
            "cut3r",
            Strided({"7scenes": 200, "nrgbd": 500, "*": 200}, at_most_half=True),
            "reconstruction",
            "CUT3R: 3 to 5 views a scene, medians aligned, ICP; the middle 224 of 384 rows and columns are "
            "scored",
            scored=224 / 384,
            published_on=_7N,
        ),
        Protocol(
            "spann3r",
            Strided({"7scenes": 20, "nrgbd": 40, "*": 20}),
            "reconstruction",
            "Spann3R: every 20th frame (40th of Neural RGB-D), medians aligned, ICP",
            published_on=_7N,
        ),
        Protocol(
            "pi3-sparse",
            Strided({"7scenes": 200, "nrgbd": 500, "*": 200}),
            "reconstruction",
            "Pi3, sparse: every 200th frame (500th of Neural RGB-D), a similarity fitted, ICP",
            alignment="umeyama",
            published_on=_7N,
        ),
        Protocol(
            "pi3-dense",
            Strided({"7scenes": 40, "nrgbd": 100, "*": 40}),
            "reconstruction",
            "Pi3, dense: every 40th frame (100th of Neural RGB-D), a similarity fitted, ICP",
            alignment="umeyama",
            published_on=_7N,
        ),
        Protocol(
            "relpose-10",
            Drawn(10),
            "poses",
            "VGGT and Pi3: 10 random frames a scene, all pairs; RRA, RTA and AUC. They report CO3D and "
            "RealEstate10K",
        ),
    )
}


def protocol_named(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise ConfigError(f"there is no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


@dataclass(frozen=True)
class FrameList:
    """The frames of a protocol on a copy of a data set.

    Attributes:
        name: ``PROTOCOL/DATA SET``, with ``partial`` where the copy or the request is not the whole of it.
        digest: twelve hex digits over rule, data set and tuples.
        tuples: in order.
        notes: what a reader of the numbers must know.
    """

    name: str
    digest: str
    tuples: tuple[TestTuple, ...]
    notes: tuple[str, ...]

    @property
    def id(self) -> str:
        """What stands beside every number."""
        return f"{self.name}#{self.digest}"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FrameList:
        tuples = tuple(
            TestTuple(t["scene"], tuple(t["inputs"]), tuple(t["targets"])) for t in data["tuples"]
        )
        return cls(data["name"], data["digest"], tuples, tuple(data["notes"]))


def frame_list(
    protocol: Protocol,
    reading: Reading,
    root: Path,
    *,
    partial: bool = False,
    most: int | None = None,
) -> FrameList:
    """Draw the frames of a protocol on a data set; the same files give the same list.

    Args:
        partial: measure what is there, though it is not the published whole; the name then says so.
        most: at most so many tuples, taken evenly, as the published code does.

    Raises:
        ConfigError: a copy that lacks published scenes, unless ``partial``.
        MediaError: a scene that lacks frames, unless ``partial``, or is broken.
        SageError: not one tuple.
    """
    scenes, notes = _chosen(protocol, reading, root, partial)
    drawn: list[TestTuple] = []
    share = -(-protocol.frames.count // len(scenes)) if isinstance(protocol.frames, Grown) else 1
    for place, (name, opened) in enumerate(scenes.items()):
        scene = opened()
        _check_whole(scene, partial)
        found = _tuples(protocol, reading, scene, name, share, place)
        drawn += found
        notes += _scene_notes(name, scene, found)
    if not drawn:
        raise SageError(
            f"no tuple of {protocol.name} can be drawn below {root}: " + "; ".join(notes[-3:]),
            reason=Reason.NO_DATA,
        )
    limit = min(most or len(drawn), len(drawn))
    kept = tuple(drawn[i * len(drawn) // limit] for i in range(limit))
    whole = not partial and limit == len(drawn)
    name = f"{protocol.name}/{reading}" + ("" if whole else "/partial")
    return FrameList(name, _digest(protocol, reading, kept), kept, tuple(dict.fromkeys(notes)))


def _chosen(
    protocol: Protocol, reading: Reading, root: Path, partial: bool
) -> tuple[dict[str, Opener], list[str]]:
    """The scenes to measure: the published ones, or with ``partial`` those that are there."""
    there = reading.scenes(root)
    notes = []
    if reading.data_set.name not in protocol.published_on:
        notes.append(f"nobody published {protocol.name} on {reading.data_set.title}")
    if reading.data_set.published is None:
        return there, notes
    wanted = reading.data_set.published(root)
    found = {name: there[name] for name in wanted if name in there}
    if len(found) == len(wanted):
        return found, notes
    if not partial:
        gone = [name for name in wanted if name not in there]
        raise ConfigError(
            f"{root} lacks {len(gone)} of the {len(wanted)} scenes that are reported on "
            f"{reading.data_set.title}: {', '.join(gone[:5])}{' …' if len(gone) > 5 else ''}. Fetch them, or "
            "give --partial to measure what is there (the numbers are then marked as partial)"
        )
    notes.append(f"{len(found)} of the {len(wanted)} reported scenes are there")
    if not found:
        notes.append(f"measured on others: {', '.join(list(there)[:5])}")
    return found or there, notes


def _check_whole(scene: Scene, partial: bool) -> None:
    if scene.missing and not partial:
        shown = ", ".join(map(str, scene.missing[:5])) + (" …" if len(scene.missing) > 5 else "")
        raise MediaError(
            f"{scene.folder} lacks {len(scene.missing)} of its frames ({shown}): copy the scene again, or "
            "give --partial to measure what is there (the numbers are then marked as partial)",
            reason=Reason.MISSING_INPUT,
        )


def _scene_notes(name: str, scene: Scene, found: list[TestTuple]) -> list[str]:
    notes = [scene.note] if scene.note else []
    if scene.lost:
        notes.append(f"{name}: {len(scene.lost)} frames without a finite pose left out")
    if not found:
        notes.append(f"{name}: no tuple can be drawn from its {len(scene)} frames")
    return notes


def _tuples(
    protocol: Protocol, reading: Reading, scene: Scene, name: str, share: int, place: int
) -> list[TestTuple]:
    frames = protocol.frames
    if isinstance(frames, Strided):
        chosen = [_strided(frames, reading.data_set.name, scene)]
    elif isinstance(frames, Drawn):
        chosen = _drawn(frames, scene, place)
    else:
        thin = scene.select(range(0, len(scene), -(-len(scene) // frames.most_frames)))
        return _grown(frames, thin, name, share, place)
    return [TestTuple(name, numbers) for numbers in chosen if len(numbers) > 1]


def _strided(frames: Strided, data_set: str, scene: Scene) -> tuple[int, ...]:
    """Every n-th number from 0; in a thinned-out copy every so many frames as come to n numbers."""
    every = frames.every.get(data_set, frames.every["*"])
    numbers = [frame.number for frame in scene.frames]
    length = numbers[-1] + 1
    if frames.at_most_half:
        every = min(every, length // 2)
    if not scene.missing:
        wanted = set(range(0, length, every))
        return tuple(number for number in numbers if number in wanted)
    spacing = max(1, int(np.median(np.diff(numbers))))
    return tuple(numbers[:: max(1, round(every / spacing))])


def _drawn(frames: Drawn, scene: Scene, place: int) -> list[tuple[int, ...]]:
    """Empty for a scene with too few frames, which the published code leaves out, too."""
    if len(scene) < frames.views:
        return []
    rng = np.random.default_rng([frames.seed, place])
    chosen = rng.choice(len(scene), frames.views, replace=False)
    return [tuple(scene.frames[int(i)].number for i in chosen)]


def _grown(frames: Grown, scene: Scene, name: str, share: int, place: int) -> list[TestTuple]:
    drawn_by = _by_mvdust3r if frames.rule == "mvdust3r" else _by_sage
    pairs = drawn_by(frames, scene, share, place)

    def numbers(places: list[int]) -> tuple[int, ...]:
        return tuple(scene.frames[p].number for p in places)

    return [TestTuple(name, numbers(inputs), numbers(targets)) for inputs, targets in pairs]


def _by_sage(
    frames: Grown, scene: Scene, share: int, place: int
) -> list[tuple[list[int], list[int]]]:
    if len(scene) < frames.views:
        return []
    seed = int(np.random.default_rng([frames.seed, place]).integers(2**31))
    grids = coarse_grids(scene)
    drawn = draw_tuples(overlap_matrix(scene, grids), frames.views, share, seed, *frames.band)
    return [(inputs, _targets(scene, grids, inputs, frames.targets, seed)) for inputs in drawn]


def _targets(
    scene: Scene, grids: list[Grid], inputs: list[int], count: int, seed: int
) -> list[int]:
    """The best covered of some random frames that are no inputs, in their order in the scene."""
    rng = np.random.default_rng([seed, *inputs])
    others = rng.permutation(sorted(set(range(len(scene))) - set(inputs)))
    asked = [int(other) for other in others[: _CANDIDATES * count]]
    covered = {other: coverage(scene, grids, inputs, other) for other in asked}
    return sorted(sorted(covered, key=lambda other: -covered[other])[:count])


def _by_mvdust3r(
    frames: Grown, scene: Scene, share: int, place: int
) -> list[tuple[list[int], list[int]]]:
    clouds, rng = Clouds(scene), np.random.default_rng([frames.seed, place])
    found = []
    for _ in range(share):
        grown = grow(clouds, frames.views, frames.targets, frames.band, rng)
        if grown is None:
            break
        inputs, targets = grown
        order = order_at_test(frames.views + frames.targets, frames.targets)
        found.append(([inputs[i] for i in order], targets))
    return found


def _digest(protocol: Protocol, reading: Reading, tuples: tuple[TestTuple, ...]) -> str:
    content = {
        "rule": protocol.rule(),
        "data_set": str(reading),
        "tuples": [asdict(one) for one in tuples],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]
