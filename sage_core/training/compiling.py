"""``torch.compile``, block by block."""

from __future__ import annotations

import torch
from torch import Tensor

from sage_core.errors import ConfigError
from sage_core.models import GeometricModel

_FORMS = 64


def compile_blocks(model: GeometricModel, *, dynamic: bool) -> None:
    """Compile each of the trunk's blocks in place; names and keys stay as they are.

    Blocks of one class share their code, so that compiling takes as long as for one of each. ``dynamic``:
    whether the number of views changes from step to step, for which no code of its own is made each time.

    Raises:
        ConfigError: nothing here can compile for the model's device.
    """
    _probe(model.device)
    # Each kind of block, with and without gradient, for each shape: beyond the limit torch compiles no more.
    torch._dynamo.config.recompile_limit = max(_FORMS, torch._dynamo.config.recompile_limit)
    for block in model.blocks():
        block.compile(dynamic=None if dynamic else False)


def _probe(device: torch.device) -> None:
    """Compile something small, so that what is missing shows before data and weights are used."""
    try:
        torch.compile(_double)(torch.ones(8, device=device))
    except Exception as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        needs = "a C++ compiler" if device.type == "cpu" else "Triton and a C compiler"
        raise ConfigError(
            f"adapt.compile is on and torch.compile does not work on {device.type} here ({first}): it needs "
            f"{needs}; install that, or switch adapt.compile off"
        ) from error
    finally:
        torch._dynamo.reset()


def _double(numbers: Tensor) -> Tensor:
    return 2 * numbers + 1
