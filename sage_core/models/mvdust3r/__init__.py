"""MV-DUSt3R and MV-DUSt3R+ (Tang et al., CVPR 2025), written from a description of the published models."""

from sage_core.models.mvdust3r._config import MVDust3rConfig
from sage_core.models.mvdust3r._model import MVDust3r

__all__ = ["MVDust3r", "MVDust3rConfig"]
