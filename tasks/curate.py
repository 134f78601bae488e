"""curate: an accepted video is measured in a sandboxed child and judged, and its clips with it."""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog import Workspace
from sage_core import sandbox
from sage_core.config import SageConfig
from sage_core.config.curate import CurateConfig
from sage_core.mining import CONTACT_FILE, CURATION_FILE, read_curation
from sage_core.types import Artifact, Stage
from tasks._inputs import curate_inputs
from tasks._unit import ChildOutcome, Outcome, brief, judge


@task(name="curate", task_run_name="curate-{item}", cache_policy=NO_CACHE)
def curate_video(workspace: str, item: str, config: SageConfig, run: str) -> dict[str, Any]:
    """Judge one video or photo folder and record its verdict and its clips'."""
    ws = Workspace.open(workspace)
    inputs = curate_inputs(ws, item)
    event = judge(
        ws,
        item=item,
        stage=Stage.CURATE,
        source=inputs.source,
        parent=None,
        config=config,
        input_hash=inputs.hash,
        run=run,
        work=lambda: _curate(ws, item, inputs.artifacts["video"], config.curate),
    )
    return brief(event)


def _curate(ws: Workspace, item: str, video: Artifact, config: CurateConfig) -> Outcome:
    source = ws.store.path(video.path)
    limits = sandbox.Limits(wall_s=config.time_limit_s, memory_mb=config.memory_limit_mb)
    folder = f"clips/{item}"
    with ws.store.scratch() as area:
        out = area / "curation"
        out.mkdir()
        arguments = {
            "path": str(source),
            "kind": "images" if source.is_dir() else "video",
            "config": config.model_dump(mode="json"),
            "out_dir": str(out),
            "item": item,
        }
        result = sandbox.call("sage_core.mining:curate_file", arguments, limits)
        ws.store.publish(out, folder)
    names = {CURATION_FILE: "curation", CONTACT_FILE: "contact"}
    artifacts = {
        names[file]: ws.store.publish(ws.store.path(f"{folder}/{file}"), f"{folder}/{file}")
        for file in result["files"]
    }
    curation = read_curation(result)
    children = [
        ChildOutcome(c.clip.item, c.judgement, {}, {"clip": c.clip.to_json()})
        for c in curation.clips
    ]
    return Outcome(curation.judgement, artifacts, {"shots": curation.shots}, children)
