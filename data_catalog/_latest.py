"""The latest event of each item of a stage, in little memory: an item costs its name and a number.

All else lies in blocks of compressed rows (:mod:`data_catalog._block`), and an event is made when it is
asked for. A row that a later one has replaced stays in its block until the process ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa

from data_catalog._block import ROWS, Block
from data_catalog._schema import STORED, StageEvent, rows, stored_event

_CONVERTED_AT_A_TIME = 1024
_Order = tuple[int, int]
_ORDER = tuple(STORED[name] for name in ("attempt", "sequence"))
_NONE = (0, 0)


class Latest:
    """The latest events of a stage by item, and the greatest sequence number that each has had.

    Threads may read while one of them, which its catalog sees to, takes in more.
    """

    def __init__(self, stage: str) -> None:
        self.changes = 0
        """How often an event has become the latest, or all were forgotten."""
        self._stage = stage
        self._places: dict[str, int] = {}
        self._blocks: list[Block] = []
        self._ahead: dict[str, int] = {}
        """The last sequence numbers of those items whose latest event has another, or that have none."""

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """The items."""
        return iter(self._places)

    def get(self, item: str) -> StageEvent | None:
        """The latest event of an item."""
        place = self._places.get(item)
        return None if place is None else self._event(item, place, self._blocks)

    def events(self) -> Iterator[StageEvent]:
        """The latest event of every item now, made one by one, in the order of the blocks, or nearly."""
        places, blocks = list(self._places.items()), self._blocks
        return (self._event(item, place, blocks) for item, place in places)

    def last_sequence(self, item: str) -> int:
        """The greatest sequence number that any event of the item has had; 0 if there was none."""
        return max((self._order(item) or _NONE)[1], self._ahead.get(item, 0))

    def take_in(self, batch: pa.RecordBatch) -> None:
        """Events come later than those known of their items, or only count among their numbers."""
        numbers: dict[str, int] = {}
        best: dict[str, tuple[_Order, int]] = {}
        for index, row in enumerate(rows(batch, "item", "attempt", "sequence")):
            item, attempt, sequence = row
            numbers[item] = max(sequence, numbers.get(item, 0))
            if item not in best or (attempt, sequence) > best[item][0]:
                best[item] = ((attempt, sequence), index)
        last = {item: max(n, self.last_sequence(item)) for item, n in numbers.items()}
        later = [
            (item, index)
            for item, (order, index) in sorted(best.items())
            if order > (self._order(item) or _NONE)
        ]
        # In the order of the items: neighbours in a plan are neighbours in a block.
        self._add(batch, [index for _, index in later])
        newest = {item: best[item][0] for item, _ in later}
        for item, number in last.items():
            if number == (newest.get(item) or self._order(item) or _NONE)[1]:
                self._ahead.pop(item, None)
            else:
                self._ahead[item] = number

    def forget(self) -> None:
        """Begin as if nothing had been read; sequence numbers go on."""
        self._ahead = {item: self.last_sequence(item) for item in {*self._places, *self._ahead}}
        self._places, self._blocks = {}, []
        self.changes += 1

    def _order(self, item: str) -> _Order | None:
        place = self._places.get(item)
        if place is None:
            return None
        block, row = self._blocks[place // ROWS], place % ROWS
        attempt, sequence = (block.value(column, row) for column in _ORDER)
        return attempt, sequence

    def _add(self, batch: pa.RecordBatch, indices: list[int]) -> None:
        for start in range(0, len(indices), _CONVERTED_AT_A_TIME):
            some = batch.take(pa.array(indices[start : start + _CONVERTED_AT_A_TIME], pa.int64()))
            self._put(some["item"].to_pylist(), (some[name].to_pylist() for name in STORED))

    def _put(self, items: list[str], columns: Iterable[list[object]]) -> None:
        for item, *row in zip(items, *columns, strict=True):
            if not self._blocks or self._blocks[-1].is_full:
                self._blocks.append(Block(len(STORED)))
            place = self._blocks[-1].add(row)
            # Other stages have the same items.
            self._places[sys.intern(item)] = (len(self._blocks) - 1) * ROWS + place
            self.changes += 1

    def _event(self, item: str, place: int, blocks: list[Block]) -> StageEvent:
        return stored_event(self._stage, item, blocks[place // ROWS], place % ROWS)
