"""assemble: reconstructed clips become rows of a shard."""

from sage_core.assembly.shard import ClipInputs, assemble_clip, join_clips, shard_name

__all__ = ["ClipInputs", "assemble_clip", "join_clips", "shard_name"]
