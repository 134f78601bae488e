"""One stage once more on an item's saved inputs, beside what was stored. Nothing is written to the workspace.

For debugging (what does the stage say of this item now?) and for upgrades (does it still say the same?).
"""

from __future__ import annotations

import math
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from data_catalog import StageEvent, Workspace
from sage_core import __version__
from sage_core.acquisition.obtain import check_again
from sage_core.assembly import assemble_clip
from sage_core.config import SageConfig
from sage_core.errors import SageError
from sage_core.mining import read_curation
from sage_core.sfm import reconstruct
from sage_core.shards.write import clips_name, frames_name, rows_of
from sage_core.types import Clip, Figure, Judgement, Reason, Stage, Verdict
from tasks._compare import columns_differ, files_of, where
from tasks._inputs import Inputs, assemble_inputs, check_present, curate_inputs, reconstruct_inputs
from tasks._unit import judgement_of
from tasks.assemble import clip_inputs
from tasks.curate import ARTIFACTS, measured
from tasks.duplicates import as_curated
from tasks.evaluate import compared, evaluate_inputs, figures_of

_PART = "part"


@dataclass(frozen=True)
class Row:
    """One thing as stored and as the replay gave it; ``difference`` is empty where they are the same."""

    name: str
    stored: Any
    replayed: Any
    difference: str = ""


@dataclass(frozen=True)
class Replayed:
    """A replay of one item.

    Attributes:
        rows: verdict, reason, figures, artifacts, in this order; of a video's clips, too.
        notes: what else may explain a difference: other settings, other inputs, another code version.
    """

    stage: str
    item: str
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        return not any(row.difference for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "same": self.same}


def replay(
    ws: Workspace, stage: Stage, item: str, config: SageConfig, scratch: Path | None = None
) -> Replayed:
    """Run a stage on what an item took in, in a folder of its own under ``scratch``, and compare.

    A clip at curate stands for its video.

    Raises:
        SageError: the item has no verdict at the stage, its inputs are gone, or the stage is adapt, which is
            not replayed; or what the stage itself raises.
    """
    if stage is Stage.ADAPT:
        raise SageError(
            "adapt is not replayed: that is a whole training run. `sage adapt --retry all` does it again",
            reason=Reason.BAD_CONFIG,
        )
    event = ws.catalog.find(item, stage.value)
    if event is None:
        raise SageError(f"{item} has no verdict at {stage.value}", reason=Reason.MISSING_INPUT)
    if stage is Stage.CURATE and event.parent:
        return replay(ws, stage, event.parent, config, scratch)
    with tempfile.TemporaryDirectory(prefix="sage-replay-", dir=scratch) as area:
        rows = list(_REPLAYS[stage](ws, event, config, Path(area)))
    return Replayed(stage.value, item, rows, _notes(event, stage, config))


def sample(ws: Workspace, stage: Stage, number: int, seed: int) -> list[str]:
    """So many items of a stage whose verdict can be replayed, drawn by ``seed``, sorted."""
    events = [e for e in ws.catalog.latest(stage.value) if _can_be(e, stage)]
    return sorted(random.Random(seed).sample([e.item for e in events], min(number, len(events))))


def _can_be(event: StageEvent, stage: Stage) -> bool:
    if stage is Stage.ACQUIRE:
        return "video" in event.artifacts
    if stage is Stage.CURATE and event.parent:
        return False
    return event.verdict != Verdict.FAILED.value and event.reason != Reason.SUPERSEDED.value


def _acquire(ws: Workspace, event: StageEvent, config: SageConfig, area: Path) -> Iterator[Row]:
    """The checks alone, on the stored copy: nothing is fetched."""
    if "video" not in event.artifacts:
        raise SageError(
            f"{event.item} left no copy to check ({event.verdict}: {event.reason})",
            reason=Reason.MISSING_INPUT,
        )
    check_present(ws, Inputs(event.item, event.source, None, event.artifacts))
    info = ws.store.read_json(event.artifacts["info"].path)
    got = check_again(ws.store.fetch(event.artifacts["video"]), info, config.acquire)
    yield from _judgements(judgement_of(event), got.judgement)
    for name, artifact in event.artifacts.items():
        sound = ws.store.verify(artifact, deep=True)
        yield Row(f"{name} as recorded", True, sound, "" if sound else "other bytes")


def _curate(ws: Workspace, event: StageEvent, config: SageConfig, area: Path) -> Iterator[Row]:
    inputs = _present(ws, curate_inputs(ws, event.item))
    source = ws.store.fetch(inputs.artifacts["video"])
    result = measured(source, event.item, config.curate, area)
    curation = read_curation(result)
    yield from _judgements(judgement_of(event), curation.judgement)
    names = [clip.clip.item for clip in curation.clips]
    yield _row("clips", event.details.get("children", []), names)
    for clip in curation.clips:
        stored = ws.catalog.find(clip.clip.item, Stage.CURATE.value)
        if stored is not None:
            before = judgement_of(as_curated(stored))
            yield from _judgements(before, clip.judgement, f"{clip.clip.item} ")
    for file in result["files"]:
        if artifact := event.artifacts.get(ARTIFACTS[file]):
            yield _file(file, ws.store.fetch(artifact), area / file)


def _reconstruct(ws: Workspace, event: StageEvent, config: SageConfig, area: Path) -> Iterator[Row]:
    inputs = _present(ws, reconstruct_inputs(ws, event.item))
    made = {"config_hash": event.config_hash, "input_hash": event.input_hash}
    result = reconstruct(
        Clip.from_json(inputs.details["clip"]),
        ws.store.fetch(inputs.artifacts["video"]),
        area / "model",
        config.reconstruct,
        config.run.seed,
        made,
    )
    yield from _judgements(judgement_of(event), result.judgement)
    if "model" in event.artifacts and result.judgement.verdict is Verdict.ACCEPTED:
        yield from _files(ws.store.fetch(event.artifacts["model"]), area / "model")


def _assemble(ws: Workspace, event: StageEvent, config: SageConfig, area: Path) -> Iterator[Row]:
    """The clip's rows alone: a shard holds others' beside them."""
    inputs = _present(ws, assemble_inputs(ws, event.item))
    clip = clip_inputs(ws, inputs, config)
    made = {**clip.provenance, "config_hash": event.config_hash, "code_version": event.code_version}
    clip = replace(clip, provenance=made)
    judgement = assemble_clip(clip, area, config.assemble, config.run.seed)
    yield from _judgements(judgement_of(event), judgement)
    if not event.artifacts or judgement.verdict is not Verdict.ACCEPTED:
        return
    for kind, name in (("frames", frames_name(_PART)), ("clips", clips_name(_PART))):
        stored = rows_of(ws.store.fetch(event.artifacts[kind]), event.item)
        replayed = rows_of(area / name, event.item)
        differ = columns_differ(stored, replayed)
        yield Row(f"rows in {kind}", stored.num_rows, replayed.num_rows, differ)


def _evaluate(ws: Workspace, event: StageEvent, config: SageConfig, area: Path) -> Iterator[Row]:
    inputs = _present(ws, evaluate_inputs(ws, event.item, config))
    report = compared(ws, inputs, config, area / "evaluation", _frame_lists(ws, area))
    yield from _judgements(judgement_of(event), Judgement.accept(figures_of(report)))


def _frame_lists(ws: Workspace, area: Path) -> Path:
    """A copy of the frame lists that the workspace's evaluations have drawn; more may be drawn into it."""
    lists = area / "tuples"
    if ws.store.exists("evaluations/tuples"):
        shutil.copytree(ws.store.fetch("evaluations/tuples"), lists)
    return lists


_Replay = Callable[[Workspace, StageEvent, SageConfig, Path], Iterator[Row]]
_REPLAYS: dict[Stage, _Replay] = {
    Stage.ACQUIRE: _acquire,
    Stage.CURATE: _curate,
    Stage.RECONSTRUCT: _reconstruct,
    Stage.ASSEMBLE: _assemble,
    Stage.EVALUATE: _evaluate,
}


def _present(ws: Workspace, inputs: Inputs) -> Inputs:
    check_present(ws, inputs)
    return inputs


def _judgements(stored: Judgement, replayed: Judgement, prefix: str = "") -> Iterator[Row]:
    yield _row(f"{prefix}verdict", stored.verdict.value, replayed.verdict.value)
    yield _row(f"{prefix}reason", stored.reason, replayed.reason)
    for name in {**stored.figures, **replayed.figures}:
        values = (_value(j.figures.get(name)) for j in (stored, replayed))
        yield _row(f"{prefix}{name}", *values)


def _value(figure: Figure | None) -> Any:
    """As the catalog keeps it, where what is not finite is a word."""
    value = figure.value if figure else None
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _row(name: str, stored: Any, replayed: Any) -> Row:
    if stored == replayed:
        return Row(name, stored, replayed)
    if isinstance(stored, int | float) and isinstance(replayed, int | float):
        return Row(name, stored, replayed, f"{replayed - stored:+.3g}")
    return Row(name, stored, replayed, "differs")


def _files(stored: Path, replayed: Path) -> Iterator[Row]:
    """Every file of two folders."""
    one, other = files_of(stored), files_of(replayed)
    for name in sorted({*one, *other}):
        if name in one and name in other:
            yield _file(name, one[name], other[name])
        else:
            yield Row(name, name in one, name in other, "only in one")


def _file(name: str, stored: Path, replayed: Path) -> Row:
    sizes = (stored.stat().st_size, replayed.stat().st_size)
    return Row(f"{name}, bytes", *sizes, where(stored, replayed))


def _notes(event: StageEvent, stage: Stage, config: SageConfig) -> list[str]:
    notes = []
    if event.config_hash != config.stage_hash(stage):
        notes.append(
            "it was judged under other settings than these: give them with --config and --set"
        )
    if event.code_version != __version__:
        notes.append(f"it was judged by version {event.code_version}, this is {__version__}")
    if event.details.get("redecided"):
        notes.append("its verdict was re-decided from what was stored; its files are older")
    return notes
