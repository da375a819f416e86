"""Ids of outbox rows and dead letters: they grow, and no two processes on one store ever share one."""

from itertools import count


class Ids:
    """`generation` is counted up in the store at each start; an id is generation and sequence in 63 bits."""

    def __init__(self, generation: int) -> None:
        self._next = count((generation << 40) + 1)

    def next(self) -> int:
        """A fresh id, larger than all before it."""
        return next(self._next)
