"""One damaged clip: mapped by recipe `fast` and kept with its matches, so that it can be judged again."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.damages import Image
from benchmarks.mining_cases import plan
from sage_core.config.reconstruct import GateConfig, ReconstructConfig
from sage_core.errors import SageError
from sage_core.sfm import features, figures, judge_again, mapping, matching
from sage_core.sfm.features import CameraGroup, Workbench
from sage_core.sfm.gate import PairFigures, judge_pairs
from sage_core.sfm.halves import HALVES, Paths, map_subset
from sage_core.sfm.judge import Judge, Part, refined
from sage_core.sfm.model import frame_name
from sage_core.sfm.parts import split_models
from sage_core.sfm.recipes import RECIPES
from sage_core.sfm.trajectories import distance, poses_of
from sage_core.types import Figure, Judgement, Verdict

SEED = 1
WRONG_PERCENT, WRONG_DEG = 2.0, 3.0
OPEN = GateConfig(
    min_registered_share=0,
    min_part_s=0,
    min_points_median=0,
    min_points_frame=0,
    min_track_length=2,
    max_reprojection_px=1e6,
    min_triangulation_deg=0,
    min_focal_ratio=1e-9,
    max_focal_ratio=1e9,
    min_corner_distortion=-1e9,
    max_corner_distortion=1e9,
    max_focal_sigma=1e9,
    min_rotation_residual_px=0,
    min_inlier_share=0,
    min_verified_share=0,
    max_principal_offset=1e9,
    max_split_half_percent=1e9,
    max_split_half_deg=180,
    min_split_half_share=0,
    max_zoom=1e9,
    principal_point_sigmas=10,
)
_JPEG = [cv2.IMWRITE_JPEG_QUALITY, 95]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One part of a damaged clip.

    Attributes:
        key_frames: of the part; ``of``: of the clip.
        percent, deg: from the reference; None where that knows too few of its frames, or stands still.
        figures: by name, without thresholds.
    """

    accepted: bool
    why: str
    key_frames: int
    of: int
    percent: float | None
    deg: float | None
    figures: dict[str, Any]

    @property
    def wrong(self) -> bool:
        return self.percent is None or self.percent > WRONG_PERCENT or (self.deg or 0) > WRONG_DEG


@dataclass(frozen=True)
class Mapped:
    """What reconstruct has before it judges: the workbench with matches, their figures, COLMAP's models.

    ``cpu_s``: of features, matching and mapping; ``halves_cpu_s``: of mapping both halves.
    """

    bench: Workbench
    frames: int
    pairs: PairFigures
    models: list[Any]
    halves: Sequence[Paths]
    cpu_s: float
    halves_cpu_s: float


def mapped(pictures: Sequence[Image] | None, folder: Path, *, ordered: bool) -> Mapped:
    """Map a clip as reconstruct does, or read what was mapped of it before (then without pictures)."""
    import pycolmap

    bench = Workbench(folder / "images", folder, RECIPES["fast"], SEED)
    record = folder / "mapped.json"
    if not record.is_file():
        assert pictures is not None
        record.write_text(json.dumps(_map(pictures, bench, ordered)))
    kept = json.loads(record.read_text())
    models = [
        pycolmap.Reconstruction(bench.folder / "kept" / str(at)) for at in range(kept["models"])
    ]
    halves = [
        [{int(f): np.array(pose) for f, pose in path.items()} for path in half]
        for half in kept["halves"]
    ]
    return Mapped(
        bench,
        kept["frames"],
        PairFigures(**kept["pairs"]),
        models,
        halves,
        kept["cpu_s"],
        kept["halves_cpu_s"],
    )


def _map(pictures: Sequence[Image], bench: Workbench, ordered: bool) -> dict[str, Any]:
    shutil.rmtree(bench.folder, ignore_errors=True)
    bench.images.mkdir(parents=True)
    names = [frame_name(at) for at in range(len(pictures))]
    for name, picture in zip(names, pictures, strict=True):
        cv2.imwrite(str(bench.images / name), picture[..., ::-1], _JPEG)
    began = time.process_time()
    features.extract(bench, [CameraGroup(names)])
    loops = matching.match(bench, ordered=ordered)
    pairs = figures.measure_pairs(bench, loops, ordered=ordered)
    models = mapping.map_frames(bench, len(names), GateConfig().min_points_frame, 1e9)
    for at, model in enumerate(models):
        kept = bench.folder / "kept" / str(at)
        kept.mkdir(parents=True)
        model.write_binary(kept)
    shutil.rmtree(bench.images)
    shutil.rmtree(bench.folder / "models", ignore_errors=True)
    middle = time.process_time()
    halves: Sequence[Paths] = ([], [])
    if models:
        lens = refined(models[0], GateConfig())[0]
        halves = [map_subset(bench, lens, len(names), 1e9, half) for half in HALVES]
    return {
        "frames": len(names),
        "pairs": asdict(pairs),
        "models": len(models),
        "halves": [
            [{f: pose.tolist() for f, pose in path.items()} for path in half] for half in halves
        ],
        "cpu_s": middle - began,
        "halves_cpu_s": time.process_time() - middle,
    }


def judge(
    one: Mapped, wanted: Mapping[int, Array], gate: GateConfig, *, ordered: bool
) -> list[Judged]:
    """Every part of a mapped clip by that gate, against the reference's poses."""
    clip = plan("damaged", range(one.frames), ordered=ordered)
    before = judge_pairs(one.pairs, gate)
    if before.verdict is not Verdict.ACCEPTED or not one.models:
        why = before.message or "COLMAP found no model"
        return [Judged(False, why, 0, one.frames, None, None, asdict(one.pairs))]
    config = ReconstructConfig(gate=_untimed(gate))
    ranges = one.models[:1]
    if ordered:
        ranges = split_models(one.models, clip.key_frames, gate.min_part_key_frames)
    halves = dict(zip(HALVES, one.halves, strict=True))
    judging = Judge(config, clip, one.bench, one.pairs, one.frames, halves)
    return [_against(part, one, wanted) for model in ranges for part in judging(model)]


def _untimed(gate: GateConfig) -> GateConfig:
    """These clips have key frames, but no times."""
    return gate.model_copy(update={"min_part_s": 0})


def judged_again(parts: Sequence[Judged], gate: GateConfig) -> list[Judged] | None:
    """What an open gate let pass, by another gate's thresholds; None where these ask more subsets."""
    config = ReconstructConfig(gate=_untimed(gate))
    again = []
    for part in parts:
        figures = {name: Figure(value) for name, value in part.figures.items()}
        if part.accepted:
            try:
                verdict = judge_again(Judgement.accept(figures), config)
            except SageError:
                return None
            accepted = verdict.verdict is Verdict.ACCEPTED
            part = replace(part, accepted=accepted, why=verdict.message)
        again.append(part)
    return again


def _against(part: Part, one: Mapped, wanted: Mapping[int, Array]) -> Judged:
    apart = distance(poses_of(part.model), wanted)
    return Judged(
        part.accepted,
        part.judgement.message,
        part.key_frames,
        one.frames,
        apart.percent if apart else None,
        apart.deg if apart else None,
        {name: figure.value for name, figure in part.judgement.figures.items()},
    )
