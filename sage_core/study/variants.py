"""What is compared: each variant is the full method with a few settings changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

BASE = "base"
FULL = "full"


@dataclass(frozen=True)
class Variant:
    """Attributes:
    name: short, for files and the command line.
    about: for the table.
    adapt: settings of section ``adapt`` that differ from the study's own, by dotted name.
    scenes: how many of the filmed scenes it may use; None for all.
    budget: its share of the steps.
    pseudo: whether its anchors have the errors of video depth (:mod:`sage_core.study.pseudo`).
    claim: what the paper says of it, if it does.
    """

    name: str
    about: str
    adapt: Mapping[str, Any] = field(default_factory=dict, hash=False)
    scenes: int | None = None
    pseudo: bool = False
    budget: float = 1.0
    claim: str = ""


_FIRST = (
    Variant(BASE, "the pretrained model as it is"),
    Variant("labels", "as many steps on labelled scenes alone", {"regularisation.ratio": 0}),
    Variant(FULL, "anchors, rendering, regularisation", claim="CD 20 to 42 % below the base"),
    Variant("no-anchors", "without the anchor loss", {"loss.anchor_weight": 0}, claim="worse than full"),
    Variant("no-rendering", "without the rendering loss", {"loss.rendering_weight": 0},
            claim="worse than full"),
    Variant("no-regularisation", "without labelled samples", {"regularisation.enabled": False},
            claim="CD 1.3 to 2 x full"),
    Variant("true-depth", "dense true depth of the filmed scenes in place of video: the ceiling",
            {"regularisation.ratio": 0, "regularisation.source": "world:filmed"}),
)  # fmt: skip
_SECOND = (
    Variant("trained-gaussians", "the Gaussian head trains, too",
            {"frozen": [], "loss.gaussian_gradient": "all"}, claim="worse than full"),
    Variant("linear", "views evenly spaced", {"sampling.mode": "linear"}, claim="worse than full"),
    Variant("targets-8", "8 targets in place of 2", {"sampling.n_targets": 8}),
    Variant("extrapolated", "targets beyond the context views", {"sampling.targets": "extrapolated"},
            claim="worse than full"),
    Variant("pseudo-depth", "depth as a network gives it for video, in place of anchors' own", pseudo=True,
            claim="worse than full"),
)  # fmt: skip
_RATIOS = tuple(
    Variant(f"ratio-{n}", f"a labelled sample for {n} of video", {"regularisation.ratio": n})
    for n in (10, 20, 30, 100)
)
_MIXES = tuple(
    Variant(name, about, {"mixing.difficulty": "covisibility", "mixing.difficulty_weights": weights},
            claim=claim)
    for name, about, weights, claim in (
        ("easy", "the easier half of the clips alone, by covisibility", (1.0, 0.0), "worse than a mix"),
        ("hard", "the harder half alone", (0.0, 1.0), "worse than a mix"),
        ("easy-hard", "as many samples of either half", (1.0, 1.0), ""),
    )
)  # fmt: skip
_VIEWS = tuple(
    Variant(f"views-{n}", f"{n} context views", {"sampling.n_context": n}) for n in (4, 8, 12, 16)
)
_OURS = (
    Variant("quality", "anchors weighted by track, angle and error", {"loss.anchor_weights": "quality"}),
    Variant("robust", "a robust anchor loss", {"loss.robust": "huber"}),
    Variant("reprojection", "anchors also by where they project", {"loss.reprojection_weight": 0.5}),
    Variant("exposure", "renders compared up to exposure", {"loss.exposure": "gain"}),
    Variant("covisibility", "views chosen by covisibility", {"sampling.mode": "covisibility"}),
    Variant("augmented", "samples mirrored and zoomed by up to 1.3",
            {"augment.mirror": True, "augment.zoom": 1.3}),
    Variant("average", "an average of the weights", {"ema_decay": 0.99}),
    Variant("teacher", "the average, given the targets too, teaches",
            {"ema_decay": 0.99, "teacher.weight": 0.5}),
    Variant("together", "all of ours together",
            {"loss.anchor_weights": "quality", "loss.robust": "huber", "loss.reprojection_weight": 0.5,
             "loss.exposure": "gain", "sampling.mode": "covisibility", "ema_decay": 0.99,
             "augment.mirror": True, "augment.zoom": 1.3}),
)  # fmt: skip
_SCENES = tuple(
    Variant(f"scenes-{n}", f"{n} filmed scenes, the same steps", scenes=n,
            claim="error falls with the logarithm of the number of scenes")
    for n in (4, 8, 16, 32)
)  # fmt: skip
_GROWING = tuple(
    Variant(f"growing-{n}", f"{n} filmed scenes, steps as {n} to 64", scenes=n, budget=n / 64,
            claim="error falls with the logarithm of the number of scenes")
    for n in (8, 16, 32)
)  # fmt: skip

VARIANTS = {
    v.name: v for v in (*_FIRST, *_SECOND, *_SCENES, *_GROWING, *_RATIOS, *_MIXES, *_VIEWS, *_OURS)
}
FIRST = tuple(v.name for v in _FIRST)
"""The comparison that comes before all others."""


def merged(adapt: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Section ``adapt`` as a tree with settings changed, which are named with dots."""
    tree = {key: dict(v) if isinstance(v, Mapping) else v for key, v in adapt.items()}
    for name, value in changes.items():
        *path, last = name.split(".")
        at = tree
        for part in path:
            at = at.setdefault(part, {})
        at[last] = value
    return tree
