"""assemble: a group of reconstructed clips becomes one shard, and each clip gets its verdict.

The verdicts are recorded together, after the shard is in place: a run that is killed before that does
the same group again and writes the same bytes under the same name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_catalog import StageEvent, Workspace
from sage_core import __version__
from sage_core.assembly import ClipInputs, assemble_clip, join_clips, shard_name
from sage_core.config import SageConfig
from sage_core.types import Clip, Judgement, Stage, Verdict
from tasks._inputs import Inputs, assemble_inputs, check_present
from tasks._unit import Attempt, Outcome, Subject, attempt, brief, record

_STAGE = Stage.ASSEMBLE
_SITE_FACTS = (
    *("title", "uploader", "uploader_id", "channel", "channel_id", "license", "upload_date"),
    *("extractor", "format", "webpage_url"),
)


@task(name="assemble", cache_policy=NO_CACHE)
def assemble_shard(
    workspace: str, clips: Sequence[str], config: SageConfig, run: str
) -> list[dict[str, Any]]:
    """Assemble these clips into one shard and record a verdict on each; one brief result a clip."""
    ws = Workspace.open(workspace)
    with ws.catalog.still():
        inputs = [assemble_inputs(ws, clip) for clip in clips]
    with ws.store.scratch() as area:
        done = [_attempt_clip(ws, one, area / one.item, config) for one in inputs]
        done = _with_shard(ws, inputs, done, area, config)
    subjects = [Subject(i.item, i.source, i.parent, i.hash) for i in inputs]
    events = record(
        ws, list(zip(subjects, done, strict=True)), stage=_STAGE, config=config, run=run
    )
    return [brief(event) for event in events]


def _attempt_clip(ws: Workspace, inputs: Inputs, part: Path, config: SageConfig) -> Attempt:
    def work() -> Outcome:
        check_present(ws, inputs)
        part.mkdir()
        clip = clip_inputs(ws, inputs, config)
        return Outcome(assemble_clip(clip, part, config.assemble, config.run.seed))

    return attempt(inputs.item, _STAGE, work)


def clip_inputs(ws: Workspace, inputs: Inputs, config: SageConfig) -> ClipInputs:
    """What a clip's rows are made from."""
    clip = Clip.from_json(inputs.details["clip"])
    video = _event(ws, clip.video, Stage.ACQUIRE)
    return ClipInputs(
        clip=clip,
        media=ws.store.fetch(inputs.artifacts["video"]),
        model=ws.store.fetch(inputs.artifacts["model"]),
        source=inputs.source,
        figures=_event(ws, clip.item, Stage.RECONSTRUCT).figures,
        provenance={
            "config_hash": config.stage_hash(_STAGE),
            "code_version": __version__,
            "start_s": clip.start_s,
            "end_s": clip.end_s,
            **{name: artifact.sha256 for name, artifact in inputs.artifacts.items()},
            **{name: video.details[name] for name in _SITE_FACTS if name in video.details},
        },
    )


def _event(ws: Workspace, item: str, stage: Stage) -> StageEvent:
    event = ws.catalog.find(item, stage.value)
    assert event is not None, "assemble_inputs has found it accepted"
    return event


def _with_shard(
    ws: Workspace,
    inputs: Sequence[Inputs],
    done: list[Attempt],
    area: Path,
    config: SageConfig,
) -> list[Attempt]:
    """The attempts, with the shard's files at those that were accepted; or with what befell the shard."""
    good = [i.item for i, a in zip(inputs, done, strict=True) if _accepted(a)]
    if not good:
        return done
    name = shard_name({i.item: i.hash for i in inputs}, config.stage_hash(_STAGE))
    shard = attempt(name, _STAGE, lambda: _publish(ws, [area / item for item in good], area, name))
    return [_joined(one, shard) if _accepted(one) else one for one in done]


def _publish(ws: Workspace, parts: Sequence[Path], area: Path, name: str) -> Outcome:
    files = join_clips(parts, area / "shard", name)
    frames, clips = (ws.store.publish(file, f"shards/{file.name}") for file in files)
    return Outcome(Judgement.accept(), {"frames": frames, "clips": clips})


def _joined(clip: Attempt, shard: Attempt) -> Attempt:
    if not _accepted(shard):
        return replace(clip, outcome=shard.outcome)
    return replace(clip, outcome=replace(clip.outcome, artifacts=shard.outcome.artifacts))


def _accepted(one: Attempt) -> bool:
    return one.outcome.judgement.verdict is Verdict.ACCEPTED
