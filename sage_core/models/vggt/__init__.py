"""VGGT (Wang et al., CVPR 2025), written from a description of the published model."""

from sage_core.models.vggt._config import VGGTConfig
from sage_core.models.vggt._model import VGGT
from sage_core.models.vggt._pose_code import decode_cameras, encode_cameras
from sage_core.models.vggt._preprocess import Preprocessed, PreprocessMode, preprocess

__all__ = [
    "VGGT",
    "PreprocessMode",
    "Preprocessed",
    "VGGTConfig",
    "decode_cameras",
    "encode_cameras",
    "preprocess",
]
