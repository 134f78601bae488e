"""The sandboxed side of assemble: one clip in, a shard of that clip out."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from sage_core.assembly.covisibility import covisibility
from sage_core.assembly.pictures import AnchoredFrame, frame_records
from sage_core.assembly.shard import PART
from sage_core.config.assemble import AnchorConfig, AssembleConfig
from sage_core.masks import FOLDER
from sage_core.sfm.anchors import AnchorFilter, model_anchors
from sage_core.sfm.model import SparseModel, load_clip_model
from sage_core.shards import ClipInfo, FrameRecord, ShardWriter
from sage_core.shards.records import PointCloud
from sage_core.shards.trajectories import candidates
from sage_core.types import Clip, Figure, Judgement, Reason


def assemble_clip(
    clip: dict[str, Any],
    media: str,
    model: str,
    source: str,
    figures: dict[str, Any],
    provenance: dict[str, Any],
    folder: str,
    config: dict[str, Any],
    seed: int,
) -> dict[str, Any]:
    """See :func:`sage_core.assembly.assemble_clip`; gives the judgement as JSON."""
    cv2.setNumThreads(1)
    plan, settings = Clip.from_json(clip), AssembleConfig(**config)
    sparse = load_clip_model(Path(model))
    kept = _anchored(sparse, settings.anchors)
    judgement = _gate_anchors(len(sparse.frames), kept, settings)
    if judgement.reason is not None:
        return judgement.to_json()
    masks = Path(model) / FOLDER
    records = list(frame_records(plan, Path(media), kept, Path(model), settings))
    info = _clip_info(plan, source, sparse, kept, records, settings)
    info = replace(
        info,
        trajectories=_candidates(info, settings, seed),
        figures={**figures, **{name: asdict(f) for name, f in judgement.figures.items()}},
        provenance=provenance,
    )
    judgement = _gate_trajectories(info, judgement)
    if judgement.reason is None:
        points = PointCloud(sparse.ids, sparse.xyz.astype(np.float32), sparse.rgb)
        group = settings.row_group_frames
        with ShardWriter(
            Path(folder), PART, row_group_frames=group, masks=masks.is_dir()
        ) as writer:
            writer.add(info, records, points)
    return judgement.to_json()


def _anchored(model: SparseModel, config: AnchorConfig) -> list[AnchoredFrame]:
    """Frames with enough anchors, in order."""
    wanted = AnchorFilter(
        config.min_track, config.min_angle_deg, config.max_error_px, config.max_split
    )
    anchors = model_anchors(model, wanted)
    frames = [AnchoredFrame(frame, anchors[frame.frame]) for frame in model.frames]
    return [frame for frame in frames if len(frame.anchors) >= config.min_per_frame]


def _gate_anchors(posed: int, kept: Sequence[AnchoredFrame], config: AssembleConfig) -> Judgement:
    median = float(np.median([len(frame.anchors) for frame in kept])) if kept else 0.0
    views = config.sampling.n_context + config.sampling.n_targets
    figures = {
        "posed_frames": Figure(posed),
        "frames": Figure(len(kept), views, ">="),
        "anchors_median": Figure(median, config.anchors.min_median, ">="),
    }
    if len(kept) < views or median < config.anchors.min_median:
        message = (
            f"{len(kept)} of {posed} posed frames have {config.anchors.min_per_frame} anchors or more "
            f"({views} are needed), {median:g} in the median ({config.anchors.min_median} are needed)"
        )
        return Judgement.reject(Reason.TOO_FEW_ANCHORS, message, figures)
    return Judgement.accept(figures)


def _clip_info(
    clip: Clip,
    source: str,
    model: SparseModel,
    kept: Sequence[AnchoredFrame],
    records: Sequence[FrameRecord],
    config: AssembleConfig,
) -> ClipInfo:
    seen = [np.unique(frame.posed.point) for frame in kept]
    depths = [np.median(record.anchors.depth) for record in records]
    return ClipInfo(
        clip=clip.item,
        video=clip.video,
        source=source,
        ordered=clip.ordered,
        frames=np.array([record.frame for record in records], np.int32),
        times_s=np.array([record.time_s for record in records]),
        sharpness=np.array([record.sharpness for record in records], np.float32),
        depth_median=np.array(depths, np.float32),
        cam_from_world=np.stack([record.cam_from_world for record in records]),
        covisibility=covisibility(seen, len(model.xyz), config.min_covisibility),
    )


def _candidates(info: ClipInfo, config: AssembleConfig, seed: int) -> list[Any]:
    # Each clip has its own stream of numbers, whatever shard and order it is assembled in.
    rng = np.random.default_rng([seed, zlib.crc32(info.clip.encode())])
    return candidates(info, config.sampling, config.candidates, rng)


def _gate_trajectories(info: ClipInfo, so_far: Judgement) -> Judgement:
    figures = {
        **so_far.figures,
        "trajectories": Figure(len(info.trajectories), 1, ">="),
        "best_score": Figure(max((t.score for t in info.trajectories), default=0.0)),
        "seconds": Figure(float(np.ptp(info.times_s)) if info.ordered else None),
    }
    if not info.trajectories:
        message = (
            f"none of the tries to draw a sample from its {info.n_frames} frames succeeded: too short "
            "or too sparse in time, and too little shared in between"
        )
        return Judgement.reject(Reason.NO_TRAJECTORY, message, figures)
    return Judgement.accept(figures)
