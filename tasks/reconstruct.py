"""reconstruct: a clip becomes a sparse model under ``sfm/<clip>`` and a verdict.

The model is published before its verdict is recorded: a run that is killed in between finds it again,
by the hashes in its ``gate.json``, and maps nothing twice.
"""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog import StoreError, Workspace
from sage_core.config import SageConfig
from sage_core.sfm import judgement_from_json, reconstruct
from sage_core.types import Artifact, Clip, Stage, Verdict
from tasks._inputs import Inputs, reconstruct_inputs
from tasks._unit import Outcome, brief, judge


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


def _work(ws: Workspace, inputs: Inputs, config: SageConfig) -> Outcome:
    wanted = {
        "config_hash": config.stage_hash(Stage.RECONSTRUCT),
        "input_hash": inputs.hash,
    }
    return _published(ws, inputs.item, wanted) or _reconstructed(ws, inputs, config, wanted)


def _reconstructed(
    ws: Workspace, inputs: Inputs, config: SageConfig, provenance: dict[str, str]
) -> Outcome:
    clip = Clip.from_json(inputs.details["clip"])
    media = ws.store.path(inputs.artifacts["video"].path)
    with ws.store.scratch() as area:
        out = area / "model"
        out.mkdir()
        result = reconstruct(clip, media, out, config.reconstruct, config.run.seed, provenance)
        details = {
            "recipe": result.recipe,
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
