"""Reconstruct one clip in a sandboxed child."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sage_core import sandbox
from sage_core.config.reconstruct import ReconstructConfig
from sage_core.types import Clip, Figure, Judgement, Reason, Verdict

PARTS = "parts"
"""Folder of a clip's further parts, each in one of its own."""
IMPORTS = ("sage_core.sfm._child", "pycolmap", "decord", "pyarrow.parquet", "scipy.optimize",
           "scipy.spatial.transform")  # fmt: skip
"""What every clip's child needs."""


@dataclass(frozen=True)
class ReconstructionResult:
    """What became of a clip.

    Attributes:
        judgement: the verdict.
        recipe: name of the recipe that gave it.
        attempts: each recipe tried, in order: ``recipe``, ``verdict``, ``message``, ``registered_share``,
            ``kept_share``.
        cpu_s: CPU seconds by part of the work.
        parts: what of the clip was kept, largest part first; the clip itself where all of it registered,
            empty where it was not accepted.
    """

    judgement: Judgement
    recipe: str
    attempts: list[dict[str, Any]]
    cpu_s: dict[str, float]
    parts: list[Clip]


def reconstruct(
    clip: Clip,
    media: Path,
    out: Path,
    config: ReconstructConfig,
    seed: int,
    provenance: Mapping[str, str] | None = None,
) -> ReconstructionResult:
    """Reconstruct a clip: COLMAP on its key frames, the quality gate, a pose for every pose frame.

    Accepted clips leave in ``out``: ``sparse/0`` (COLMAP's binary format, every posed frame in it, images
    ``frame_%06d.jpg`` by source index), ``images/`` at SfM resolution, ``frames.parquet``, ``gate.json``,
    and ``masks/`` where ``config.masks`` asks for them: those of the clip's largest part, if not all of it
    registers. Each further part that passes the gate leaves the same in ``parts/<item>``.
    Given equal clip, media, settings and seed these are the same bytes.

    Args:
        media: the video file, or the folder of a photo collection.
        out: a folder that is empty or not there yet; whatever is left in it after a rejection or an
            error is no result.
        provenance: further facts for ``gate.json``, such as hashes of the inputs.

    Raises:
        SageError: frames that cannot be decoded; :class:`SandboxError` for time (``max_cpu_s``,
            ``max_wall_s``) or memory used up, or a crash of native code.
    """
    answer = sandbox.call(
        "sage_core.sfm._child:reconstruct",
        {
            "clip": clip.to_json(),
            "media": str(media.resolve()),
            "out": str(out.resolve()),
            "config": config.model_dump(mode="json"),
            "seed": seed,
            "provenance": dict(provenance or {}),
        },
        sandbox.Limits(wall_s=config.max_wall_s, memory_mb=config.max_memory_mb),
        imports=IMPORTS,
    )
    return ReconstructionResult(
        judgement_from_json(answer["judgement"]),
        answer["recipe"],
        answer["attempts"],
        answer["cpu_s"],
        [Clip.from_json(part) for part in answer["parts"]],
    )


def judgement_from_json(data: Mapping[str, Any]) -> Judgement:
    """What :meth:`Judgement.to_json` gave, as ``gate.json`` holds it."""
    return Judgement(
        Verdict(data["verdict"]),
        Reason(data["reason"]) if data["reason"] else None,
        data["message"],
        {name: Figure(**figure) for name, figure in data["figures"].items()},
        data["retryable"],
    )
