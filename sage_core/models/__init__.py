"""Geometric foundation models behind one interface, and their weights."""

from sage_core.models.checkpoints import (
    WeightsInfo,
    build_model,
    load_model,
    model_config,
    read_info,
    save_model,
)
from sage_core.models.interface import Gaussians, GeometricModel, GeometryOutput, run_block
from sage_core.models.mvdust3r import MVDust3r, MVDust3rConfig

__all__ = [
    "Gaussians",
    "GeometricModel",
    "GeometryOutput",
    "MVDust3r",
    "MVDust3rConfig",
    "WeightsInfo",
    "build_model",
    "load_model",
    "model_config",
    "read_info",
    "run_block",
    "save_model",
]
