"""Which of millions of hashes are near a given one, without comparing with all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sage_core.fingerprints._hashes import Hashes, distance

_AT_ONCE = 1 << 21


class HashIndex:
    """Multi-index hashing (Norouzi et al. 2012): equal in all bits of one of a few keys makes a candidate.

    With 6 keys of 20 of the 64 bits, hashes of which d bits differ at random meet with probability
    0.87 at d = 4, 0.35 at 8, 0.09 at 12: what is sought is found by one of its many pictures. A table takes
    four bytes a hash and four for each of its 2^bits places.
    """

    def __init__(self, hashes: Hashes, *, tables: int = 6, key_bits: int = 20) -> None:
        """Index uint64 [N] hashes; results name them by position."""
        self._hashes = hashes
        self._starts = [np.uint64(number * 64 // tables) for number in range(tables)]
        self._key_bits = key_bits
        self._tables = [_Table(_keys(hashes, s, key_bits), key_bits) for s in self._starts]

    def near(
        self, queries: Hashes, most: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]]:
        """Positions of queries [Q] and of hashes within ``most`` bits of them, and their distances.

        In portions, so that memory is bounded; a pair comes once for each key that it shares.
        """
        for start, table in zip(self._starts, self._tables, strict=True):
            for query, found in table.candidates(_keys(queries, start, self._key_bits)):
                bits = distance(queries[query], self._hashes[found])
                near = bits <= most
                yield query[near], found[near], bits[near]


class _Table:
    def __init__(self, keys: NDArray[np.int64], key_bits: int) -> None:
        self._order = np.argsort(keys, kind="stable").astype(np.int32)
        self._starts = np.zeros((1 << key_bits) + 1, np.int32)
        counts = np.bincount(keys, minlength=1 << key_bits)
        np.cumsum(counts, out=self._starts[1:])

    def candidates(
        self, keys: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """All pairs of a query and a hash with its key, in portions."""
        first = self._starts[keys].astype(np.int64)
        count = self._starts[keys + 1] - first
        ends = np.cumsum(count)
        start = 0
        while start < len(keys):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + _AT_ONCE, side="right")))
            part = slice(start, stop)
            query = np.repeat(np.arange(start, stop), count[part])
            within = np.arange(len(query)) - np.repeat(ends[part] - count[part] - done, count[part])
            yield query, self._order[first[query] + within].astype(np.int64)
            start = stop


def _keys(hashes: Hashes, start: np.uint64, key_bits: int) -> NDArray[np.int64]:
    """Neighbouring bits from ``start`` on: bits turn together in one band of frequency."""
    turned = (hashes >> start) | (hashes << (np.uint64(64) - start)) if start else hashes
    return (turned & np.uint64((1 << key_bits) - 1)).astype(np.int64)
