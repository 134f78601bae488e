"""MiniWorld: which scenes are labelled, which only filmed, which only tested on.

Each domain is a few families, taken in turn by seed. What a test domain shows is graded by what neither
training has seen: nothing new ("seen"), another look ("near"), another shape ("mid"), both ("far"). Settings
and checkpoints are chosen on "choice", which is no test domain.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from sage_core.evaluation.samples import LabelledViews
from sage_core.world.rooms import SPLITS, RoomBatch, room_batch, room_sample
from sage_core.world.scenes import FAMILIES


@dataclass(frozen=True)
class Domain:
    """Families whose scenes alternate.

    Attributes:
        families: names in :data:`sage_core.world.scenes.FAMILIES`.
        split: of the seeds (:data:`sage_core.world.rooms.SPLITS`) that serve it.
        about: what it is for.
    """

    name: str
    families: tuple[str, ...]
    split: str
    about: str

    def family_of(self, seed: int) -> str:
        """The family of that seed's scene."""
        return self.families[seed % len(self.families)]

    def seeds(self, count: int) -> list[int]:
        """The first of its split.

        Raises:
            ValueError: more than the split holds.
        """
        split = SPLITS[self.split]
        if count > len(split):
            raise ValueError(f"domain {self.name} has {len(split)} scenes, {count} are asked for")
        return list(split[:count])


_LABELLED = ("P", "corridor-plain")
_FILMED = (
    "V", "corridor-rich", "table-rich", "court-rich",
    "room-worn", "corridor-worn", "table-worn", "court-worn",
)  # fmt: skip

DOMAINS = {
    domain.name: domain
    for domain in (
        Domain("labelled", _LABELLED, "train", "what the base model is pretrained on, with depth"),
        Domain("filmed", _FILMED, "film", "videos without labels, which the pipeline mines"),
        Domain(
            "choice", ("office-rich",), "validation", "where settings and checkpoints are chosen"
        ),
        Domain("seen", _LABELLED, "test", "scenes like the labelled ones"),
        Domain("near", ("P-graphic",), "test", "shapes as labelled, a look that nobody has seen"),
        Domain("mid", ("hall-plain",), "test", "a look as labelled, shapes that nobody has seen"),
        Domain("far", ("hall-graphic",), "test", "neither shapes nor look seen before"),
    )
}


def domain_named(name: str) -> Domain:
    """The domain of that name.

    Raises:
        ValueError: no such domain.
    """
    if name not in DOMAINS:
        raise ValueError(f"no domain {name!r}: choose one of {', '.join(DOMAINS)}")
    return DOMAINS[name]


def domain_sample(
    domain: Domain, seed: int, n_views: int, size: int | tuple[int, int]
) -> LabelledViews:
    """Labelled views of that seed's scene; see :func:`sage_core.world.rooms.room_sample`."""
    return room_sample(seed, n_views, size, domain.family_of(seed))


def domain_batch(
    domain: Domain,
    seeds: list[int],
    n_views: int,
    size: int | tuple[int, int],
    *,
    smooth_edges: bool = True,
    device: torch.device | str = "cpu",
) -> RoomBatch:
    """Samples of several seeds, rendered together; the domain's families must share one look."""
    families = [FAMILIES[domain.family_of(seed)] for seed in seeds]
    return room_batch(seeds, n_views, size, families, smooth_edges=smooth_edges, device=device)


TEST_DOMAINS = ("seen", "near", "mid", "far")
assert all(name in FAMILIES for domain in DOMAINS.values() for name in domain.families)
