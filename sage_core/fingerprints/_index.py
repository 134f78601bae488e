"""Which of millions of hashes are near a given one, without comparing with all of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sage_core.fingerprints._hashes import Hashes


class HashIndex:
    """Multi-index hashing (Norouzi et al. 2012): equal in all bits of one of a few keys makes a candidate.

    With 6 keys of 20 of the 64 bits, hashes of which d bits differ at random meet with probability
    0.87 at d = 4, 0.35 at 8, 0.09 at 12: what is sought is found by one of its many pictures. A table takes
    twelve bytes a hash and four for each of its 2^bits places: hashes lie in the order of their keys, so that
    a look-up reads memory in one place.
    """

    def __init__(self, hashes: Hashes, *, tables: int = 6, key_bits: int = 20) -> None:
        """Index uint64 [N] hashes; results name them by position."""
        self._shifts = np.arange(tables, dtype=np.uint64) * np.uint64(64) // np.uint64(tables)
        self._mask = np.uint64((1 << key_bits) - 1)
        self._order = np.empty((tables, len(hashes)), np.int32)
        self._sorted = np.empty((tables, len(hashes)), np.uint64)
        self._starts = np.zeros((tables, (1 << key_bits) + 1), np.int32)
        for table, shift in enumerate(self._shifts):
            keys = _keys(hashes, shift, self._mask)
            self._order[table] = np.argsort(keys, kind="stable")
            self._sorted[table] = hashes[self._order[table]]
            counts = np.bincount(keys, minlength=1 << key_bits)
            np.cumsum(counts, out=self._starts[table, 1:])

    def near(
        self, queries: Hashes, most: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.uint8]]:
        """Positions of queries [Q] and of hashes within ``most`` bits of them, and their distances.

        Each pair once, in order of queries, whatever number of keys it shares.
        """
        from sage_core.fingerprints._lookup import look_up

        query, found, bits = look_up(
            queries,
            self._order,
            self._sorted,
            self._starts,
            self._shifts,
            self._mask,
            np.uint64(most),
        )
        return query, found, bits


def _keys(hashes: Hashes, shift: np.uint64, mask: np.uint64) -> NDArray[np.int64]:
    """Neighbouring bits from ``shift`` on: bits turn together in one band of frequency."""
    turned = (hashes >> shift) | (hashes << (np.uint64(64) - shift)) if shift else hashes
    return (turned & mask).astype(np.int64)
