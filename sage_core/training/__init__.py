"""Adapting a model on the shards: ``python -m sage_core.training --settings FILE`` on each rank.

Light to import; what needs torch lies in the submodules.
"""

from sage_core.training.launch import Launched, launch
from sage_core.training.mixing import MinedClip, mixed, read_difficulty
from sage_core.training.settings import DataSet, ShardPart, TrainSettings

__all__ = [
    "DataSet",
    "Launched",
    "MinedClip",
    "ShardPart",
    "TrainSettings",
    "launch",
    "mixed",
    "read_difficulty",
]
