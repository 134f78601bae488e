"""Weights files of any origin, opened without trust: safetensors, and pickles that hold only tensors.

Tensors are mapped from the file, not read into memory, and each call maps anew, so that what was copied out
does not stay resident. Names are given as upstream's class has them: a state dict nested under ``model`` is
unwrapped, a leading ``module.`` is dropped.
"""

from __future__ import annotations

import argparse
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sage_core.errors import CheckpointError

_WRAPPER = "module."


@dataclass(frozen=True)
class Entry:
    """What a file says of one tensor without its values."""

    shape: tuple[int, ...]
    floating: bool


@dataclass(frozen=True)
class WeightsFile:
    """An opened weights file; no tensor of it is in memory.

    Attributes:
        path: where it lies.
        metadata: a safetensors file's texts; empty for pickles.
        entries: shape and kind of each tensor, by upstream's name.
    """

    path: Path
    metadata: Mapping[str, str]
    entries: Mapping[str, Entry]
    _stored: Mapping[str, str]
    _read: Callable[[Collection[str]], dict[str, Tensor]]

    def tensors(self, names: Collection[str]) -> dict[str, Tensor]:
        """These tensors, mapped from the file for as long as they are held.

        Raises:
            CheckpointError: the file has become unreadable since it was opened.
        """
        found = self._read([self._stored[name] for name in names])
        return {name: found[self._stored[name]] for name in names}


def open_weights(path: Path) -> WeightsFile:
    """Open safetensors (``.safetensors``) or a checkpoint that torch saved (any other name).

    A checkpoint is a pickle, and a pickle can run code: only tensors, plain containers and the
    ``argparse.Namespace`` that MV-DUSt3R's training keeps its settings in are let through.

    Raises:
        CheckpointError: unreadable, cut short, no state dict inside, or not to be trusted; the message
            names the first thing in it that could run code.
    """
    return _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)


def _safetensors(path: Path) -> WeightsFile:
    def read(names: Collection[str]) -> dict[str, Tensor]:
        with _opened(path) as file:
            return {name: file.get_tensor(name) for name in names}

    with _opened(path) as file:
        metadata = file.metadata() or {}
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        entries = {
            name: Entry(tuple(part.get_shape()), part.get_dtype().startswith(("F", "BF")))
            for name, part in slices.items()
        }
    return _file(path, metadata, entries, read)


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no readable safetensors file ({error}): it may be cut short, fetch it again"
        ) from error


def _pickled(path: Path) -> WeightsFile:
    state = _unpickled(path)
    entries = {name: Entry(tuple(t.shape), t.is_floating_point()) for name, t in state.items()}
    if not zipfile.is_zipfile(path):  # torch before 1.6: cannot be mapped, so it is read but once
        return _file(path, {}, entries, lambda names: {name: state[name] for name in names})

    def read(names: Collection[str]) -> dict[str, Tensor]:
        again = _unpickled(path)
        return {name: again[name] for name in names}

    return _file(path, {}, entries, read)


def _unpickled(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            begins = file.read(9)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    if not zipfile.is_zipfile(path) and begins[:1] != pickle.PROTO:
        if begins[8:] == b"{":
            raise CheckpointError(
                f"{path} looks like safetensors: name it so, .safetensors at the end"
            )
        raise CheckpointError(
            f"{path} is neither safetensors nor a checkpoint that torch saved: it may be cut short, or be "
            "something else under a wrong name"
        )
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            data = torch.load(
                path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
            )
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is not loaded, since its pickle holds more than tensors and settings and could "
            f"run code: {_offender(error, path)}. Where you trust it, save its state dict as safetensors "
            "(safetensors.torch.save_file) and give that"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(
            f"{path} is no readable checkpoint ({_first_line(error)}): it may be cut short, fetch it "
            "again"
        ) from error
    return _state_dict(data, path)


def _state_dict(data: Any, path: Path) -> dict[str, Tensor]:
    state = data.get("model", data) if isinstance(data, dict) else None
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(k, str) and isinstance(t, Tensor) for k, t in state.items())
    ):
        raise CheckpointError(
            f"{path} holds no state dict, neither by itself nor under 'model': give the weights file "
            "that the model's authors publish, or one that SAGE wrote"
        )
    return dict(state)


def _offender(error: Exception, path: Path) -> str:
    """What torch refused, from its long advice, or the first class in the pickle if that says nothing."""
    if "Unsupported operand" in str(error):
        return _first_global(path) or "a newer kind of pickle than torch writes"
    found = re.search(
        r"GLOBAL (\S+)|(Unsupported \w+ \S+|Trying to call \w+ for \S+.*)", str(error)
    )
    return next((text for text in found.groups() if text), "") if found else _first_line(error)


def _first_global(path: Path) -> str | None:
    """The first class or function that a plain pickle names; read, not run."""
    texts: list[str] = []
    with suppress(ValueError, OSError), path.open("rb") as file:
        for op, value, _ in pickletools.genops(file):
            if op.name == "STACK_GLOBAL" and len(texts) > 1:
                return ".".join(texts[-2:])
            if op.name == "GLOBAL":
                return str(value).replace(" ", ".")
            if isinstance(value, str):
                texts.append(value)
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _file(
    path: Path,
    metadata: Mapping[str, str],
    entries: Mapping[str, Entry],
    read: Callable[[Collection[str]], dict[str, Tensor]],
) -> WeightsFile:
    wrapped = bool(entries) and all(name.startswith(_WRAPPER) for name in entries)
    stored = {name.removeprefix(_WRAPPER) if wrapped else name: name for name in entries}
    named = {name: entries[old] for name, old in stored.items()}
    return WeightsFile(path, metadata, named, stored, read)
