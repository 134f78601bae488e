"""Checkpoints: whole folders or nothing, found again by themselves, the older ones thinned.

``checkpoints/step_00000120/`` holds ``model.safetensors`` (weights, adapters and buffers as they stand
after 120 steps), ``average.safetensors`` (the weights' moving average, where there is one), ``optimizer.pt``
(tensors and numbers only, read with ``weights_only=True``) and ``state.json``. All tensors are whole, however
the run is spread over its ranks. It is written under another name, flushed to the disk, and renamed; a folder
with that name is whole.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from sage_core.errors import CheckpointError
from sage_core.training.average import WeightAverage
from sage_core.training.failures import is_out_of_memory
from sage_core.training.files import flush
from sage_core.training.parallel import gathered, gathered_moments, restore_moments, scattered
from sage_core.training.ranks import Ranks

_DAMAGE = (
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
)
_NAME = re.compile(r"step_(\d{8,})")


@dataclass(frozen=True)
class RunState:
    """What a run must know besides weights and optimiser to go on as if it had never stopped.

    Attributes:
        step: optimiser steps done, so also the number of the next one.
        fingerprint: hash over all that decides the result (settings, seed, data, base weights).
        skipped: steps that were skipped because loss or gradient was not finite.
    """

    step: int
    fingerprint: str
    skipped: tuple[int, ...] = ()


@dataclass(frozen=True)
class Trained:
    """What changes in a run, and so makes up a checkpoint."""

    model: nn.Module
    optimizer: Optimizer
    average: WeightAverage | None = None


def save_checkpoint(folder: Path, trained: Trained, state: RunState, ranks: Ranks) -> None:
    """Write ``folder/step_…`` atomically; one that is there already is kept. All ranks must call it.

    Tensors are gathered and written file by file, so that no more than one file's are in memory.
    """
    final = folder / f"step_{state.step:08d}"
    if ranks.any([final.exists()])[0]:
        return
    partial = folder / f".partial_{state.step:08d}"
    if ranks.first:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
    _write_tensors(
        partial / "model.safetensors", gathered(trained.model.state_dict(), ranks), ranks
    )
    if trained.average:
        _write_tensors(partial / "average.safetensors", trained.average.gathered(ranks), ranks)
    moments = gathered_moments(trained.optimizer, ranks)
    if ranks.first:
        torch.save(moments, partial / "optimizer.pt")
        (partial / "state.json").write_text(json.dumps(asdict(state)))
        _seal(partial, final)


def _write_tensors(path: Path, tensors: dict[str, Tensor], ranks: Ranks) -> None:
    if ranks.first:
        save_file(tensors, path)


def _seal(partial: Path, final: Path) -> None:
    for file in partial.iterdir():
        flush(file)
    flush(partial)
    partial.rename(final)
    flush(final.parent)


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the most steps, or None."""
    whole = _whole(folder)
    return whole[-1] if whole else None


def load_checkpoint(path: Path, trained: Trained, fingerprint: str) -> RunState:
    """Put weights, buffers, average and optimiser back as they were, on every rank.

    Raises:
        CheckpointError: of another run (settings, data or base weights differ), or damaged.
    """
    try:
        data = json.loads((path / "state.json").read_text())
        state = RunState(data["step"], data["fingerprint"], tuple(data["skipped"]))
        if state.fingerprint != fingerprint:
            raise CheckpointError(
                f"{path} belongs to a run with other settings, data or base weights "
                f"({state.fingerprint}, this run is {fingerprint}): give the run its own folder"
            )
        _restore(path, trained)
    except _DAMAGE as error:
        if is_out_of_memory(error) or isinstance(error, PermissionError):
            raise  # a whole checkpoint, which nobody should remove
        raise CheckpointError(
            f"the checkpoint {path} is damaged ({type(error).__name__}): remove that folder, and the "
            "run goes on from the one before it"
        ) from error
    return state


def _restore(path: Path, trained: Trained) -> None:
    tensors, there = load_file(path / "model.safetensors"), trained.model.state_dict()
    placed = {n: scattered(t, there[n]) if n in there else t for n, t in tensors.items()}
    trained.model.load_state_dict(placed)
    if trained.average:
        trained.average.restore(load_file(path / "average.safetensors"))
    moments = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
    restore_moments(trained.optimizer, moments)


def thin_checkpoints(folder: Path, keep: int) -> None:
    """Remove all whole checkpoints but the newest ``keep``, and what interrupted writers left."""
    for old in _whole(folder)[: -keep or None]:
        shutil.rmtree(old, ignore_errors=True)
    for partial in folder.glob(".partial_*"):
        shutil.rmtree(partial, ignore_errors=True)


def _whole(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match)]
