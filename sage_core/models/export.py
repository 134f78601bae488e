"""Adapted weights for who does not use SAGE: upstream's own container, or plain safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sage_core.errors import CheckpointError
from sage_core.models.checkpoints import replaced, upstream_state
from sage_core.models.interface import GeometricModel
from sage_core.models.registry import architecture_of

ExportFormat = Literal["upstream", "safetensors"]
"""``upstream``: as upstream's training writes it and its code reads it; ``safetensors``: the same tensors
by the same names, without anything of SAGE's."""


def export_model(
    model: GeometricModel,
    path: str | Path,
    form: ExportFormat,
    *,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Write all tensors of upstream's own model, those that SAGE has no use for among them.

    The licence and where the weights come from go along: under ``licence`` and ``provenance`` beside the
    state dict where upstream nests it under ``model``, else in the metadata of safetensors. A bare
    state dict has no place for them, so they are told in a text file beside it.

    Raises:
        OSError: the folder cannot be written to.
        CheckpointError: the file cannot be written whole.
    """
    path, state = Path(path), upstream_state(model)
    facts = {"licence": model.licence, "provenance": json.dumps(dict(provenance or {}))}
    nested = architecture_of(model).nested
    with replaced(path) as unfinished:
        try:
            _write(state, unfinished, form, nested, facts)
        except (RuntimeError, SafetensorError) as error:  # both wrap what the system said
            first = str(error).partition("\n")[0]
            raise CheckpointError(
                f"{path} cannot be written ({first}): see whether its disk is full"
            ) from error
    if form == "upstream" and not nested:
        text = f"{facts['licence']}\n{facts['provenance']}\n"
        path.with_name(f"{path.name}.licence.txt").write_text(text)


def _write(
    state: dict[str, Tensor], file: Path, form: ExportFormat, nested: bool, facts: dict[str, str]
) -> None:
    if form == "safetensors":
        save_file(state, file, {"format": "pt", **facts})
    else:
        torch.save({"model": state, **facts} if nested else state, file)
