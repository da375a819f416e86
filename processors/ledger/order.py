"""Which row of a table is the oldest: an index in memory, rebuilt from the table whenever it may be wrong.

Invariant: every row's key stands in the heap, with a stamp not later than its own. Rows that are gone, and stamps that
have moved on, are put right when they come to the top.
"""

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

from pipeline.components import Table

V = TypeVar("V")
_SLACK = 1024


class Oldest(Generic[V]):
    """The rows of `table` by `stamp`, then by key."""

    def __init__(self, table: Table[str, V], stamp: Callable[[V], int]) -> None:
        self._table, self._stamp = table, stamp
        self._heap: list[tuple[int, str]] = []
        self.rebuild()

    def parts(self) -> tuple[object, ...]:
        """What a twin adds rows with; the same objects always."""
        return (self._heap, _SLACK, heapq.heappush, self.rebuild)

    def rebuild(self) -> None:
        """From the table alone. O(rows)."""
        self._heap[:] = [(self._stamp(value), key) for key, value in self._table.items()]
        heapq.heapify(self._heap)

    def add(self, key: str, value: V) -> None:
        """A row was put."""
        heapq.heappush(self._heap, (self._stamp(value), key))
        if len(self._heap) > 2 * len(self._table) + _SLACK:
            self.rebuild()

    def first(self) -> tuple[int, str] | None:
        """Stamp and key of the oldest row; None when there is none."""
        heap = self._heap
        while heap:
            stamp, key = heap[0]
            value = self._table.get(key)
            if value is None:
                heapq.heappop(heap)
            elif (now := self._stamp(value)) != stamp:
                heapq.heapreplace(heap, (now, key))
            else:
                return heap[0]
        return None
