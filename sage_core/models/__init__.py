"""Geometric foundation models behind one interface, and their weights."""

from sage_core.models.checkpoints import (
    WeightsInfo,
    blank_model,
    build_model,
    check_weights,
    load_model,
    read_info,
    save_model,
)
from sage_core.models.export import ExportFormat, export_model
from sage_core.models.interface import (
    IMAGENET,
    ConfidenceKind,
    Description,
    Gaussians,
    GeometricModel,
    GeometryOutput,
    ModelConfig,
    Normalisation,
    run_block,
)
from sage_core.models.mvdust3r import MVDust3r, MVDust3rConfig
from sage_core.models.registry import Architecture, model_config
from sage_core.models.vggt import VGGT, VGGTConfig

__all__ = [
    "IMAGENET",
    "VGGT",
    "Architecture",
    "ConfidenceKind",
    "Description",
    "ExportFormat",
    "Gaussians",
    "GeometricModel",
    "GeometryOutput",
    "MVDust3r",
    "MVDust3rConfig",
    "ModelConfig",
    "Normalisation",
    "VGGTConfig",
    "WeightsInfo",
    "blank_model",
    "build_model",
    "check_weights",
    "export_model",
    "load_model",
    "model_config",
    "read_info",
    "run_block",
    "save_model",
]
