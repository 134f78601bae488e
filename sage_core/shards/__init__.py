"""Training data on disk: Parquet shards of frames with cameras and sparse anchors, and their clips.

``docs/shards.md`` documents every column. Light to import: numpy and pyarrow.
"""

from sage_core.shards.read import ShardReader
from sage_core.shards.records import (
    Anchors,
    ClipInfo,
    Covisibility,
    FrameRecord,
    Trajectory,
    encode_mask,
)
from sage_core.shards.schema import CLIPS, FRAMES, SCHEMA_VERSION
from sage_core.shards.trajectories import can_draw, draw_trajectory
from sage_core.shards.write import ShardWriter, join_shards

__all__ = [
    "CLIPS",
    "FRAMES",
    "SCHEMA_VERSION",
    "Anchors",
    "ClipInfo",
    "Covisibility",
    "FrameRecord",
    "ShardReader",
    "ShardWriter",
    "Trajectory",
    "can_draw",
    "draw_trajectory",
    "encode_mask",
    "join_shards",
]
