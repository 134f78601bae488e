"""What a picture that explains a verdict says, as plain data: drawing comes after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sage_core.mining import Tracks
from sage_core.types import Figure, Judgement

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Mark(Enum):
    """What a stretch of time came to."""

    WANTED = "wanted"
    UNWANTED = "unwanted"
    LEFT_OUT = "left out"
    """In no clip: a transition, a shot that is too short."""


@dataclass(frozen=True)
class Still:
    """A frame of the strip, uint8 [H, W, 3] RGB; ``label`` is its time, or a photo's number."""

    image: Image
    label: str
    mark: Mark


@dataclass(frozen=True)
class Span:
    """From one time to another, in seconds; ``colour`` is any that matplotlib knows."""

    start_s: float
    end_s: float
    colour: str
    label: str = ""


@dataclass(frozen=True)
class Band:
    """A row of spans over time, such as the shots."""

    name: str
    spans: Sequence[Span]


@dataclass(frozen=True)
class Curve:
    """A stored score over time.

    Attributes:
        figure: the name of the figure that is taken from it.
        label: what it is, with its unit.
        times_s, values: [N] each; a gap where a value is not finite.
        threshold, rule: as of :class:`sage_core.types.Figure`; None without.
        logarithmic: whether ratios matter rather than differences.
        stepped: one value for a whole stretch, drawn level.
        decides: whether the verdict hangs on it.
    """

    figure: str
    label: str
    times_s: Floats
    values: Floats
    threshold: float | None = None
    rule: str | None = None
    logarithmic: bool = False
    stepped: bool = False
    decides: bool = False


@dataclass(frozen=True)
class Timeline:
    """What happened when, from ``start_s`` to ``end_s``; ``legend`` names the colours of the last band."""

    start_s: float
    end_s: float
    bands: Sequence[Band]
    curves: Sequence[Curve]
    legend: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class Evidence:
    """A frame, uint8 [H, W, 3] RGB, with what tells most on it.

    Attributes:
        caption: what is seen.
        tracks: corners followed from it on, in its pixels; ``plain`` says what explains most of them.
        shaded: bool [H, W], what ``shaded_as`` says.
    """

    image: Image
    caption: str
    tracks: Tracks | None = None
    plain: str = ""
    shaded: Mask | None = None
    shaded_as: str = ""


@dataclass(frozen=True)
class Scene:
    """A reconstruction, in the frame that :func:`sage_core.report.upright` gives.

    Attributes:
        points [P, 3], colours uint8 [P, 3], centres [N, 3], axes [N, 3, 3] (rows: right, down, ahead).
        image: one of its frames, uint8 [H, W, 3] RGB, with anchors at ``xy`` [A, 2] (pixels, +0.5 rule)
            and ``depth`` [A], in SfM units.
        masked: bool [H, W], what was kept out of it, or None.
        ordered: whether the centres are a path.
    """

    points: Floats
    colours: Image
    centres: Floats
    axes: Floats
    image: Image
    label: str
    xy: Floats
    depth: Floats
    masked: Mask | None = None
    ordered: bool = True


@dataclass(frozen=True)
class Explanation:
    """Everything about one item's verdict.

    Attributes:
        title, item, source: the item's name, id, and where it came from.
        stage: which said the last word, ``judgement``.
        figures: those that decided, with their thresholds; ``figures_of`` says what was measured.
        facts: short remarks for the head, such as the length and size.
        notes: what cannot be shown, and why.
    """

    title: str
    item: str
    source: str
    stage: str
    judgement: Judgement
    figures: dict[str, Figure]
    figures_of: str
    facts: Sequence[str] = ()
    strip: Sequence[Still] = ()
    timeline: Timeline | None = None
    evidence: Evidence | None = None
    scene: Scene | None = None
    notes: Sequence[str] = ()
    stages: dict[str, Any] = field(default_factory=dict)
    """Every stage's verdict and figures, for the page."""
