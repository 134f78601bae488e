"""curate: a video is measured in a sandboxed child and judged with its clips; or only judged, anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog import Workspace
from sage_core import sandbox
from sage_core.config import SageConfig
from sage_core.config.curate import CurateConfig
from sage_core.errors import SageError
from sage_core.mining import (
    CONTACT_FILE,
    CURATION_FILE,
    FINGERPRINT_FILE,
    THUMBNAILS_FILE,
    check_scores,
    read_curation,
    redecide_file,
)
from sage_core.types import Reason, Stage
from tasks._inputs import Inputs, check_present, curate_inputs
from tasks._unit import ChildOutcome, Outcome, brief, judge

IMPORTS = ("sage_core.mining", "decord")
"""What every video's child needs."""
ARTIFACTS = {
    CURATION_FILE: "curation",
    CONTACT_FILE: "contact",
    THUMBNAILS_FILE: "thumbnails",
    FINGERPRINT_FILE: "fingerprint",
}


@task(name="curate", task_run_name="curate-{item}", cache_policy=NO_CACHE)
def curate_video(workspace: str, item: str, config: SageConfig, run: str) -> dict[str, Any]:
    """Judge one video or photo folder and record its verdict and its clips'."""
    ws = Workspace.open(workspace)
    inputs = curate_inputs(ws, item)
    return _judged(ws, item, inputs, config, run, lambda: _curate(ws, inputs, config.curate))


@task(name="redecide", task_run_name="redecide-{item}", cache_policy=NO_CACHE)
def redecide_video(workspace: str, item: str, config: SageConfig, run: str) -> dict[str, Any]:
    """Judge one source anew from its stored scores, without its file, and record the verdicts.

    Raises:
        SageError: there are no scores of this very source, or not those that would be measured now.
            Nothing is recorded then: the verdict that it has stands.
    """
    ws = Workspace.open(workspace)
    inputs = curate_inputs(ws, item)
    stored = _stored_curation(ws, inputs, config.curate)
    return _judged(
        ws, item, inputs, config, run, lambda: _redecide(ws, item, stored, config.curate)
    )


def _judged(
    ws: Workspace,
    item: str,
    inputs: Inputs,
    config: SageConfig,
    run: str,
    work: Callable[[], Outcome],
) -> dict[str, Any]:
    event = judge(
        ws,
        item=item,
        stage=Stage.CURATE,
        source=inputs.source,
        parent=None,
        config=config,
        input_hash=inputs.hash,
        run=run,
        work=work,
    )
    return brief(event)


def _curate(ws: Workspace, inputs: Inputs, config: CurateConfig) -> Outcome:
    check_present(ws, inputs)
    item, video = inputs.item, ws.store.fetch(inputs.artifacts["video"])
    with ws.store.scratch() as area:
        out = area / "curation"
        out.mkdir()
        return _published(ws, item, out, measured(video, item, config, out))


def measured(source: Path, item: str, config: CurateConfig, out: Path) -> dict[str, Any]:
    """Measure and judge a file or folder of images in a sandboxed child, which fills the folder ``out``."""
    limits = sandbox.Limits(wall_s=config.time_limit_s, memory_mb=config.memory_limit_mb)
    arguments = {
        "path": str(source),
        "kind": "images" if source.is_dir() else "video",
        "config": config.model_dump(mode="json"),
        "out_dir": str(out),
        "item": item,
    }
    result: dict[str, Any] = sandbox.call(
        "sage_core.mining:curate_file", arguments, limits, imports=IMPORTS
    )
    return result


def _redecide(ws: Workspace, item: str, stored: Path, config: CurateConfig) -> Outcome:
    with ws.store.scratch() as area:
        out = area / "curation"
        out.mkdir()
        outcome = _published(ws, item, out, redecide_file(stored, config, out))
    return replace(outcome, details={**outcome.details, "redecided": True})


def _stored_curation(ws: Workspace, inputs: Inputs, config: CurateConfig) -> Path:
    """The folder of the item's last curation, once it is sure that its scores will do."""
    event = ws.catalog.find(inputs.item, Stage.CURATE.value)
    problem = None
    if event is None or "curation" not in event.artifacts:
        problem = "it has no stored scores"
    elif event.input_hash != inputs.hash:
        problem = "its stored scores are of another file"
    elif not ws.store.verify(event.artifacts["curation"], deep=True):
        problem = f"{event.artifacts['curation'].path} is missing or not as recorded"
    if event is None or problem:
        raise SageError(
            f"{inputs.item}: {problem}; curate it from its file", reason=Reason.MISSING_INPUT
        )
    path = event.artifacts["curation"].path
    check_scores(ws.store.read_json(path), config)
    return ws.store.fetch(path.rpartition("/")[0])


def _published(ws: Workspace, item: str, out: Path, result: dict[str, Any]) -> Outcome:
    """The outcome of a curation whose files are in the folder ``out``, in scratch."""
    files = ws.store.publish_folder(out, f"clips/{item}")
    artifacts = {ARTIFACTS[file]: files[file] for file in result["files"]}
    curation = read_curation(result)
    children = [
        ChildOutcome(c.clip.item, c.judgement, {}, {"clip": c.clip.to_json()})
        for c in curation.clips
    ]
    return Outcome(curation.judgement, artifacts, {"shots": curation.shots}, children)
