"""What is missing: the catalog, not the orchestrator, decides what a stage still has to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from data_catalog import Workspace, done
from sage_core.config import SageConfig
from sage_core.types import Stage, Verdict
from tasks._inputs import Inputs, assemble_inputs, curate_inputs, reconstruct_inputs


class Retry(StrEnum):
    """Which finished items are done again."""

    NONE = "none"
    """Only what is missing, or was judged under other settings or other inputs."""
    FAILED = "failed"
    """Also what failed, retryable or not."""
    ALL = "all"
    """Everything that is selected."""


@dataclass(frozen=True)
class Selection:
    """Which items of a stage a run takes on: all, or those named (by item, parent or reason)."""

    retry: Retry = Retry.NONE
    items: frozenset[str] | None = None

    @classmethod
    def of(cls, retry: Retry | str, items: Iterable[str] | None) -> Selection:
        return cls(Retry(retry), None if items is None else frozenset(items))

    def names(self, item: str, parent: str | None) -> bool:
        return self.items is None or item in self.items or parent in self.items


@dataclass(frozen=True)
class Plan:
    """Items to work on, in order, and how many of the stage's items are done already."""

    missing: list[Inputs]
    done: int


def wanted(
    ws: Workspace, item: str, stage: Stage, config: SageConfig, input_hash: str, retry: Retry
) -> bool:
    """Whether the catalog holds no verdict on the item under this config and these inputs."""
    last = done(ws, item, stage.value, config.stage_hash(stage), input_hash)
    if last is None or retry is Retry.ALL:
        return True
    return retry is Retry.FAILED and last.verdict == Verdict.FAILED.value


def accepted_videos(ws: Workspace) -> list[str]:
    """Items that acquire accepted, sorted."""
    return [e.item for e in ws.catalog.latest(Stage.ACQUIRE.value, verdict="accepted")]


def accepted_clips(ws: Workspace) -> list[str]:
    """Clips that the latest curation of an accepted video holds for good, sorted.

    A clip of an earlier curation, cut elsewhere, is in the log still but not here.
    """
    videos = set(accepted_videos(ws))
    curated = ws.catalog.latest(Stage.CURATE.value, verdict="accepted")
    current = {clip for e in curated if e.item in videos for clip in e.details.get("children", [])}
    return sorted(e.item for e in curated if e.item in current)


def reconstructed_clips(ws: Workspace) -> list[str]:
    """Current clips with a model that passed the gate, sorted."""
    return _current(ws, Stage.RECONSTRUCT)


def assembled_clips(ws: Workspace) -> list[str]:
    """Current clips whose frames are in a shard, sorted."""
    return _current(ws, Stage.ASSEMBLE)


def plan_curate(ws: Workspace, config: SageConfig, selection: Selection) -> Plan:
    return _plan(ws, Stage.CURATE, accepted_videos(ws), curate_inputs, config, selection)


def plan_reconstruct(ws: Workspace, config: SageConfig, selection: Selection) -> Plan:
    clips = accepted_clips(ws)
    return _plan(ws, Stage.RECONSTRUCT, clips, reconstruct_inputs, config, selection)


def plan_assemble(ws: Workspace, config: SageConfig, selection: Selection) -> Plan:
    return _plan(ws, Stage.ASSEMBLE, reconstructed_clips(ws), assemble_inputs, config, selection)


def _plan(
    ws: Workspace,
    stage: Stage,
    items: Iterable[str],
    inputs_of: Callable[[Workspace, str], Inputs],
    config: SageConfig,
    selection: Selection,
) -> Plan:
    missing, finished = [], 0
    for item in items:
        inputs = inputs_of(ws, item)
        if not selection.names(item, inputs.parent):
            continue
        if wanted(ws, item, stage, config, inputs.hash, selection.retry):
            missing.append(inputs)
        else:
            finished += 1
    return Plan(missing, finished)


def _current(ws: Workspace, stage: Stage) -> list[str]:
    current = set(accepted_clips(ws))
    events = ws.catalog.latest(stage.value, verdict="accepted")
    return [e.item for e in events if e.item in current]
