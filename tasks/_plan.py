"""What is missing: the catalog, not the orchestrator, decides what a stage still has to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from data_catalog import StageEvent, Workspace, done
from sage_core.config import SageConfig
from sage_core.types import Reason, Stage, Verdict
from tasks._inputs import Inputs, assemble_inputs, curate_inputs, gone, reconstruct_inputs
from tasks._rest import keep_rest, noted, rest_of

T = TypeVar("T")


class Retry(StrEnum):
    """Which finished items are done again."""

    MISSING = "missing"
    """None: only what is missing, or was judged under other settings or other inputs."""
    FAILED = "failed"
    """Also what failed, retryable or not."""
    ALL = "all"
    """Everything that is selected."""

    @classmethod
    def _missing_(cls, value: object) -> Retry | None:
        """The word "none", by which `missing` went before, is understood, too."""
        return cls.MISSING if value == "none" else None


class Selector(BaseModel):
    """Which finished items are done again, and how many. Unset, it selects nothing and leaves nothing out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reasons: tuple[Reason, ...] = Field(
        (), description="Only items that ended with one of these reasons; they are done again."
    )
    verdict: Verdict | None = Field(
        None, description="Only items that ended with this verdict; they are done again."
    )
    snapshot: str | None = Field(
        None,
        description="Only what is in this snapshot (its id): its videos, clips, training runs; adapt trains "
        "on its shards.",
    )
    limit: int | None = Field(None, ge=1, description="At most so many items at each stage.")

    @property
    def by_verdict(self) -> bool:
        """Whether it looks at the verdicts that items have."""
        return bool(self.reasons) or self.verdict is not None

    def fits(self, event: StageEvent) -> bool:
        """Whether the item ended as this asks for."""
        return self.verdict in (None, event.verdict) and (
            not self.reasons or event.reason in self.reasons
        )

    def matching(self, ws: Workspace, stage: Stage) -> frozenset[str]:
        """Items that ended as this asks for at a stage, under whatever settings."""
        return frozenset(e.item for e in ws.catalog.each(stage.value) if self.fits(e))


@dataclass(frozen=True)
class Selection:
    """Which items of a stage a run takes on, and which of them it does again.

    Attributes:
        retry: what is done again of the finished, unless ``selector`` looks at verdicts.
        scopes: an item is taken on if each of these names it or its parent.
        selector: what was asked for beside that.
    """

    retry: Retry = Retry.MISSING
    scopes: tuple[frozenset[str], ...] = ()
    selector: Selector = field(default_factory=Selector)

    @classmethod
    def of(
        cls,
        ws: Workspace,
        stage: Stage,
        retry: Retry | str,
        items: Iterable[str] | None,
        selector: Selector | None = None,
    ) -> Selection:
        """The selection at a stage.

        Of ``items``, where they are given, those that ``selector`` asks for are done again and the others
        if they are missing; without them only those that it asks for are taken on.

        Raises:
            CatalogError: there is no such snapshot.
        """
        selector = selector or Selector()
        scopes = [] if items is None else [frozenset(items)]
        if items is None and selector.by_verdict:
            scopes.append(selector.matching(ws, stage))
        if selector.snapshot is not None and stage is not Stage.ADAPT:  # which takes its shards
            scopes.append(_members(ws, selector.snapshot, stage))
        return cls(Retry(retry), tuple(scopes), selector)

    @property
    def is_plain(self) -> bool:
        """Whether it takes on all that is missing and does nothing again."""
        return self.retry is Retry.MISSING and not self.scopes and not self.selector.by_verdict

    def names(self, item: str, parent: str | None) -> bool:
        """Whether the item is taken on."""
        return all(item in scope or parent in scope for scope in self.scopes)

    def repeats(self, event: StageEvent) -> bool:
        """Whether an item that has this verdict, under the settings and inputs of now, is done again."""
        if self.selector.by_verdict:
            return self.selector.fits(event)
        return self.retry is Retry.ALL or (
            self.retry is Retry.FAILED and event.verdict == Verdict.FAILED.value
        )

    def first(self, items: Sequence[T]) -> list[T]:
        """No more of them than were asked for."""
        return list(items[: self.selector.limit])


class Descent:
    """Which items a run of several stages takes on at each: what it began with, and what came of that."""

    def __init__(
        self, ws: Workspace, items: Iterable[str] | None, selector: Selector | None
    ) -> None:
        self._ws, self._selector = ws, selector or Selector()
        self._items = None if items is None else list(items)
        self._chosen: set[str] = set()

    def at(self, stage: Stage) -> list[str] | None:
        """The items at a stage, to be asked for when it begins, in the order of the stages."""
        if self._items is not None or not self._selector.by_verdict:
            return self._items
        self._chosen |= self._selector.matching(self._ws, stage)
        return sorted(self._chosen)


def _members(ws: Workspace, name: str, stage: Stage) -> frozenset[str]:
    """What a snapshot holds: the videos that its clips were cut from, the clips, the runs on it."""
    snapshot = ws.catalog.load_snapshot(name)
    if stage is Stage.EVALUATE:
        runs = ws.catalog.latest(Stage.ADAPT.value)
        return frozenset(e.item for e in runs if _trained_on(ws, e, name))
    clips = frozenset(clip for part in snapshot.query["clips"].values() for clip in part)
    if stage in (Stage.RECONSTRUCT, Stage.ASSEMBLE):
        return clips
    curated = (ws.catalog.find(clip, Stage.CURATE.value) for clip in clips)
    return frozenset(e.parent or e.item for e in curated if e is not None)


def _trained_on(ws: Workspace, run: StageEvent, name: str) -> bool:
    """Whether a training run took a snapshot's shards, or what was left of them without held-out clips."""
    own = run.details.get("snapshot")
    return bool(own) and name in (own, ws.catalog.load_snapshot(str(own)).parent)


class Waiting(NamedTuple):
    """An item that a stage has still to do: of very many nothing else is kept until it is their turn."""

    item: str
    parent: str | None


@dataclass(frozen=True)
class Plan:
    """Items to work on, in order, and how many of the stage's items are done already.

    ``kept``: items that keep the verdict that they have, since what they take in was dropped; why, in words.
    """

    missing: list[Waiting]
    done: int
    kept: list[str] = field(default_factory=list)


def wanted(
    ws: Workspace,
    item: str,
    stage: Stage,
    config_hash: str,
    input_hash: str,
    selection: Selection,
) -> bool:
    """Whether the catalog holds no verdict on the item under this config and these inputs, or one too few.

    ``config_hash``: of the stage (:meth:`SageConfig.stage_hash`).
    """
    last = done(ws, item, stage.value, config_hash, input_hash)
    return last is None or selection.repeats(last)


def accepted_videos(ws: Workspace) -> list[str]:
    """Items that acquire accepted, sorted."""
    return sorted(e.item for e in ws.catalog.each(Stage.ACQUIRE.value, "accepted"))


def accepted_clips(ws: Workspace) -> list[str]:
    """Clips that the latest curation of an accepted video holds for good, sorted.

    A clip of an earlier curation, cut elsewhere, is in the log still but not here.
    """
    stages = (Stage.ACQUIRE.value, Stage.CURATE.value)
    return list(ws.catalog.remembered("accepted clips", stages, lambda: _accepted_clips(ws)))


def _accepted_clips(ws: Workspace) -> list[str]:
    videos = set(accepted_videos(ws))
    curated = (e for e in ws.catalog.each(Stage.CURATE.value, "accepted") if e.item in videos)
    current = {clip for e in curated for clip in e.details.get("children", [])}
    accepted = ws.catalog.each(Stage.CURATE.value, "accepted")
    return sorted(e.item for e in accepted if e.item in current)


def reconstructed_clips(ws: Workspace) -> list[str]:
    """Current clips with a model that passed the gate, sorted."""
    return _current(ws, Stage.RECONSTRUCT)


def assembled_clips(ws: Workspace) -> list[str]:
    """Current clips whose frames are in a shard, without those that reconstruct rejects by now, sorted."""
    fallen = {e.item for e in ws.catalog.each(Stage.RECONSTRUCT.value, "rejected")}
    return [clip for clip in _current(ws, Stage.ASSEMBLE) if clip not in fallen]


def plan_curate(
    ws: Workspace, config: SageConfig, selection: Selection, *, stored: bool = False
) -> Plan:
    """With ``stored``, for judging what was stored, which takes nothing else."""
    return _plan(ws, Stage.CURATE, accepted_videos, curate_inputs, config, selection, stored)


def plan_reconstruct(
    ws: Workspace, config: SageConfig, selection: Selection, *, stored: bool = False
) -> Plan:
    """With ``stored``, for judging what was stored, which takes nothing else."""
    return _plan(
        ws, Stage.RECONSTRUCT, accepted_clips, reconstruct_inputs, config, selection, stored
    )


def plan_assemble(ws: Workspace, config: SageConfig, selection: Selection) -> Plan:
    return _plan(ws, Stage.ASSEMBLE, reconstructed_clips, assemble_inputs, config, selection)


def _plan(
    ws: Workspace,
    stage: Stage,
    items: Callable[[Workspace], list[str]],
    inputs_of: Callable[[Workspace, str], Inputs],
    config: SageConfig,
    selection: Selection,
    stored: bool = False,
) -> Plan:
    config_hash = config.stage_hash(stage)
    note = noted(ws, f"plan-{stage.value}", stage, config_hash)
    at_rest = selection.is_plain and not stored
    if at_rest and (rest := rest_of(ws, note)):
        return Plan([], *rest)
    missing: list[Waiting] = []
    finished: list[str] = []
    kept: list[str] = []
    with ws.still():
        for item in items(ws):
            inputs = inputs_of(ws, item)
            if not selection.names(item, inputs.parent):
                continue
            if not wanted(ws, item, stage, config_hash, inputs.hash, selection):
                finished.append(item)
            elif not stored and (why := _dropped(ws, stage, inputs)):
                kept.append(f"{item}: {why}")
            else:
                missing.append(Waiting(item, inputs.parent))
    if at_rest and not missing:
        keep_rest(ws, note, stage, finished, kept)
    return Plan(selection.first(missing), len(finished), kept)


def _dropped(ws: Workspace, stage: Stage, inputs: Inputs) -> str | None:
    """Why an item that has a verdict cannot get another one: retention dropped what it takes in."""
    if ws.catalog.find(inputs.item, stage.value) is None:
        return None
    return gone(ws, inputs, on_purpose=True)


def _current(ws: Workspace, stage: Stage) -> list[str]:
    """Accepted at the stage: current clips, and the further parts that reconstruct made of them."""
    stages = (Stage.ACQUIRE.value, Stage.CURATE.value, Stage.RECONSTRUCT.value, stage.value)
    return list(
        ws.catalog.remembered(
            f"current at {stage.value}", stages, lambda: _found_current(ws, stage)
        )
    )


def _found_current(ws: Workspace, stage: Stage) -> list[str]:
    clips = frozenset(accepted_clips(ws))
    current = set(clips)
    for event in ws.catalog.each(Stage.RECONSTRUCT.value):
        if event.item in clips:
            current.update(event.details.get("children", []))
    accepted = ws.catalog.each(stage.value, "accepted")
    return sorted(e.item for e in accepted if e.item in current)
