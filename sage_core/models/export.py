"""Adapted weights for who does not use SAGE: upstream's own container, or plain safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file

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
    """
    path, state = Path(path), upstream_state(model)
    facts = {"licence": model.licence, "provenance": json.dumps(dict(provenance or {}))}
    with replaced(path) as unfinished:
        if form == "safetensors":
            save_file(state, unfinished, {"format": "pt", **facts})
        elif architecture_of(model).nested:
            torch.save({"model": state, **facts}, unfinished)
        else:
            torch.save(state, unfinished)
            text = f"{facts['licence']}\n{facts['provenance']}\n"
            path.with_name(f"{path.name}.licence.txt").write_text(text)
