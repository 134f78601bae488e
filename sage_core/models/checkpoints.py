"""Models as files: SAGE's own safetensors, with settings and licence inside, and what upstream publishes.

Loading is strict: a tensor that is missing, unknown or misshapen is named, never skipped. It takes the
memory of the weights once: tensors are copied from the mapped file, a small part at a time. They are copied,
not left in the map, since arithmetic on memory of another alignment need not give the same bits, and since a
file may be replaced while a run that started from it still goes on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from sage_core.errors import CheckpointError, ConfigError
from sage_core.hub import record_of, weights_path
from sage_core.models._fit import fill, fitted, some
from sage_core.models.interface import GeometricModel, ModelConfig
from sage_core.models.registry import (
    Architecture,
    architecture,
    architecture_of,
    known,
    model_config,
    recognise,
)
from sage_core.models.upstream import WeightsFile, open_weights

FORMAT = "sage-model-1"


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says of itself."""

    architecture: str
    config: ModelConfig
    licence: str
    provenance: dict[str, Any] = field(default_factory=dict)
    """How the weights came about: base, data, settings' hash, code version."""


def build_model(config: ModelConfig | str, seed: int) -> GeometricModel:
    """A model with fresh weights that depend on ``seed`` alone; a string names a preset."""
    widths = model_config(config) if isinstance(config, str) else config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _made(architecture_of(widths), widths)


def load_model(name_or_path: str | Path, config: ModelConfig | None = None) -> GeometricModel:
    """A model in evaluation mode, nothing frozen, in float32 on the CPU.

    Args:
        name_or_path: ``mini`` (its weights ship with SAGE), a published model that was pulled
            (:mod:`sage_core.hub`), or a file: one that SAGE wrote, or one that the model's authors publish
            (safetensors, or a .pth or .pt of tensors). ``NAME:FILE`` says which architecture a file is of
            that does not tell by its tensors' names.
        config: the widths, for files that do not carry them; the published model's if not given.

    Raises:
        CheckpointError: no such file, not trusted, damaged, or tensors that do not fit.
        ConfigError: the architecture needs a package that is not installed.
    """
    file = open_weights(weights_path(name_or_path))
    info = _info(file, name_or_path, config)
    entry = architecture(info.architecture)
    model = blank_model(info.config)
    if entry.on_meta:
        model.to_empty(device="cpu")
    fill(model, file, entry)
    model.licence = info.licence
    return model.eval()


def save_model(
    model: GeometricModel, path: str | Path, *, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write weights, widths, licence and provenance as one safetensors file, whole or not at all.

    Tensors have upstream's names, and those that upstream has and the model does not need are written
    back, so that upstream's own code loads the file strictly. What a model learned beyond upstream's
    tensors (:attr:`Architecture.fresh`) is in the file too; :func:`upstream_state` leaves it out.
    """
    metadata = {
        "format": FORMAT,
        "architecture": architecture_of(model).name,
        "config": json.dumps(model.config.to_json(), sort_keys=True),
        "licence": model.licence,
        "provenance": json.dumps(dict(provenance or {}), sort_keys=True),
    }
    with replaced(Path(path)) as unfinished:
        save_file(_saved_state(model), unfinished, metadata)
        _sort_metadata(unfinished)


def upstream_state(model: GeometricModel) -> dict[str, Tensor]:
    """The state dict that upstream's own class loads strictly: its names, and all of its tensors."""
    fresh = architecture_of(model).fresh
    return {k: t for k, t in _saved_state(model).items() if not k.startswith(fresh)}


def _saved_state(model: GeometricModel) -> dict[str, Tensor]:
    """By upstream's names all tensors, also those that upstream knows nothing of."""
    prefix = architecture_of(model).prefix
    ours = {name.removeprefix(prefix): tensor for name, tensor in model.state_dict().items()}
    return {k: t.detach().cpu().contiguous() for k, t in {**ours, **model.kept_tensors}.items()}


def read_info(name_or_path: str | Path) -> WeightsInfo:
    """Architecture, widths, licence and provenance of a weights file, without reading the tensors.

    Of a file that SAGE did not write, what can be told from the names of its tensors.

    Raises:
        CheckpointError: no such file, not readable, or of no known architecture.
    """
    return _info(open_weights(weights_path(name_or_path)), name_or_path, None)


def check_weights(name_or_path: str | Path) -> GeometricModel:
    """The model that a weights file fits, without values (:func:`blank_model`).

    Raises:
        CheckpointError: as :func:`load_model`, without reading the tensors.
    """
    file = open_weights(weights_path(name_or_path))
    info = _info(file, name_or_path, None)
    model = blank_model(info.config)
    model.licence = info.licence
    fitted(model, file, architecture(info.architecture))
    return model


def _made(entry: Architecture, config: ModelConfig) -> GeometricModel:
    make: Any = entry.model
    model: GeometricModel = make(config)
    return model


def blank_model(config: ModelConfig) -> GeometricModel:
    """A model whose tensors have shapes and no values, on the meta device where its kind allows that."""
    entry = architecture_of(config)
    if not entry.on_meta:
        return _made(entry, config)
    with torch.device("meta"):
        model = _made(entry, config)
    unsaved = {name for name, _ in model.named_buffers()} - model.state_dict().keys()
    assert not unsaved, f"{entry.name}: no file has the buffers {unsaved}, so on_meta cannot be"
    return model


def _said(name_or_path: str | Path) -> str | None:
    """The architecture in ``NAME:FILE``.

    Raises:
        CheckpointError: no such architecture.
    """
    said, colon, _ = str(name_or_path).partition(":")
    if not colon or not said.isidentifier() or Path(name_or_path).exists():
        return None
    return architecture(said).name


def _licence(name_or_path: str | Path, entry: Architecture) -> str:
    """Of weights that do not carry it: what was accepted when they were pulled, else the published ones'."""
    record = record_of(str(name_or_path).rpartition(":")[2])
    return record.licence if record else entry.licence


def _info(file: WeightsFile, name_or_path: str | Path, config: ModelConfig | None) -> WeightsInfo:
    """What the file says of itself, or else what can be told from the names in it."""
    info, said = _own_info(file), _said(name_or_path)
    if info is None:
        entry = _told(file, said, config)
        widths = config or entry.published(file.entries.keys(), file.path)
        return WeightsInfo(entry.name, widths, _licence(name_or_path, entry))
    if said not in (None, info.architecture):
        raise CheckpointError(f"{file.path} holds a model of {info.architecture}, not of {said}")
    if config is not None and config != info.config:
        raise CheckpointError(
            f"{file.path} holds {info.config}, not the {config} that was asked for"
        )
    return info


def _told(file: WeightsFile, said: str | None, config: ModelConfig | None) -> Architecture:
    if said is not None:
        return architecture(said)
    if config is not None:
        return architecture_of(config)
    found = recognise(file.entries.keys())
    if found is None:
        raise CheckpointError(
            f"{file.path} holds no model that this SAGE knows ({', '.join(known())}); its tensors are "
            f"{some(sorted(file.entries))}"
        )
    return found


def _own_info(file: WeightsFile) -> WeightsInfo | None:
    metadata = file.metadata
    form = metadata.get("format", "")
    if not form.startswith("sage-"):
        return None
    if form != FORMAT or metadata.get("architecture") not in known():
        raise CheckpointError(
            f"{file.path} is of format {form!r}, architecture {metadata.get('architecture')!r}; this "
            f"SAGE reads {FORMAT!r}, {', '.join(known())}"
        )
    entry = architecture(metadata["architecture"])
    try:
        config = entry.config.from_json(json.loads(metadata["config"]))
        provenance = json.loads(metadata.get("provenance", "{}"))
    except (ConfigError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"{file.path}: its settings cannot be read: {error}") from error
    return WeightsInfo(entry.name, config, metadata.get("licence", "unknown"), provenance)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A new file beside ``path`` that takes its place when it was written whole, and else goes.

    Raises:
        OSError: no file can be made there, found out before anything is written.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    unfinished.touch()
    try:
        yield unfinished
        with unfinished.open("rb") as file:
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _sort_metadata(path: Path) -> None:
    """Safetensors writes metadata in random order; sorted, equal weights are equal files."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(length))
