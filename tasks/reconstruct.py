"""reconstruct: a clip becomes a sparse model under ``sfm/<clip>`` and a verdict.

The model is published before its verdict is recorded: a run that is killed in between finds it again,
by the hashes in its ``gate.json``, and maps nothing twice. Where parts of a clip have models of their own,
the largest is the clip's and each further one a child with an item after its frames.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog import StageEvent, StoreError, Workspace
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.sfm import PARTS, judge_again, judgement_from_json, mapped_as, reconstruct
from sage_core.types import Artifact, Clip, Judgement, Reason, Stage, Verdict
from tasks._inputs import Inputs, check_present, reconstruct_inputs
from tasks._unit import ChildOutcome, Outcome, brief, judge, judgement_of


@task(name="reconstruct", task_run_name="reconstruct-{item}", cache_policy=NO_CACHE)
def reconstruct_clip(workspace: str, item: str, config: SageConfig, run: str) -> dict[str, Any]:
    """Map one accepted clip, judge the model, publish it, record the verdict."""
    ws = Workspace.open(workspace)
    inputs = reconstruct_inputs(ws, item)
    event = judge(
        ws,
        item=item,
        stage=Stage.RECONSTRUCT,
        source=inputs.source,
        parent=inputs.parent,
        config=config,
        input_hash=inputs.hash,
        run=run,
        work=lambda: _work(ws, inputs, config),
    )
    return brief(event)


@task(name="redecide", task_run_name="redecide-{item}", cache_policy=NO_CACHE)
def redecide_clip(workspace: str, item: str, config: SageConfig, run: str) -> dict[str, Any]:
    """Put the stored figures of one clip through the gate anew, without its video, and record the verdict.

    A model that falls stays where it is, so that this can be taken back.

    Raises:
        SageError: the clip has no figures under settings that differ in thresholds alone, or would be
            accepted and has no model. Nothing is recorded then: the verdict that it has stands.
    """
    ws = Workspace.open(workspace)
    inputs = reconstruct_inputs(ws, item)
    outcome = _redecided(ws, inputs, config)
    event = judge(
        ws,
        item=item,
        stage=Stage.RECONSTRUCT,
        source=inputs.source,
        parent=inputs.parent,
        config=config,
        input_hash=inputs.hash,
        run=run,
        work=lambda: outcome,
    )
    return brief(event)


def _redecided(ws: Workspace, inputs: Inputs, config: SageConfig) -> Outcome:
    event = ws.catalog.find(inputs.item, Stage.RECONSTRUCT.value)
    problem = None
    if event is None:
        problem = "it was never reconstructed"
    elif event.input_hash != inputs.hash:
        problem = "its figures are of another clip plan or file"
    elif event.details.get("mapped_as") != mapped_as(config.reconstruct, config.run.seed):
        problem = "its figures were measured under settings that differ in more than thresholds"
    if event is None or problem:
        raise _not_redecided(inputs.item, str(problem))
    judgement = _judged_again(event, config)
    parts = [
        ws.catalog.find(part, Stage.RECONSTRUCT.value) for part in event.details.get("children", [])
    ]
    children = [
        ChildOutcome(part.item, _judged_again(part, config), part.artifacts, part.details)
        for part in parts
        if part is not None
    ]
    return Outcome(judgement, event.artifacts, {**event.details, "redecided": True}, children)


def _judged_again(event: StageEvent, config: SageConfig) -> Judgement:
    try:
        judgement = judge_again(judgement_of(event), config.reconstruct)
    except SageError as error:
        raise _not_redecided(event.item, str(error)) from error
    if judgement.verdict is Verdict.ACCEPTED and "model" not in event.artifacts:
        raise _not_redecided(event.item, "it would pass now, and rejected clips keep no model")
    return judgement


def _not_redecided(item: str, why: str) -> SageError:
    return SageError(
        f"{item}: {why}; map it anew: sage reconstruct --item {item}", reason=Reason.MISSING_INPUT
    )


def _work(ws: Workspace, inputs: Inputs, config: SageConfig) -> Outcome:
    wanted = {
        "config_hash": config.stage_hash(Stage.RECONSTRUCT),
        "input_hash": inputs.hash,
    }
    found = _published(ws, inputs.item, wanted)
    if found is not None:
        measured = {"mapped_as": mapped_as(config.reconstruct, config.run.seed)}
        return replace(found, details={**found.details, **measured})
    return _reconstructed(ws, inputs, config, wanted)


def _reconstructed(
    ws: Workspace, inputs: Inputs, config: SageConfig, provenance: dict[str, str]
) -> Outcome:
    check_present(ws, inputs)
    clip = Clip.from_json(inputs.details["clip"])
    media = ws.store.fetch(inputs.artifacts["video"])
    with ws.store.scratch() as area:
        out = area / "model"
        out.mkdir()
        result = reconstruct(clip, media, out, config.reconstruct, config.run.seed, provenance)
        measured = {"mapped_as": mapped_as(config.reconstruct, config.run.seed)}
        _remove_earlier(ws, inputs.item)
        if result.judgement.verdict is not Verdict.ACCEPTED:
            details = {"recipe": result.recipe, "attempts": result.attempts, "cpu_s": result.cpu_s}
            return Outcome(result.judgement, details=details | measured)
        models = [
            ws.store.publish(out / PARTS / part.item, _folder(part.item))
            for part in result.parts[1:]
        ]
        shutil.rmtree(out / PARTS, ignore_errors=True)
        models.append(ws.store.publish(out, _folder(inputs.item)))  # last: it names the others
    outcome = _published(ws, inputs.item, provenance, models)
    assert outcome is not None, "it has just been published"
    return replace(outcome, details={**outcome.details, **measured, "cpu_s": result.cpu_s})


def _remove_earlier(ws: Workspace, item: str) -> None:
    """The models of an earlier verdict, of which there may have been other parts."""
    earlier = ws.catalog.find(item, Stage.RECONSTRUCT.value)
    parts = earlier.details.get("children", []) if earlier else []
    for old in [*parts, item]:
        ws.store.remove(_folder(old))


def _published(
    ws: Workspace, item: str, wanted: dict[str, str], models: Sequence[Artifact] = ()
) -> Outcome | None:
    """The outcome of a run with these settings and inputs, where its models are in place.

    ``models`` are those that have just been put there: they need not be read again.
    """
    known = {model.path: model for model in models}
    gate = _gate(ws, item, wanted)
    if gate is None:
        return None
    further = [_gate(ws, part, wanted) for part in gate["further"]]
    children = [_part(ws, part, known) for part in further if part is not None]
    if len(children) < len(further):
        return None
    whole = _part(ws, gate, known)
    details = {"recipe": gate["recipe"]["name"], "attempts": gate["attempts"], **whole.details}
    return Outcome(whole.judgement, whole.artifacts, details, children)


def _gate(ws: Workspace, item: str, wanted: dict[str, str]) -> dict[str, Any] | None:
    """``gate.json`` of a model, where it was made with these hashes."""
    try:
        gate: dict[str, Any] = ws.store.read_json(f"{_folder(item)}/gate.json")
    except StoreError:
        return None
    return gate if all(gate.get(name) == value for name, value in wanted.items()) else None


def _part(ws: Workspace, gate: dict[str, Any], known: Mapping[str, Artifact]) -> ChildOutcome:
    """A published model with its verdict, and the frames that it stands for."""
    folder = _folder(gate["clip"])
    artifacts = {"model": known.get(folder) or ws.store.settle(folder)}
    details = {"clip": gate["part"]}
    return ChildOutcome(gate["clip"], judgement_from_json(gate), artifacts, details)


def _folder(item: str) -> str:
    return f"sfm/{item}"
