"""The order in which rows of a table are due, kept beside the table.

An entry counts only while its row says the same time, so what is over does no harm. What a call did to the order is not
undone when it raises: between `begin` and `done` the order is in doubt, and one that is still in doubt when it is asked
for is built anew.
"""

from collections.abc import Callable, Iterable
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

K = TypeVar("K", bound="str | int | tuple[str, ...]")


class Timers(Generic[K]):
    """`all_due` gives each row's time and key, `due_of` the present time of one; 0 and None mean never."""

    def __init__(self, all_due: Callable[[], Iterable[tuple[int, K]]], due_of: Callable[[K], int | None]) -> None:
        self._all, self._of = all_due, due_of
        self._heap: list[tuple[int, K]] = []
        self._in_doubt = True
        self._built = 0

    def due(self) -> int | None:
        """The earliest time."""
        self._settle()
        heap = self._heap
        while heap and self._of(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0] if heap else None

    def begin(self) -> None:
        """A call begins that may raise."""
        self._settle()
        self._in_doubt = True

    def done(self) -> None:
        """The call is over and has not raised."""
        self._in_doubt = False

    def set(self, at_ns: int, key: K) -> None:
        """The row of `key` is due then now; 0: never."""
        if at_ns:
            heappush(self._heap, (at_ns, key))

    def over(self, now_ns: int) -> list[K]:
        """The rows that are due at or before `now_ns`, in order; the caller gives each another time, or none."""
        found: dict[K, None] = {}
        while self._heap and self._heap[0][0] <= now_ns:
            at, key = heappop(self._heap)
            if self._of(key) == at:
                found[key] = None
        return list(found)

    def _settle(self) -> None:
        if self._in_doubt or len(self._heap) > 2 * self._built + 1000:
            self._heap = [(at, key) for at, key in self._all() if at]
            self._built = len(self._heap)
            self._in_doubt = False
            heapify(self._heap)
