"""Checkpoints: whole folders or nothing, found again by themselves, the older ones thinned.

``checkpoints/step_00000120/`` holds ``model.safetensors`` (weights and buffers as they stand after 120
steps), ``optimizer.pt`` (tensors and numbers only, read with ``weights_only=True``) and ``state.json``.
It is written under another name, flushed to the disk, and renamed; a folder with that name is whole.
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
from sage_core.training.files import flush

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


def save_checkpoint(folder: Path, model: nn.Module, optimizer: Optimizer, state: RunState) -> Path:
    """Write ``folder/step_…`` atomically; one that is there already is kept."""
    final = folder / f"step_{state.step:08d}"
    if final.exists():
        return final
    partial = folder / f".partial_{state.step:08d}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(_plain(model), partial / "model.safetensors")
    torch.save(optimizer.state_dict(), partial / "optimizer.pt")
    (partial / "state.json").write_text(json.dumps(asdict(state)))
    for file in partial.iterdir():
        flush(file)
    flush(partial)
    partial.rename(final)
    flush(folder)
    return final


def newest_checkpoint(folder: Path) -> Path | None:
    """The whole checkpoint with the most steps, or None."""
    whole = _whole(folder)
    return whole[-1] if whole else None


def load_checkpoint(
    path: Path, model: nn.Module, optimizer: Optimizer, fingerprint: str
) -> RunState:
    """Put weights, buffers and optimiser back as they were.

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
        model.load_state_dict(load_file(path / "model.safetensors"))
        moments = torch.load(path / "optimizer.pt", map_location="cpu", weights_only=True)
        optimizer.load_state_dict(moments)
    except _DAMAGE as error:
        raise CheckpointError(
            f"the checkpoint {path} is damaged ({type(error).__name__}): remove that folder, and the "
            "run goes on from the one before it"
        ) from error
    return state


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


def _plain(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
