"""Rows of which few are looked into, held in a tenth of their room.

Some rows are kept together, column by column, compressed as soon as there are enough of them. Whoever goes
through them in order finds the neighbours' values unpacked.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

ROWS = 128
_UNPACKED = 512
"""Columns of blocks that stay unpacked, some 30 MB: a plan, in the order of items, has one block in use
for each column that it asks for and each some thousand events that came together."""
_SAME = -1
"""In place of a size: all rows have the value that is in place of the data."""
_CODEC = pa.Codec("zstd")


class Block:
    """Rows, a list a column; they come one by one and never change.

    Threads may read while one of them, which its catalog sees to, adds.
    """

    __slots__ = ("_growing", "_packed")

    def __init__(self, columns: int) -> None:
        self._growing: list[list[Any]] | None = [[] for _ in range(columns)]
        self._packed: list[tuple[int, Any]] = []

    def add(self, row: Sequence[Any]) -> int:
        """Take in a row, unless the block is full, and return its place."""
        assert self._growing is not None, "the block is not full"
        place = len(self._growing[0])
        for column, value in zip(self._growing, row, strict=True):
            column.append(value)
        if place + 1 == ROWS:
            self._packed = [_packed(column) for column in self._growing]
            self._growing = None
        return place

    @property
    def is_full(self) -> bool:
        return self._growing is None

    def value(self, column: int, place: int) -> Any:
        """One value."""
        growing = self._growing  # once: it may be packed any moment
        if growing is not None:
            return growing[column][place]
        size, data = self._packed[column]
        return data if size == _SAME else _unpacked(self, column)[place]

    def unpacked(self, column: int) -> list[Any]:
        """A column of a full block whose values differ, made anew."""
        size, data = self._packed[column]
        values: list[Any] = pickle.loads(_CODEC.decompress(data, size, asbytes=True))  # noqa: S301
        return values


def _packed(values: list[Any]) -> tuple[int, Any]:
    first = values[0]
    if all(value == first for value in values):
        return _SAME, first
    data = pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    return len(data), _CODEC.compress(data, asbytes=True)


@lru_cache(_UNPACKED)
def _unpacked(block: Block, column: int) -> list[Any]:
    return block.unpacked(column)
