"""Samples made ahead of their step by threads: decoding frees the interpreter's lock, order never changes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from sage_core.training.order import SampleId

T = TypeVar("T")


class Loader(Generic[T]):
    """Iterates over micro-batches of samples, in the order of their ids, some made ahead of time.

    Threads, not processes: the rasteriser's OpenMP pool does not survive a fork, and samples are pure
    functions of their ids, so there is no worker state to keep.
    """

    def __init__(
        self, make: Callable[[SampleId], T], batches: Iterable[list[SampleId]], threads: int
    ) -> None:
        self.waited_s = 0.0
        """Seconds that the training loop has waited for data so far."""
        self._make = make
        self._batches = iter(batches)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="samples")
        self._ahead: deque[list[Future[T]]] = deque()
        try:
            for _ in range(threads + 1):
                self._submit()
        except BaseException:  # nobody has the loader yet who could close it
            self.close()
            raise

    def __iter__(self) -> Iterator[list[T]]:
        while self._ahead:
            futures = self._ahead.popleft()
            started = time.perf_counter()
            batch = [future.result() for future in futures]
            self.waited_s += time.perf_counter() - started
            self._submit()
            yield batch

    def close(self) -> None:
        """Drop what was made ahead."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self) -> None:
        ids = next(self._batches, None)
        if ids is not None:
            self._ahead.append([self._pool.submit(self._make, one) for one in ids])
