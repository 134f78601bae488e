"""From accepted parts to files: poses for the frames in between, masks, a folder each. Child process only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sage_core.errors import SageError
from sage_core.masks import FOLDER, write_masks
from sage_core.sfm.attempt import Attempt, Task, attempt
from sage_core.sfm.judge import Part
from sage_core.sfm.masking import judged, masked_observations, masks_after, merged, unmasked
from sage_core.sfm.model import SparseModel, read_model, write_model
from sage_core.sfm.output import coverage, take_images, write_frames, write_gate
from sage_core.sfm.register import Registration, register_between
from sage_core.sfm.run import PARTS
from sage_core.types import Clip, Judgement


@dataclass(frozen=True)
class Posed:
    """A part, its model with every frame that got a pose, and how those in between got theirs."""

    part: Part
    model: SparseModel
    between: list[Registration]


def finish(
    task: Task,
    best: Attempt,
    attempts: Sequence[Attempt],
    out: Path,
    provenance: dict[str, str],
) -> tuple[Judgement, list[Clip]]:
    """Pose the frames in between and write everything.

    Returns:
        The clip's verdict, and the parts that were kept. The first has the clip's own item and lies in
        ``out``; the others have items after their frames, and lie in ``out/parts/<item>``.
    """
    posed = [_posed(task, part, best.tried) for part in best.parts]
    with task.clock.of("masks"):
        moving = merged(
            {}, {f: m for one in posed for f, m in masks_after(task, one.model).items()}
        )
        task = replace(task, masks=merged(task.masks, moving))
        masked = max(masked_observations(one.model, task.masks) for one in posed)
    if moving and masked > task.config.masks.remap_share:
        best, posed = _mapped_anew(task, best, posed)
    posed = [_judged(task, one) for one in posed]
    kept = [one for one in posed if one.part.accepted]
    if kept:
        with task.clock.of("writing"):
            _write(task, best, attempts, kept, out, provenance)
    return (kept or posed)[0].part.judgement, [one.part.clip for one in kept]


def _posed(task: Task, part: Part, tried: Sequence[int]) -> Posed:
    mapped = _as_sparse_model(part.model, task)
    between = _register(task, part.clip, mapped, tried)
    frames = [*mapped.frames, *(r.posed for r in between if r.posed is not None)]
    model = replace(mapped, frames=sorted(frames, key=lambda frame: frame.frame))
    return Posed(part, model, between)


def _as_sparse_model(colmap: Any, task: Task) -> SparseModel:
    """COLMAP's model with colours, its point ids renumbered from 1 in their order."""
    folder = task.work / "mapped"
    folder.mkdir(exist_ok=True)
    colmap.extract_colors_for_all_images(task.images, 1)
    colmap.write_binary(folder)
    model = read_model(folder)
    return replace(model, ids=np.arange(1, len(model.ids) + 1))


def _register(
    task: Task, clip: Clip, mapped: SparseModel, tried: Sequence[int]
) -> list[Registration]:
    if not clip.ordered:
        return []
    have = {frame.frame for frame in mapped.frames}
    missing = sorted({*clip.pose_frames, *clip.key_frames} - have)
    inside = [frame for frame in tried if clip.start_frame <= frame < clip.end_frame]
    with task.clock.of("registering"):
        settings = task.config.register_between
        return register_between(
            mapped, task.images, missing, inside, settings, task.seed, task.masks
        )


def _mapped_anew(task: Task, best: Attempt, posed: list[Posed]) -> tuple[Attempt, list[Posed]]:
    """The same recipe without features under the masks, where as many frames of it pass the gate."""
    work = task.work / "unmasked"
    work.mkdir()
    task = replace(task, work=work)
    try:
        again = attempt(task, best.recipe)
    except SageError:  # out of CPU time; the first map stands
        return best, posed
    if not again.accepted or again.kept_share < best.kept_share:
        return best, posed
    return again, [_posed(task, part, again.tried) for part in again.parts]


def _judged(task: Task, one: Posed) -> Posed:
    """Without observations under masks, and with the verdict on how much of the pictures these cover."""
    model = unmasked(one.model, task.masks)
    figures = {**one.part.judgement.figures, **coverage(one.part.clip, model, one.between)}
    judgement = judged(replace(one.part.judgement, figures=figures), model, task)
    return replace(one, part=replace(one.part, judgement=judgement), model=model)


def _write(
    task: Task,
    best: Attempt,
    attempts: Sequence[Attempt],
    kept: list[Posed],
    out: Path,
    provenance: dict[str, str],
) -> None:
    """The first part last: of the images it takes what the others have left."""
    further = [one.part.clip for one in kept[1:]]
    for one in kept[::-1]:
        clip, model = one.part.clip, one.model
        first = one is kept[0]
        folder = out if first else out / PARTS / clip.item
        write_model(model, folder / "sparse" / "0")
        write_frames(clip, model, one.between, folder / "frames.parquet")
        write_gate(task, best, attempts, one.part, further if first else [], provenance, folder)
        take_images(task.images, model, folder / "images")
        posed = {frame.frame for frame in model.frames}
        if task.masks:
            write_masks(folder / FOLDER, {f: m for f, m in task.masks.items() if f in posed})
