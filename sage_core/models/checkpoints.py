"""Weights on disk: safetensors with their settings and licence inside; upstream pickles, made safe.

Loading is strict: a tensor that is missing, extra or misshapen is named, never skipped.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sage_core.errors import CheckpointError, ConfigError
from sage_core.models.mvdust3r import MVDust3r, MVDust3rConfig

FORMAT = "sage-model-1"
ARCHITECTURE = "mvdust3r"
UPSTREAM_LICENCE = "CC BY-NC 4.0"
PRESETS = {
    "mini": MVDust3rConfig.mini,
    "mvdust3r": MVDust3rConfig.mvdust3r,
    "mvdust3r_plus": MVDust3rConfig.mvdust3r_plus,
}
_SHOWN = 5
"""How many offending tensors an error names before it counts the rest."""


@dataclass(frozen=True)
class WeightsInfo:
    """What a weights file says of itself."""

    config: MVDust3rConfig
    licence: str
    provenance: dict[str, Any] = field(default_factory=dict)
    """How the weights came about: base, data, settings' hash, code version."""


def model_config(name: str) -> MVDust3rConfig:
    """The widths of a named preset.

    Raises:
        ConfigError: no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"no model {name!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[name]()


def build_model(config: MVDust3rConfig | str, seed: int) -> MVDust3r:
    """A model with fresh weights that depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MVDust3r(model_config(config) if isinstance(config, str) else config)


def load_model(name_or_path: str | Path, config: MVDust3rConfig | None = None) -> MVDust3r:
    """A model in evaluation mode, nothing frozen, in float32 on the CPU.

    Args:
        name_or_path: ``mini`` (its weights ship with SAGE), or a file: safetensors, or a checkpoint
            as MV-DUSt3R's own training writes it (.pth).
        config: the widths, for files that do not carry them; the published model's if not given.

    Raises:
        CheckpointError: no such file, not trusted, damaged, or tensors that do not fit.
    """
    path = _locate(name_or_path)
    info, tensors = _read(path, config)
    with torch.device("meta"):
        model = MVDust3r(info.config)
    model.to_empty(device="cpu")
    fill(model, tensors, str(path))
    model.licence = info.licence
    return model.eval()


def save_model(
    model: MVDust3r, path: str | Path, *, provenance: Mapping[str, Any] | None = None
) -> None:
    """Write weights, widths, licence and provenance as one safetensors file, whole or not at all."""
    path = Path(path)
    metadata = {
        "format": FORMAT,
        "architecture": ARCHITECTURE,
        "config": json.dumps(model.config.to_json(), sort_keys=True),
        "licence": model.licence,
        "provenance": json.dumps(dict(provenance or {}), sort_keys=True),
    }
    tensors = {name: t.detach().cpu().contiguous() for name, t in model.state_dict().items()}
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        save_file(tensors, unfinished, metadata)
        _sort_metadata(unfinished)
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


def read_info(name_or_path: str | Path) -> WeightsInfo:
    """Widths, licence and provenance of a weights file, without reading the tensors.

    Raises:
        CheckpointError: no such file, or one that SAGE did not write.
    """
    path = _locate(name_or_path)
    with _opened(path) as file:
        info = _parse_info(file.metadata(), path)
    if info is None:
        raise CheckpointError(f"{path} does not say what model it holds: SAGE did not write it")
    return info


def fill(model: MVDust3r, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into a model in place, strictly by name and shape.

    Raises:
        CheckpointError: names every kind of misfit.
    """
    wanted = model.state_dict()
    tensors = _with_source_decoder(tensors, wanted)
    misfits = {
        "missing": sorted(wanted.keys() - tensors.keys()),
        "unknown": sorted(tensors.keys() - wanted.keys()),
        "misshapen": [
            f"{name} {list(tensors[name].shape)} where {list(t.shape)} fits"
            for name, t in wanted.items()
            if name in tensors and tensors[name].shape != t.shape
        ],
    }
    if any(misfits.values()):
        text = "; ".join(f"{kind}: {_some(names)}" for kind, names in misfits.items() if names)
        raise CheckpointError(
            f"{where} does not fit the model with {model.config}: {text}. "
            "Give the widths that these weights were trained with"
        )
    with torch.no_grad():
        for name, target in wanted.items():
            target.copy_(tensors[name])


def _with_source_decoder(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor]
) -> Mapping[str, Tensor]:
    """DUSt3R-like files may hold one decoder for all views: the sources' then starts as its copy."""
    if any(name.startswith("dec_blocks2.") for name in tensors):
        return tensors
    copies = {
        name.replace("dec_blocks.", "dec_blocks2.", 1): tensor
        for name, tensor in tensors.items()
        if name.startswith("dec_blocks.")
    }
    return {**tensors, **{name: t for name, t in copies.items() if name in wanted}}


def _some(names: list[str]) -> str:
    rest = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _locate(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if str(name_or_path) in PRESETS and not path.exists():
        path = Path(
            str(resources.files("sage_core.models") / "weights" / f"{name_or_path}.safetensors")
        )
        if not path.exists():
            raise CheckpointError(
                f"no weights of {name_or_path!r} come with SAGE: give the path of a weights file "
                "(MV-DUSt3R's are published by its authors for non-commercial use)"
            )
    if not path.is_file():
        raise CheckpointError(f"no weights file {path}: give a .safetensors or .pth file")
    return path


def _read(path: Path, config: MVDust3rConfig | None) -> tuple[WeightsInfo, dict[str, Tensor]]:
    if path.suffix == ".safetensors":
        with _opened(path) as file:
            info = _parse_info(file.metadata(), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        licence = "unknown"
    else:
        info, tensors, licence = None, read_upstream(path), UPSTREAM_LICENCE
    if info is None:
        info = WeightsInfo(config or _published_config(tensors), licence)
    elif config is not None and config != info.config:
        raise CheckpointError(f"{path} holds {info.config}, not the {config} that was asked for")
    return info, tensors


def _published_config(tensors: Mapping[str, Tensor]) -> MVDust3rConfig:
    plus = any(name.startswith("dec_same_view_blocks.") for name in tensors)
    return MVDust3rConfig(cross_reference=plus)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no readable safetensors file ({error}): it may be cut short, fetch it again"
        ) from error


def _parse_info(metadata: Mapping[str, str] | None, path: Path) -> WeightsInfo | None:
    if not metadata or "format" not in metadata:
        return None
    if metadata["format"] != FORMAT or metadata.get("architecture") != ARCHITECTURE:
        raise CheckpointError(
            f"{path} is of format {metadata['format']!r}, architecture "
            f"{metadata.get('architecture')!r}; this SAGE reads {FORMAT!r}, {ARCHITECTURE!r}"
        )
    try:
        config = MVDust3rConfig.from_json(json.loads(metadata["config"]))
        provenance = json.loads(metadata.get("provenance", "{}"))
    except (ConfigError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path}: its settings cannot be read: {error}") from error
    return WeightsInfo(config, metadata.get("licence", "unknown"), provenance)


def read_upstream(path: Path) -> dict[str, Tensor]:
    """The state dict inside a checkpoint of MV-DUSt3R's own training, memory-mapped.

    Such a file is a pickle, and a pickle can run code: only tensors, plain containers and the
    ``argparse.Namespace`` of its settings are let through.

    Raises:
        CheckpointError: anything else inside, or no state dict under ``model``.
    """
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            data = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not loaded, since its pickle holds more than tensors and settings and could "
            f"run code: {str(error).splitlines()[0]}. Convert it to safetensors where you trust it"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"{path} is no readable checkpoint: {error}") from error
    state = data.get("model", data) if isinstance(data, dict) else None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise CheckpointError(f"{path} holds no state dict under 'model'")
    return dict(state)
