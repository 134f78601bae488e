"""Two-dimensional rotary position embedding (RoFormer's, one axis per half of a head)."""

from __future__ import annotations

import torch
from torch import Tensor

Rotary = tuple[Tensor, Tensor]
"""Cosine and sine [N, d] of every token's angles."""


def grid_positions(rows: int, columns: int, device: torch.device) -> Tensor:
    """Row and column [N, 2], from 0, of the tokens of a row-major grid."""
    y = torch.arange(rows, device=device, dtype=torch.float32).repeat_interleave(columns)
    x = torch.arange(columns, device=device, dtype=torch.float32).repeat(rows)
    return torch.stack((y, x), dim=-1)


def rotary_table(positions: Tensor, width: int, base: float) -> Rotary:
    """The rotation of tokens at positions [N, 2] (row, column), for heads of ``width`` numbers.

    The first half of a head turns with the token's row, the second with its column. The positions
    say nothing of the view, so one table serves all views.
    """
    half = width // 2
    steps = torch.arange(0, half, 2, device=positions.device, dtype=torch.float32)
    frequencies = base ** (-steps / half)
    angle_y, angle_x = (positions[:, axis, None] * frequencies for axis in (0, 1))
    angles = torch.cat((angle_y, angle_y, angle_x, angle_x), dim=-1)
    return angles.cos(), angles.sin()


def rotate(tokens: Tensor, table: Rotary) -> Tensor:
    """Turn queries or keys [..., N, d]; number j pairs with j + d/4 within each half."""
    cosine, sine = table
    y1, y2, x1, x2 = tokens.chunk(4, dim=-1)
    return tokens * cosine + torch.cat((-y2, y1, -x2, x1), dim=-1) * sine
