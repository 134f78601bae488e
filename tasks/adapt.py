"""adapt: the current shards become a run folder with adapted weights, and a verdict on the run.

The trainer is a child process (:mod:`sage_core.training`); nothing here imports torch. A run's id follows
from settings, shards and base weights, so the same command finds the same folder again: a run that was
killed goes on from its newest checkpoint, a finished one is only judged.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE

from data_catalog import (
    CatalogError,
    Note,
    Snapshot,
    StageEvent,
    StoreError,
    WorkingFolder,
    Workspace,
)
from sage_core.config import SageConfig
from sage_core.errors import TrainingError
from sage_core.hub import sha256_of, weights_path
from sage_core.sandbox import Limits, call
from sage_core.training import Launched, MinedClip, TrainSettings, launch, mixed
from sage_core.training.difficulties import known_difficulties
from sage_core.types import Artifact, Figure, Judgement, Reason, Stage
from tasks._plan import assembled_clips
from tasks._rest import noted
from tasks._unit import Outcome, brief, judge
from tasks.freeze import freeze
from tasks.latest import Promoted, latest, trained_clips

OnStep = Callable[[dict[str, Any]], None]
logger = logging.getLogger("sage.tasks")
_PLAN_LIMITS = Limits(wall_s=600, memory_mb=16_384)
_TIMED_LIMITS = Limits(wall_s=7200, memory_mb=2**20, threads=os.cpu_count() or 1)
"""Real steps take what they take: the trainer itself has no limits either."""


@dataclass(frozen=True)
class RunInputs:
    """What a training run takes in, and the name that follows from it.

    Attributes:
        item: id of the run: "r" and sixteen hex digits.
        snapshot: id of the frozen list of shards, or empty where there are none.
        parts: the shards' frames files, relative to the workspace, with the clips drawn from.
        hash: over shards, clips, base weights and difficulties.
        origins: what ``adapt.mixing.sources`` tells clips by: video and source, by clip.
        difficulties: by clip, if ``adapt.mixing`` asks for them.
        base: what the run begins from: ``adapt.base``, or the weights that are ``latest``.
        new_clips: how many clips ``latest`` was not trained on.
    """

    item: str
    snapshot: str
    parts: dict[str, list[str]]
    hash: str
    origins: dict[str, tuple[str, str]] = field(default_factory=dict)
    difficulties: dict[str, float | None] | None = None
    base: str = ""
    new_clips: int = 0


def adapt_inputs(ws: Workspace, config: SageConfig, snapshot: str | None = None) -> RunInputs:
    """The current clips that are not held out, frozen; or those of an older ``snapshot`` (its id).

    A run is known by what it learns from: the same clips in the same shards, the same weights to begin from.

    Raises:
        CheckpointError: the base weights are not there.
        ConfigError: difficulties are asked for that are not there.
        CatalogError: there is no such snapshot, or a shard of it is not as it was.
    """
    with ws.still():
        chosen = _current_shards(ws) if snapshot is None else _frozen_shards(ws, snapshot)
    chosen = {clip: event for clip, event in chosen.items() if not _held_out(config, event)}
    parts: dict[str, list[str]] = {}
    shards: dict[str, Artifact] = {}
    for clip, event in sorted(chosen.items()):
        made = event.artifacts
        parts.setdefault(made["frames"].path, []).append(clip)
        shards |= {made[name].path: made[name] for name in ("frames", "clips")}
    origins = {clip: (event.parent or clip, event.source) for clip, event in chosen.items()}
    files = list(shards.values())
    frozen = _freeze(ws, parts, files, snapshot or freeze(ws))
    promoted = latest(ws)
    base = _base(ws, config, promoted)
    contents = [sha256_of(weights_path(base))]
    known = known_difficulties(_mined(ws, parts, origins), config.adapt, config.run.seed)
    difficulties = None if known is None else dict(known)
    if difficulties is not None:
        contents.append(json.dumps(difficulties))
    inputs = _hash(_identity(parts, files), *contents)
    item = "r" + _hash(inputs, config.stage_hash(Stage.ADAPT))
    seen = trained_clips(ws, promoted) if promoted else frozenset()
    new = len(chosen.keys() - seen)
    return RunInputs(item, frozen, parts, inputs, origins, difficulties, base, new)


def run_note(ws: Workspace, config: SageConfig, snapshot: str | None) -> Note:
    """The note of the run that :func:`adapt_inputs` names.

    Difficulties and held-out names are looked up each time, so with them nothing is found in it.

    Raises:
        CheckpointError: the base weights are not there.
    """
    if config.adapt.mixing.difficulty is not None or config.adapt.held_out:
        return Note.blank()
    promoted = latest(ws)
    base = sha256_of(weights_path(_base(ws, config, promoted)))
    adapt = config.adapt.model_dump(mode="json")
    given = [snapshot, adapt, config.stage_hash(Stage.ADAPT), base, promoted and asdict(promoted)]
    return noted(ws, "adapt", Stage.ASSEMBLE, given)


def _base(ws: Workspace, config: SageConfig, promoted: Promoted | None) -> str:
    if config.adapt.start == "base" or promoted is None:
        return config.adapt.base
    return str(ws.store.fetch(promoted.weights))


def too_few_new(inputs: RunInputs, ws: Workspace, config: SageConfig) -> str | None:
    """Why no run begins yet: fewer new clips than wanted; None if there are enough."""
    promoted = latest(ws)
    wanted = config.adapt.min_new_clips
    if promoted is not None and config.adapt.start == "latest":
        wanted = max(1, wanted)  # or every night would train on what the last one made
    if not inputs.parts or inputs.new_clips >= wanted:
        return None
    since = f"since latest ({promoted.run})" if promoted else "in all"
    return f"{inputs.new_clips} new clips {since}, and adapt.min_new_clips wants {wanted}"


def _current_shards(ws: Workspace) -> dict[str, StageEvent]:
    """The event that put each current clip into its shard."""
    with ws.catalog.still():
        found = [
            (clip, ws.catalog.find(clip, Stage.ASSEMBLE.value)) for clip in assembled_clips(ws)
        ]
    return {clip: event for clip, event in found if event is not None}


def _frozen_shards(ws: Workspace, name: str) -> dict[str, StageEvent]:
    """The events of a snapshot's clips, with the shards that hold them there; those are read through."""
    snapshot = ws.catalog.load_snapshot(name)
    by_path = {shard.path: shard for shard in snapshot.shards}
    current = {a for e in _current_shards(ws).values() for a in e.artifacts.values()}
    for shard in snapshot.shards:
        # What the catalog names today is checked as it always is; read through is what it names no more.
        if not ws.store.verify(shard, deep=shard not in current):
            raise StoreError(
                f"{shard.path} of snapshot {name} is not there as it was frozen: it cannot be trained on "
                "again"
            )
    found = {}
    for path, clips in snapshot.query["clips"].items():
        files = {"frames": by_path[path], "clips": by_path[_clips_file(path)]}
        for clip in clips:
            event = ws.catalog.find(clip, Stage.ASSEMBLE.value)
            if event is None:
                raise StoreError(f"the catalog knows no clip {clip}, which is in snapshot {name}")
            found[clip] = replace(event, artifacts=files)
    return found


def _clips_file(frames: str) -> str:
    folder, _, name = frames.rpartition("/")
    return f"{folder}/clips-{name.removeprefix('frames-')}"


def _held_out(config: SageConfig, event: StageEvent) -> bool:
    return config.adapt.holds_out(event.item, event.parent or event.item, event.source)


def _freeze(
    ws: Workspace, parts: dict[str, list[str]], shards: list[Artifact], older: str | None
) -> str:
    """The id of the list of shards: the older snapshot's, if these are all of its clips."""
    if not shards:
        return ""
    query: dict[str, object] = {"stage": Stage.ASSEMBLE.value, "clips": parts}
    if older is not None and ws.catalog.load_snapshot(older).query == query:
        return older
    return ws.catalog.snapshot(shards, query, older).id


def _identity(parts: dict[str, list[str]], shards: list[Artifact]) -> str:
    """The list of shards by content: not by what else the night's snapshot held, kept out of training."""
    if not shards:
        return ""
    return Snapshot.of(shards, {"stage": Stage.ASSEMBLE.value, "clips": parts}, None).id


def _mined(
    ws: Workspace, parts: dict[str, list[str]], origins: dict[str, tuple[str, str]]
) -> list[MinedClip]:
    return [
        MinedClip(clip, str(ws.root / path), origins.get(clip, ()))
        for path, members in parts.items()
        for clip in members
    ]


def absent_held_out(ws: Workspace, config: SageConfig) -> list[str]:
    """The names in ``adapt.held_out`` that no clip in a shard goes by: most likely slips."""
    if not config.adapt.held_out:
        return []
    events = _current_shards(ws).values()
    known = [(e.item, e.parent or e.item, e.source) for e in events]
    single = [
        config.adapt.model_copy(update={"held_out": (n,), "held_out_share": 0.0})
        for n in config.adapt.held_out
    ]
    return [one.held_out[0] for one in single if not any(one.holds_out(*names) for names in known)]


@task(name="adapt", task_run_name="adapt {inputs.item}", cache_policy=NO_CACHE)
def adapt_model(
    workspace: str,
    inputs: RunInputs,
    config: SageConfig,
    run: str,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Train the run, or go on with it, and record its verdict; ``on_step`` is given each metrics line."""
    ws = Workspace.open(workspace)
    return brief(judged_run(ws, inputs, config, run, _teller(on_step)))


def train_settings(
    ws: Workspace, inputs: RunInputs, config: SageConfig, out: Path | None = None
) -> TrainSettings:
    """The trainer's settings for these inputs in this workspace; ``out`` is where it keeps its folder.

    Raises:
        ConfigError: ``adapt.mixing`` does not fit the clips.
        StoreError: a shard of a workspace at a URL is missing or not as recorded.
    """
    clips = _fetched(ws, inputs)
    return TrainSettings(
        adapt=config.adapt.model_copy(update={"base": inputs.base or config.adapt.base}),
        datasets=mixed(clips, config.adapt.mixing, inputs.difficulties),
        out=str(out or ws.root / "runs" / inputs.item),
        seed=config.run.seed,
        inputs=inputs.hash,
    )


def dry_run(workspace: str, config: SageConfig, timed_steps: int = 0) -> dict[str, Any]:
    """What the run would take (:class:`sage_core.training.plan.Plan` as JSON), found out in a child process.

    With ``timed_steps`` so many micro-batches are trained for their time, and thrown away.

    Raises:
        SageError: what would keep the run from starting.
    """
    ws = Workspace.open(workspace)
    settings = train_settings(ws, adapt_inputs(ws, config), config)
    arguments = {"settings": settings.model_dump(mode="json"), "timed_steps": timed_steps}
    limits = _TIMED_LIMITS if timed_steps else _PLAN_LIMITS
    result: dict[str, Any] = call("sage_core.training.plan:plan_json", arguments, limits)
    return result


def judged_run(
    ws: Workspace, inputs: RunInputs, config: SageConfig, run: str, on_step: OnStep
) -> StageEvent:
    """Train the run, or go on with it, and append its verdict to the catalog."""

    def work() -> Outcome:
        if not inputs.parts:
            raise TrainingError(
                "no clip is in a shard yet that is not held out: run `sage assemble` first, or give more "
                "sources",
                reason=Reason.NO_DATA,
            )
        with ws.store.working(f"runs/{inputs.item}") as folder:
            settings = train_settings(ws, inputs, config, folder.path)
            keep = _keeper(folder, on_step)
            launched = launch(settings, wall_s=config.adapt.wall_hours * 3600, on_step=keep)
        return _outcome(ws, inputs, launched)

    return judge(
        ws,
        item=inputs.item,
        stage=Stage.ADAPT,
        source=inputs.base or config.adapt.base,
        parent=None,
        config=config,
        input_hash=inputs.hash,
        run=run,
        work=work,
    )


def _outcome(ws: Workspace, inputs: RunInputs, launched: Launched) -> Outcome:
    result, folder = launched.result, f"runs/{inputs.item}"
    artifacts = {
        "checkpoint": ws.store.settle(f"{folder}/{launched.weights.name}"),
        "metrics": ws.store.settle(f"{folder}/{launched.losses.name}"),
    }
    names = ("steps", "video_samples", "labelled_samples", "trained_parameters")
    figures = {name: Figure(result[name]) for name in names}
    figures["skipped_steps"] = Figure(len(result["skipped"]))
    for term, ends in result["losses"].items():
        figures |= {f"{term}_{end}": Figure(round(value, 6)) for end, value in ends.items()}
    details = {"snapshot": inputs.snapshot, "base": result["base"], "folder": folder}
    return Outcome(Judgement.accept(figures), artifacts, details)


def _fetched(ws: Workspace, inputs: RunInputs) -> list[MinedClip]:
    """The clips with their shards on this machine's disk, where the trainer reads them."""
    if not ws.url:
        return _mined(ws, inputs.parts, inputs.origins)
    shards = {shard.path: shard for shard in ws.catalog.load_snapshot(inputs.snapshot).shards}
    return [
        MinedClip(clip, str(file), inputs.origins.get(clip, ()))
        for path, members in inputs.parts.items()
        for file in [ws.store.fetch(shards[path], shards[_clips_file(path)])]
        for clip in members
    ]


def _keeper(folder: WorkingFolder, on_step: OnStep) -> OnStep:
    """Keep the run's folder whenever it has a new checkpoint: another host may have to go on."""
    kept: Path | None = None

    def keep(line: dict[str, Any]) -> None:
        nonlocal kept
        newest = max(folder.path.glob("checkpoints/step_*"), default=None)
        if newest != kept:
            try:
                folder.save()
                kept = newest
            except CatalogError:
                logger.warning(
                    "the run's folder could not be kept; at the next step again", exc_info=True
                )
        on_step(line)

    return keep


def _teller(on_step: OnStep | None) -> OnStep:
    """Pass each step on to the Prefect UI (a progress artifact, every two percent) and to ``on_step``."""
    artifact = create_progress_artifact(progress=0.0, key="adapt-training")
    assert isinstance(artifact, UUID)
    shown = 0.0

    def tell(line: dict[str, Any]) -> None:
        nonlocal shown
        share = 100.0 * (line["step"] + 1) / line["steps"]
        if share - shown >= 2.0 or share == 100.0:
            shown = share
            try:
                update_progress_artifact(artifact, progress=share)
            except Exception:
                logger.warning("the Prefect server does not take the run's progress", exc_info=True)
        if on_step is not None:
            on_step(line)

    return tell


def _hash(*parts: str) -> str:
    return hashlib.sha256(":".join(parts).encode()).hexdigest()[:16]
