"""Two-dimensional rotary position embedding (RoFormer's, one axis per half of a head; base 100)."""

from __future__ import annotations

import torch
from torch import Tensor

BASE = 100.0

Rotary = tuple[Tensor, Tensor]
"""Cosine and sine [N, d] of every token's angles."""


def rotary_table(rows: int, columns: int, width: int, device: torch.device) -> Rotary:
    """The rotation of the tokens of a row-major grid, for heads of ``width`` numbers.

    The first half of a head turns with the token's row, the second with its column. The positions
    say nothing of the view, so one table serves all views.
    """
    half = width // 2
    frequencies = BASE ** (-torch.arange(0, half, 2, device=device, dtype=torch.float32) / half)
    y = torch.arange(rows, device=device, dtype=torch.float32).repeat_interleave(columns)
    x = torch.arange(columns, device=device, dtype=torch.float32).repeat(rows)
    angle_y, angle_x = y[:, None] * frequencies, x[:, None] * frequencies
    angles = torch.cat((angle_y, angle_y, angle_x, angle_x), dim=-1)
    return angles.cos(), angles.sin()


def rotate(tokens: Tensor, table: Rotary) -> Tensor:
    """Turn queries or keys [..., N, d]; number j pairs with j + d/4 within each half."""
    cosine, sine = table
    y1, y2, x1, x2 = tokens.chunk(4, dim=-1)
    return tokens * cosine + torch.cat((-y2, y1, -x2, x1), dim=-1) * sine
