"""RGB-D data sets in their original layouts, and whether a copy of one agrees with itself."""

from sage_core.evaluation.datasets._check import Mistake, SceneCheck, check_scene
from sage_core.evaluation.datasets._named import DATASETS, DataSet, Reading, data_set
from sage_core.evaluation.datasets._scene import Frame, Scene

__all__ = [
    "DATASETS",
    "DataSet",
    "Frame",
    "Mistake",
    "Reading",
    "Scene",
    "SceneCheck",
    "check_scene",
    "data_set",
]
