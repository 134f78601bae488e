"""A shard's clips, each assembled in a child process of its own, then joined.

One clip that crashes its decoder, or runs out of time or memory, takes none of the others with it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sage_core import sandbox
from sage_core.config.assemble import AssembleConfig
from sage_core.sfm.run import judgement_from_json
from sage_core.shards import SCHEMA_VERSION, join_shards
from sage_core.shards.write import clips_name, frames_name
from sage_core.types import Clip, Judgement

PART = "part"
IMPORTS = ("sage_core.assembly._child", "decord")
"""What every clip's child needs."""


@dataclass(frozen=True)
class ClipInputs:
    """What a clip is assembled from.

    Attributes:
        clip: the plan that it was reconstructed by.
        media: the video file, or the folder of a photo set.
        model: the folder that reconstruct left (``sfm/<clip>``).
        source: what the user gave.
        figures: what the gate of reconstruct measured; kept in the clip's row.
        provenance: what else is to be known of the clip for good (licence, uploader, hashes).
    """

    clip: Clip
    media: Path
    model: Path
    source: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def shard_name(clips: Mapping[str, str], config_hash: str) -> str:
    """A shard's name, sixteen hex digits: the same for the same clips (id -> input hash) and settings."""
    text = json.dumps([SCHEMA_VERSION, config_hash, sorted(clips.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def assemble_clip(inputs: ClipInputs, folder: Path, config: AssembleConfig, seed: int) -> Judgement:
    """Write a shard of this clip alone into ``folder`` (named ``part``), if it passes the gate.

    Raises:
        SageError: the video does not decode, the model cannot be read; :class:`SandboxError` for time or
            memory used up, or a crash of the decoder.
    """
    answer = sandbox.call(
        "sage_core.assembly._child:assemble_clip",
        {
            "clip": inputs.clip.to_json(),
            "media": str(inputs.media.resolve()),
            "model": str(inputs.model.resolve()),
            "source": inputs.source,
            "figures": dict(inputs.figures),
            "provenance": dict(inputs.provenance),
            "folder": str(folder.resolve()),
            "config": config.model_dump(mode="json"),
            "seed": seed,
        },
        sandbox.Limits(wall_s=config.max_wall_s, memory_mb=config.max_memory_mb),
        imports=IMPORTS,
    )
    return judgement_from_json(answer)


def join_clips(parts: Sequence[Path], folder: Path, name: str) -> tuple[Path, Path]:
    """One shard out of the folders that :func:`assemble_clip` filled: its frames and its clips file."""
    join_shards([(part, PART) for part in parts], folder, name)
    return folder / frames_name(name), folder / clips_name(name)
