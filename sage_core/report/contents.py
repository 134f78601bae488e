"""What a report says, section by section. All strings may come from outside; the page escapes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sage_core.report.charts import Curve
from sage_core.report.figures import decisive
from sage_core.report.pictures import Picture
from sage_core.report.scene import Scene
from sage_core.types import Figure


@dataclass(frozen=True)
class Fact:
    """A number with its name, such as ``Fact("frames in shards", "1,204")``."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class StageRow:
    """What became of the items of one stage: counts by verdict, and how often each reason was given."""

    stage: str
    kind: str
    verdicts: Mapping[str, int]
    reasons: Mapping[str, int]
    seconds: float | None
    """Wall time of all its items, added up; None where they were judged as parts of others."""

    @property
    def total(self) -> int:
        return sum(self.verdicts.values())


@dataclass(frozen=True)
class Settings:
    """Under which settings and code the verdicts of a stage were reached; more than one after a change."""

    stage: str
    config_hashes: Sequence[str]
    code_versions: Sequence[str]


@dataclass(frozen=True)
class Step:
    """The latest verdict on an item at one stage."""

    stage: str
    verdict: str
    reason: str | None
    message: str
    figures: Mapping[str, Figure]
    attempt: int
    seconds: float
    retryable: bool = False


@dataclass(frozen=True)
class Item:
    """A video, clip, run or evaluation with its verdicts in order of the stages."""

    item: str
    title: str
    source: str
    kind: str
    steps: Sequence[Step]
    parent: str | None = None

    @property
    def last(self) -> Step:
        """The verdict that stands: the furthest stage's."""
        return self.steps[-1]

    @property
    def decisive(self) -> list[tuple[str, Figure]]:
        return decisive(self.last.figures)


@dataclass(frozen=True)
class Gallery:
    """Pictures, and how many more there would have been."""

    pictures: Sequence[Picture] = ()
    left_out: int = 0


@dataclass(frozen=True)
class SceneCard:
    """One reconstructed clip: the scene to turn around, its gate figures, frames with their anchors.

    ``near`` and ``far`` are the depths (SfM units) that the first and last colour stand for, if there are
    frames. ``problem`` says why there is no scene.
    """

    item: str
    title: str
    scene: Scene | None = None
    facts: Sequence[Fact] = ()
    figures: Mapping[str, Figure] = field(default_factory=dict)
    frames: Sequence[Picture] = ()
    near: float = 0.0
    far: float = 0.0
    problem: str = ""


@dataclass(frozen=True)
class Run:
    """One training run: its curves over the steps, and what it took."""

    item: str
    verdict: str
    message: str = ""
    losses: Sequence[Curve] = ()
    rate: Curve | None = None
    facts: Sequence[Fact] = ()


@dataclass(frozen=True)
class Cell:
    """One metric of two models.

    ``change`` is relative to the first; ``better`` is None where neither is, or the direction is unknown;
    ``share`` is the share of samples in which the last model beats the first.
    """

    metric: str
    label: str
    unit: str
    direction: str
    values: Sequence[float | None]
    change: float | None
    better: bool | None
    share: float | None = None
    explanation: str = ""


@dataclass(frozen=True)
class ModelComparison:
    """One test set: what its numbers hold for, and each metric by model."""

    name: str
    protocol: str
    samples: int
    models: Sequence[str]
    cells: Sequence[Cell]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation: its test sets, and pictures."""

    item: str
    weights: Mapping[str, str]
    sets: Sequence[ModelComparison]
    gallery: Gallery = field(default_factory=Gallery)
    problem: str = ""
    """Why there are no numbers."""


@dataclass(frozen=True)
class Report:
    """The whole page. Empty sections say so."""

    workspace: str
    made: str
    versions: Mapping[str, str]
    headline: Sequence[Fact] = ()
    stages: Sequence[StageRow] = ()
    settings: Sequence[Settings] = ()
    items: Sequence[Item] = ()
    items_left_out: int = 0
    sheets: Gallery = field(default_factory=Gallery)
    scenes: Sequence[SceneCard] = ()
    scenes_left_out: int = 0
    runs: Sequence[Run] = ()
    runs_left_out: int = 0
    evaluations: Sequence[Evaluation] = ()
    evaluations_left_out: int = 0
    notes: Sequence[str] = ()
    """What could not be shown, and why."""
