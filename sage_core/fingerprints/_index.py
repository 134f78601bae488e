"""Which of millions of hashes are near a given one, without comparing with all of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sage_core.fingerprints._hashes import Hashes, distance

_TABLES, _KEY_BITS = 6, 20
_AT_ONCE = 1 << 21


class HashIndex:
    """Multi-index hashing (Norouzi et al. 2012): equal in all bits of one of six keys makes a candidate.

    A key is 20 of the 64 bits, so hashes that differ by d bits meet with probability 0.87 at d = 4,
    0.35 at 8, 0.09 at 12: what is sought is found by one of its many pictures. A table takes
    four bytes a hash and four MiB.
    """

    def __init__(self, hashes: Hashes) -> None:
        """Index uint64 [N] hashes; results name them by position."""
        self._hashes = hashes
        self._tables = [_Table(_keys(hashes, number)) for number in range(_TABLES)]

    def near(
        self, queries: Hashes, most: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]]:
        """Positions of queries [Q] and of hashes within ``most`` bits of them, and their distances.

        In portions, so that memory is bounded; a pair comes up to six times.
        """
        for number, table in enumerate(self._tables):
            for query, found in table.candidates(_keys(queries, number)):
                bits = distance(queries[query], self._hashes[found])
                near = bits <= most
                yield query[near], found[near], bits[near]


class _Table:
    def __init__(self, keys: NDArray[np.int64]) -> None:
        self._order = np.argsort(keys, kind="stable").astype(np.int32)
        self._starts = np.zeros((1 << _KEY_BITS) + 1, np.int32)
        counts = np.bincount(keys, minlength=1 << _KEY_BITS)
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


def _keys(hashes: Hashes, number: int) -> NDArray[np.int64]:
    """Twenty neighbouring bits, each table beginning elsewhere: what turns, turns in one band of frequency."""
    start = np.uint64(number * 64 // _TABLES)
    turned = (hashes >> start) | (hashes << (np.uint64(64) - start)) if start else hashes
    return (turned & np.uint64((1 << _KEY_BITS) - 1)).astype(np.int64)
