"""Structure from motion: from a clip's frames to cameras, points and sparse anchors."""

from sage_core.sfm.again import judge_again, mapped_as
from sage_core.sfm.anchors import AnchorFilter, Anchors, frame_anchors, model_anchors
from sage_core.sfm.gate import (
    ModelFigures,
    PairFigures,
    judge_model,
    judge_pairs,
    judge_unfinished,
)
from sage_core.sfm.model import PosedFrame, SparseModel, load_clip_model, read_model
from sage_core.sfm.run import PARTS, ReconstructionResult, judgement_from_json, reconstruct

__all__ = [
    "PARTS",
    "AnchorFilter",
    "Anchors",
    "ModelFigures",
    "PairFigures",
    "PosedFrame",
    "ReconstructionResult",
    "SparseModel",
    "frame_anchors",
    "judge_again",
    "judge_model",
    "judge_pairs",
    "judge_unfinished",
    "judgement_from_json",
    "load_clip_model",
    "mapped_as",
    "model_anchors",
    "read_model",
    "reconstruct",
]
