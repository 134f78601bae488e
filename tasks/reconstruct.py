"""reconstruct: a clip becomes a sparse model under ``sfm/<clip>`` and a verdict.

The model is published before its verdict is recorded: a run that is killed in between finds it again,
by the hashes in its ``gate.json``, and maps nothing twice.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog import StoreError, Workspace
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.sfm import judge_again, judgement_from_json, mapped_as, reconstruct
from sage_core.types import Artifact, Clip, Reason, Stage, Verdict
from tasks._inputs import Inputs, check_present, reconstruct_inputs
from tasks._unit import Outcome, brief, judge, judgement_of


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
    try:
        judgement = judge_again(judgement_of(event), config.reconstruct)
    except SageError as error:
        raise _not_redecided(inputs.item, str(error)) from error
    if judgement.verdict is Verdict.ACCEPTED and "model" not in event.artifacts:
        raise _not_redecided(inputs.item, "it would pass now, and rejected clips keep no model")
    return Outcome(judgement, event.artifacts, {**event.details, "redecided": True})


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
    media = ws.store.path(inputs.artifacts["video"].path)
    with ws.store.scratch() as area:
        out = area / "model"
        out.mkdir()
        result = reconstruct(clip, media, out, config.reconstruct, config.run.seed, provenance)
        details = {
            "recipe": result.recipe,
            "mapped_as": mapped_as(config.reconstruct, config.run.seed),
            "attempts": result.attempts,
            "cpu_s": result.cpu_s,
        }
        if result.judgement.verdict is not Verdict.ACCEPTED:
            ws.store.remove(_folder(inputs.item))
            return Outcome(result.judgement, details=details)
        artifact = ws.store.publish(out, _folder(inputs.item))
    return Outcome(result.judgement, _artifacts(artifact), details)


def _published(ws: Workspace, item: str, wanted: dict[str, str]) -> Outcome | None:
    """The outcome of an earlier run with the same settings and inputs, where its model is in place."""
    folder = _folder(item)
    try:
        gate = ws.store.read_json(f"{folder}/gate.json")
    except StoreError:
        return None
    if any(gate.get(name) != value for name, value in wanted.items()):
        return None
    artifact = ws.store.publish(ws.store.path(folder), folder)
    details = {"recipe": gate["recipe"]["name"], "attempts": gate["attempts"]}
    return Outcome(judgement_from_json(gate), _artifacts(artifact), details)


def _folder(item: str) -> str:
    return f"sfm/{item}"


def _artifacts(model: Artifact) -> dict[str, Artifact]:
    return {"model": model}
