"""The sandboxed side of reconstruct: frames, COLMAP, poses in between, files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sage_core.config.reconstruct import ReconstructConfig
from sage_core.errors import SageError
from sage_core.masks import FOLDER, write_masks
from sage_core.sfm.attempt import Attempt, CpuClock, Task, attempt
from sage_core.sfm.backends import recipe_of
from sage_core.sfm.features import CameraGroup
from sage_core.sfm.masking import (
    judged,
    masked_observations,
    masks_after,
    masks_before,
    merged,
    unmasked,
)
from sage_core.sfm.model import SparseModel, frame_name, read_model, write_model
from sage_core.sfm.output import coverage, keep_images, write_frames, write_gate
from sage_core.sfm.photos import camera_groups
from sage_core.sfm.recipes import Recipe
from sage_core.sfm.register import Registration, register_between
from sage_core.types import Clip, Judgement, Verdict
from sage_core.video.frames import read_frames

_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]


def reconstruct(
    clip: dict[str, Any],
    media: str,
    out: str,
    config: dict[str, Any],
    seed: int,
    provenance: dict[str, str],
) -> dict[str, Any]:
    """Reconstruct one clip into the folder ``out``; see :func:`sage_core.sfm.reconstruct`."""
    import pycolmap

    cv2.setNumThreads(1)
    pycolmap.logging.minloglevel = 2
    task = _prepared(
        Clip.from_json(clip), Path(media), Path(out), ReconstructConfig(**config), seed
    )
    recipe = recipe_of(task.config)
    with task.clock.of("masks"):
        task = replace(task, masks=masks_before(task))
    attempts = _attempts(task, recipe)
    best = max(attempts, key=lambda one: (one.accepted, one.registered_share))
    judgement = best.judgement
    if best.accepted:
        judgement = _finish(task, best, attempts, Path(out), provenance)
    shutil.rmtree(task.work)
    return {
        "judgement": judgement.to_json(),
        "recipe": best.recipe.name,
        "attempts": [one.to_json() for one in attempts],
        "cpu_s": task.clock.seconds,
    }


def _prepared(clip: Clip, media: Path, out: Path, config: ReconstructConfig, seed: int) -> Task:
    clock, images, work = CpuClock(), out / "images", out / "work"
    images.mkdir(parents=True)
    work.mkdir()
    frames = sorted({*clip.key_frames, *clip.pose_frames})
    with clock.of("decode"):
        long_side = recipe_of(config).long_side_px
        for frame in read_frames(media, frames, long_side, clip.crop, clip.entry):
            path = images / frame_name(frame.index)
            done, jpeg = cv2.imencode(".jpg", frame.image[..., ::-1], _JPEG)
            assert done
            path.write_bytes(jpeg.tobytes())  # says when the disk is full, which imwrite would not
    cameras = [CameraGroup([frame_name(frame) for frame in clip.key_frames])]
    if not clip.ordered:
        cameras = camera_groups(media, clip.key_frames, images)
    return Task(clip, cameras, images, work, config, seed, clock)


def _attempts(task: Task, recipe: Recipe) -> list[Attempt]:
    """The configured recipe, and finer features where it mapped a good part but fails the gate."""
    first, finer = attempt(task, recipe), recipe.finer()
    if first.accepted or first.registered_share < task.config.retry_from_share or finer is None:
        return [first]
    try:
        return [first, attempt(task, finer)]
    except SageError:  # out of CPU time; the first attempt's verdict stands
        return [first]


def _finish(
    task: Task,
    best: Attempt,
    attempts: list[Attempt],
    out: Path,
    provenance: dict[str, str],
) -> Judgement:
    """Pose the frames in between and write everything; adds their figures to the verdict."""
    model, between = _posed(task, best)
    with task.clock.of("masks"):
        moving = masks_after(task, model)
        task = replace(task, masks=merged(task.masks, moving))
        masked = masked_observations(model, task.masks)
    if moving and masked > task.config.masks.remap_share:
        best, model, between = _mapped_anew(task, best, model, between)
    model = unmasked(model, task.masks)
    figures = {**best.judgement.figures, **coverage(task.clip, model, between)}
    judgement = judged(replace(best.judgement, figures=figures), model, task)
    if judgement.verdict is not Verdict.ACCEPTED:
        return judgement
    with task.clock.of("writing"):
        write_model(model, out / "sparse" / "0")
        write_frames(task.clip, model, between, out / "frames.parquet")
        write_gate(task, best, attempts, judgement, provenance, out / "gate.json")
        keep_images(task.images, model)
        if task.masks:
            posed = {frame.frame for frame in model.frames}
            write_masks(out / FOLDER, {f: mask for f, mask in task.masks.items() if f in posed})
    return judgement


_Posed = tuple[SparseModel, list[Registration]]


def _posed(task: Task, best: Attempt) -> _Posed:
    """The model with every frame that got a pose, and how those in between got theirs."""
    mapped = _as_sparse_model(best.model, task)
    between = _register(task, mapped, best.tried)
    posed = [*mapped.frames, *(r.posed for r in between if r.posed is not None)]
    return replace(mapped, frames=sorted(posed, key=lambda frame: frame.frame)), between


def _mapped_anew(
    task: Task, best: Attempt, model: SparseModel, between: list[Registration]
) -> tuple[Attempt, SparseModel, list[Registration]]:
    """The same recipe without features under the masks, where that passes the gate with as many frames."""
    work = task.work / "unmasked"
    work.mkdir()
    task = replace(task, work=work)
    try:
        again = attempt(task, best.recipe)
    except SageError:  # out of CPU time; the first map stands
        return best, model, between
    if not again.accepted or again.registered_share < best.registered_share:
        return best, model, between
    return again, *_posed(task, again)


def _as_sparse_model(colmap: Any, task: Task) -> SparseModel:
    """COLMAP's model with colours, its point ids renumbered from 1 in their order."""
    folder = task.work / "mapped"
    folder.mkdir()
    colmap.extract_colors_for_all_images(task.images, 1)
    colmap.write_binary(folder)
    model = read_model(folder)
    return replace(model, ids=np.arange(1, len(model.ids) + 1))


def _register(task: Task, mapped: SparseModel, tried: Sequence[int]) -> list[Registration]:
    if not task.clip.ordered:
        return []
    have = {frame.frame for frame in mapped.frames}
    missing = sorted({*task.clip.pose_frames, *task.clip.key_frames} - have)
    with task.clock.of("registering"):
        settings = task.config.register_between
        return register_between(
            mapped, task.images, missing, tried, settings, task.seed, task.masks
        )
