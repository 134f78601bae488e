"""The configuration: one typed tree, the paper's values as defaults, a section for each stage."""

from sage_core.config._base import Section, setting, subsection
from sage_core.config._load import PRESETS, load_config, preset_text
from sage_core.config._tree import RunConfig, SageConfig

__all__ = [
    "PRESETS",
    "RunConfig",
    "SageConfig",
    "Section",
    "load_config",
    "preset_text",
    "setting",
    "subsection",
]
