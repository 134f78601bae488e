"""The inner loop of :class:`HashIndex`, compiled: a hundred thousand clips ask it two billion questions."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_compiled = numba.njit(cache=True, nogil=True)


@_compiled  # type: ignore[untyped-decorator]
def look_up(
    queries: NDArray[np.uint64],
    order: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int32],
    shifts: NDArray[np.uint64],
    mask: np.uint64,
    most: np.uint64,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
    """See :meth:`HashIndex.near`; tables [T, ...] in the order of their keys."""
    query, found, bits = np.empty(64, np.int64), np.empty(64, np.int64), np.empty(64, np.uint8)
    count = 0
    for q in range(len(queries)):
        for t in range(len(shifts)):
            key = np.int64(_turned(queries[q], shifts[t]) & mask)
            for k in range(starts[t, key], starts[t, key + 1]):
                odd = queries[q] ^ hashes[t, k]
                away = _ones(odd)
                if away > most or _met_before(odd, shifts, mask, t):
                    continue
                if count == len(query):
                    query, found = _doubled(query), _doubled(found)
                    bits = np.append(bits, np.empty_like(bits))
                query[count], found[count], bits[count] = q, order[t, k], away
                count += 1
    return query[:count], found[:count], bits[:count]


@_compiled  # type: ignore[untyped-decorator]
def _doubled(values: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.append(values, np.empty_like(values))


@_compiled  # type: ignore[untyped-decorator]
def _turned(value: np.uint64, shift: np.uint64) -> np.uint64:
    if shift == np.uint64(0):
        return value
    return (value >> shift) | (value << (np.uint64(64) - shift))


@_compiled  # type: ignore[untyped-decorator]
def _met_before(odd: np.uint64, shifts: NDArray[np.uint64], mask: np.uint64, table: int) -> bool:
    """Whether an earlier table's key is the same: no bit of it differs."""
    for t in range(table):  # noqa: SIM110  (compiled)
        if _turned(odd, shifts[t]) & mask == np.uint64(0):
            return True
    return False


@_compiled  # type: ignore[untyped-decorator]
def _ones(value: np.uint64) -> np.uint64:
    """Number of bits set, by adding neighbours (Warren, Hacker's Delight)."""
    value = value - ((value >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = np.uint64(0x3333333333333333)
    value = (value & fours) + ((value >> np.uint64(2)) & fours)
    value = (value + (value >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (value * np.uint64(0x0101010101010101)) >> np.uint64(56)
