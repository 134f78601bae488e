"""evaluate: an adapted model beside its base, on labelled tuples and held-out clips; a verdict on the run.

The models run in a child process (:mod:`sage_core.evaluation.compare`); nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog import Workspace
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.sandbox import Limits, call
from sage_core.types import Artifact, Figure, Judgement, Reason, Stage, Verdict
from tasks._inputs import Inputs
from tasks._plan import assembled_clips
from tasks._unit import Outcome, brief, judge

_BASE, _ADAPTED = "base", "adapted"
_SHOWN = ("cd", "nd", "dac@0.2", "dac@0.5", "anchor_error", "target_psnr", "target_ssim")


def evaluate_inputs(ws: Workspace, run_item: str, config: SageConfig) -> Inputs:
    """A finished run's weights, and the shards of the clips that it never saw.

    Raises:
        SageError: the run has not been accepted.
    """
    adapted = ws.catalog.find(run_item, Stage.ADAPT.value)
    if adapted is None or adapted.verdict != Verdict.ACCEPTED.value:
        raise SageError(
            f"{run_item} is no finished run: run `sage adapt` first", reason=Reason.MISSING_INPUT
        )
    artifacts = {"checkpoint": adapted.artifacts["checkpoint"]}
    held_out: dict[str, list[str]] = {}
    for clip in assembled_clips(ws):
        event = ws.catalog.find(clip, Stage.ASSEMBLE.value)
        if event is not None and config.adapt.holds_out(clip, event.parent or clip, event.source):
            frames = event.artifacts["frames"]
            held_out.setdefault(frames.path, []).append(clip)
            artifacts[frames.path] = frames
    base = adapted.details.get("base")
    details = {"base": base, "held_out": held_out, "clip": _data_fingerprint(config, held_out)}
    return Inputs(run_item, adapted.source, None, artifacts, details)


@task(name="evaluate", task_run_name="evaluate {run_item}", cache_policy=NO_CACHE)
def evaluate_run(workspace: str, run_item: str, config: SageConfig, run: str) -> dict[str, Any]:
    """Evaluate one adapted model against its base and record the verdict."""
    ws = Workspace.open(workspace)
    inputs = evaluate_inputs(ws, run_item, config)
    event = judge(
        ws,
        item=run_item,
        stage=Stage.EVALUATE,
        source=inputs.source,
        parent=None,
        config=config,
        input_hash=inputs.hash,
        run=run,
        work=lambda: _work(ws, inputs, config),
    )
    return brief(event)


def _work(ws: Workspace, inputs: Inputs, config: SageConfig) -> Outcome:
    folder = f"evaluations/{inputs.item}"
    with ws.store.scratch() as area, ws.store.working("evaluations/tuples") as lists:
        out = area / "evaluation"
        report = compared(ws, inputs, config, out, lists.path)
        artifacts = {"metrics": ws.store.publish(out, folder)}
    details = {"folder": folder, "pictures": report["pictures"], "sets": _sets(report)}
    return Outcome(Judgement.accept(figures_of(report)), artifacts, details)


def compared(
    ws: Workspace, inputs: Inputs, config: SageConfig, out: Path, lists: Path
) -> dict[str, Any]:
    """Base and adapted model side by side, in a child that fills ``out``; ``lists`` keeps the frame lists."""
    limits = Limits(
        wall_s=60 * config.evaluate.wall_minutes,
        memory_mb=config.evaluate.memory_mb,
        threads=config.evaluate.threads,
    )
    job = {**_job(ws, inputs, config), "out": str(out), "lists": str(lists)}
    report: dict[str, Any] = call("sage_core.evaluation.compare:compare_json", {"job": job}, limits)
    return report


def _job(ws: Workspace, inputs: Inputs, config: SageConfig) -> dict[str, Any]:
    checkpoint: Artifact = inputs.artifacts["checkpoint"]
    return {
        "models": {
            _BASE: inputs.details["base"] or config.adapt.base,
            _ADAPTED: str(ws.store.fetch(checkpoint)),
        },
        # Not by the place that it has on this machine, which of a workspace at a URL is in its cache.
        "called": {_ADAPTED: "/".join(checkpoint.path.split("/")[-2:])},
        "config": config.evaluate.model_dump(mode="json"),
        "sampling": config.adapt.sampling.model_dump(mode="json"),
        "rendering": config.adapt.rendering.model_dump(mode="json"),
        "held_out": [
            {"path": str(_shard(ws, clips[0])), "clips": clips}
            for _, clips in sorted(inputs.details["held_out"].items())
        ],
        "seed": config.run.seed,
    }


def _shard(ws: Workspace, clip: str) -> Path:
    """The frames file of the clip's shard, with the clips file beside it."""
    event = ws.catalog.find(clip, Stage.ASSEMBLE.value)
    assert event is not None, "evaluate_inputs has found it"
    return ws.store.fetch(event.artifacts["frames"], event.artifacts["clips"])


def _sets(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Each part of the report without its rows: small enough for the catalog."""
    parts = [*report["sets"], *([report["held_out"]] if report["held_out"] else [])]
    return [{key: value for key, value in part.items() if key != "rows"} for part in parts]


def figures_of(report: dict[str, Any]) -> dict[str, Figure]:
    """Each set's means of the metrics that people look at, by model."""
    return {
        f"{part['name']} {metric} {model}": Figure(round(mean[metric], 5))
        for part in _sets(report)
        for metric in _SHOWN
        for model, mean in part["mean"].items()
        if metric in mean
    }


def _data_fingerprint(config: SageConfig, held_out: dict[str, list[str]]) -> str:
    """Names and sizes of the data sets' files, and which clips are held out: they decide the result too."""
    lines = [f"{path}:{','.join(clips)}" for path, clips in sorted(held_out.items())]
    for root in config.evaluate.rgbd:
        files = sorted(p for p in Path(root).rglob("*") if p.is_file())
        lines += [f"{p} {p.stat().st_size}" for p in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
