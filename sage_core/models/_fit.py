"""Tensors from a file into a model: strictly, by name and shape, and in the memory of the model alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from sage_core.errors import CheckpointError
from sage_core.models.interface import GeometricModel
from sage_core.models.registry import Architecture
from sage_core.models.upstream import WeightsFile

_SHOWN = 5
"""How many offending tensors an error names before it counts the rest."""
_PARTS = 12
"""Tensors are copied in about so many parts, so that little more than the model is ever resident."""


def fill(model: GeometricModel, file: WeightsFile, entry: Architecture) -> None:
    """Copy a file's tensors into a model in place, strictly by name and shape.

    Raises:
        CheckpointError: names every kind of misfit.
    """
    wanted, sources, spare = fitted(model, file, entry)
    with torch.no_grad():
        for part in _parts(wanted):
            tensors = file.tensors({sources[name] for name in part})
            for name in part:
                wanted[name].copy_(tensors[sources[name]])
    model.kept_tensors = {name: tensor.clone() for name, tensor in file.tensors(spare).items()}


def fitted(
    model: GeometricModel, file: WeightsFile, entry: Architecture
) -> tuple[dict[str, Tensor], dict[str, str], list[str]]:
    """The model's tensors by upstream's names, where each is in the file, and what is kept unused."""
    wanted = {name.removeprefix(entry.prefix): t for name, t in model.state_dict().items()}
    aliases = {k: v for k, v in entry.aliases(file.entries.keys()).items() if k in wanted}
    sources = {name: name for name in file.entries} | aliases
    spare = [name for name in sources if name not in wanted and entry.keeps(name)]
    fresh = [name for name in wanted if name not in sources and name.startswith(entry.fresh)]
    for name in fresh:
        wanted.pop(name).zero_()
    _check_fit(model, file, wanted, {k: v for k, v in sources.items() if k not in spare})
    return wanted, sources, spare


def _check_fit(
    model: GeometricModel,
    file: WeightsFile,
    wanted: Mapping[str, Tensor],
    sources: Mapping[str, str],
) -> None:
    common = {name: file.entries[sources[name]] for name in wanted if name in sources}
    misfits = {
        "missing": sorted(wanted.keys() - sources.keys()),
        "unknown": sorted(sources.keys() - wanted.keys()),
        "misshapen": [
            f"{name} {list(one.shape)} where {list(wanted[name].shape)} fits"
            for name, one in common.items()
            if one.shape != wanted[name].shape
        ],
        "of another kind (whole numbers, or quantised)": [
            name for name, one in common.items() if one.floating != wanted[name].is_floating_point()
        ],
    }
    if any(misfits.values()):
        text = "; ".join(f"{kind}: {some(names)}" for kind, names in misfits.items() if names)
        raise CheckpointError(
            f"{file.path} does not fit the model with {model.config}: {text}. If the file is of another kind "
            "of model, name the kind before its path (adapt.base=vggt:PATH); if it is cut short or was "
            "edited, fetch it again; other widths than the published ones load from a file that SAGE saved, "
            "which holds them"
        )


def _parts(wanted: Mapping[str, Tensor]) -> Iterator[list[str]]:
    """Names in order, in parts of about equal size."""
    limit = sum(t.nbytes for t in wanted.values()) / _PARTS
    part: list[str] = []
    size = 0
    for name, tensor in wanted.items():
        if part and size + tensor.nbytes > limit:
            yield part
            part, size = [], 0
        part.append(name)
        size += tensor.nbytes
    if part:
        yield part


def some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")
