"""Where MV-DUSt3R's tokens stand for the rotary embedding: patches count from 0, base 100."""

from __future__ import annotations

import torch

from sage_core.models import _rope

BASE = 100.0


def rotary_table(rows: int, columns: int, width: int, device: torch.device) -> _rope.Rotary:
    """The rotation of the tokens of a row-major grid, for heads of ``width`` numbers."""
    return _rope.rotary_table(_rope.grid_positions(rows, columns, device), width, BASE)
