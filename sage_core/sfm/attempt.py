"""One recipe on one clip, from features to the gate's verdict. Child process only."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sage_core.config.reconstruct import ReconstructConfig
from sage_core.errors import SandboxError
from sage_core.masks import resized
from sage_core.sfm import features, figures, mapping, matching
from sage_core.sfm.features import CameraGroup, Workbench
from sage_core.sfm.gate import PairFigures, judge_model, judge_pairs, judge_unfinished
from sage_core.sfm.judge import Judge, Part
from sage_core.sfm.model import frame_name, frame_of
from sage_core.sfm.parts import split_models
from sage_core.sfm.recipes import Recipe
from sage_core.types import Clip, Figure, Judgement, Verdict


@dataclass
class CpuClock:
    """CPU seconds of this process by what they went into."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        started = time.process_time()
        try:
            yield
        finally:
            used = time.process_time() - started
            self.seconds[part] = round(self.seconds.get(part, 0.0) + used, 3)


@dataclass(frozen=True)
class Task:
    """What is to be reconstructed, and where. ``images`` holds the frames, ``work`` may be filled.

    ``masks``: bool [h, w] by source frame, of any size, on what gets no features.
    """

    clip: Clip
    cameras: list[CameraGroup]
    images: Path
    work: Path
    config: ReconstructConfig
    seed: int
    clock: CpuClock
    masks: Mapping[int, NDArray[np.bool_]] = field(default_factory=dict)


@dataclass(frozen=True)
class Attempt:
    """What one recipe gave.

    Attributes:
        judgement: on the largest accepted part, or on the largest where none was accepted.
        parts: those that were accepted, largest first.
        tried: source indices of every frame given to COLMAP, sorted.
        registered_share: of the clip's own key frames in COLMAP's largest sub-model; 0 where nothing was
            mapped.
        kept_share: of the clip's own key frames in accepted parts.
    """

    recipe: Recipe
    judgement: Judgement
    parts: list[Part]
    tried: list[int]
    registered_share: float = 0.0
    kept_share: float = 0.0

    @property
    def accepted(self) -> bool:
        return bool(self.parts)

    def to_json(self) -> dict[str, Any]:
        """What is kept of it: the recipe's name, the verdict and why, and how much it mapped."""
        return {
            "recipe": self.recipe.name,
            "verdict": self.judgement.verdict.value,
            "message": self.judgement.message,
            "registered_share": self.registered_share,
            "kept_share": self.kept_share,
        }


def attempt(task: Task, recipe: Recipe) -> Attempt:
    """Match, judge the pairs, map, add key frames where some were lost, judge the model.

    Raises:
        SandboxError: out of CPU time before there was anything to judge by.
    """
    folder = task.work / recipe.name
    folder.mkdir(parents=True)
    bench = Workbench(task.images, folder, recipe, task.seed, _colmap_masks(task, folder / "masks"))
    keys = sorted(task.clip.key_frames)
    pairs = _match_keys(task, bench)
    judgement = judge_pairs(pairs, task.config.gate)
    if judgement.verdict is not Verdict.ACCEPTED:
        return Attempt(recipe, judgement, [], keys)
    try:
        models, tried = _map(task, bench, keys)
    except SandboxError:
        unfinished = judge_unfinished(pairs, task.config.gate)
        if unfinished is None:
            raise
        return Attempt(recipe, unfinished, [], keys)
    return _judged(task, bench, pairs, models, tried)


def _colmap_masks(task: Task, folder: Path) -> Path | None:
    """COLMAP's masks at the images' size: 0 on what gets no features."""
    if not task.masks:
        return None
    folder.mkdir()
    for frame, mask in task.masks.items():
        name = frame_name(frame)
        image = np.asarray(cv2.imread(str(task.images / name), cv2.IMREAD_GRAYSCALE))
        free = ~resized(mask, (image.shape[1], image.shape[0]))
        cv2.imwrite(str(folder / f"{name}.png"), free.astype(np.uint8) * 255)
    return folder


def _match_keys(task: Task, bench: Workbench) -> PairFigures:
    ordered = task.clip.ordered
    with task.clock.of("features"):
        features.extract(bench, task.cameras)
    with task.clock.of("matching"):
        loops = matching.match(bench, ordered=ordered)
    return figures.measure_pairs(bench, loops, ordered=ordered)


def _map(task: Task, bench: Workbench, keys: list[int]) -> tuple[list[Any], list[int]]:
    """Sub-models and all frames tried; mapped anew with more frames where key frames were lost."""
    models = _timed_mapping(task, bench, len(keys))
    share = _share(models, keys)
    if share < task.config.retry_from_share or not task.clip.ordered:
        return models, keys  # a fragment of a clip is not worth more frames
    extra = mapping.frames_to_add(
        keys, _registered(models[0]), sorted(task.clip.pose_frames), task.config.densify_step
    )
    if not extra:
        return models, keys
    with task.clock.of("features"):
        features.extract_more(bench, [frame_name(frame) for frame in extra])
    with task.clock.of("matching"):
        matching.match(bench, ordered=True)
    tried = sorted({*keys, *extra})
    denser = _timed_mapping(task, bench, len(tried))
    return (models, keys) if _share(denser, keys) < share else (denser, tried)


def _timed_mapping(task: Task, bench: Workbench, n_frames: int) -> list[Any]:
    with task.clock.of("mapping"):
        min_points = task.config.gate.min_points_frame
        return mapping.map_frames(bench, n_frames, min_points, task.config.max_cpu_s)


def _registered(model: Any) -> set[int]:
    return {frame_of(str(image.name)) for image in model.images.values() if image.has_pose}


def _share(models: list[Any], keys: list[int]) -> float:
    return len(_registered(models[0]) & set(keys)) / len(keys) if models else 0.0


def _judged(
    task: Task, bench: Workbench, pairs: PairFigures, models: list[Any], tried: list[int]
) -> Attempt:
    """Every part of the clip judged by itself."""
    gate, keys = task.config.gate, sorted(task.clip.key_frames)
    if not models:
        return Attempt(bench.recipe, judge_model(pairs, None, gate), [], tried)
    ranges = models[:1]
    if task.clip.ordered:
        ranges = split_models(models, keys, gate.min_part_key_frames)
    judge = Judge(task.config, task.clip, bench, pairs, len(tried))
    with task.clock.of("judging"):
        parts = [part for model in ranges for part in judge(model)]
    accepted = [part for part in parts if part.accepted]
    kept = _named(accepted) if accepted else []
    kept_share = sum(part.key_frames for part in kept) / len(keys)
    first = kept[0] if kept else max(parts, key=lambda part: part.key_frames)
    whole = {
        "sub_models": Figure(len(models)),
        "parts": Figure(len(kept)),
        "kept_share": Figure(kept_share),
    }
    judgement = replace(first.judgement, figures=first.judgement.figures | whole)
    if kept:
        kept[0] = replace(first, judgement=judgement)
    return Attempt(bench.recipe, judgement, kept, tried, _share(models, keys), kept_share)


def _named(parts: Sequence[Part]) -> list[Part]:
    """Accepted parts, largest first: it stays the clip's, further ones get items after their frames."""
    largest, *others = sorted(parts, key=lambda part: -part.key_frames)
    return [largest, *(replace(part, clip=part.clip.as_item()) for part in others)]
