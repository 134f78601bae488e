"""The sandboxed side of reconstruct: frames, COLMAP, poses in between, files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2

from sage_core.config.reconstruct import ReconstructConfig
from sage_core.errors import SageError
from sage_core.sfm.attempt import Attempt, CpuClock, Task, attempt
from sage_core.sfm.backends import recipe_of
from sage_core.sfm.features import CameraGroup
from sage_core.sfm.finish import finish
from sage_core.sfm.masking import masks_before
from sage_core.sfm.model import frame_name
from sage_core.sfm.photos import camera_groups
from sage_core.sfm.recipes import Recipe
from sage_core.types import Clip
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
    best = max(attempts, key=lambda one: (one.accepted, one.kept_share, one.registered_share))
    judgement, parts = best.judgement, list[dict[str, Any]]()
    if best.accepted:
        judgement, kept = finish(task, best, attempts, Path(out), provenance)
        parts = [clip.to_json() for clip in kept]
    shutil.rmtree(task.work)
    return {
        "judgement": judgement.to_json(),
        "parts": parts,
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
    """The configured recipe, and finer features where it mapped a good part but too little was kept."""
    first, finer = attempt(task, recipe), recipe.finer()
    enough = first.kept_share >= task.config.retry_below_share
    if enough or first.registered_share < task.config.retry_from_share or finer is None:
        return [first]
    try:
        return [first, attempt(task, finer)]
    except SageError:  # out of CPU time; the first attempt's verdict stands
        return [first]
