"""When a subject succeeded last, so that a failure which is read after a later success raises nothing that is over.

The partitions of the input are not read in the order of time: after an outage one may be hours ahead of the others.
Bounded: what succeeded longest ago is forgotten, and a failure from before that stays until the next success.
"""

from heapq import nsmallest
from typing import Final

from pipeline.components import State, Table

MOST: Final = 50_000
"""Subjects and partitions that are remembered."""


class LatestSuccesses:
    """Subject and partition → Unix ns of its latest success. `whole_assets`: a success of any partition is one of all.

    `fresh` holds those of the call in progress: `begin` clears it, `keep` puts it into the table.
    """

    def __init__(self, state: State, whole_assets: bool) -> None:
        self._table: Table[str, int] = state.table("succeeded", str, int, version=1)
        self._whole_assets = whole_assets
        self.fresh: dict[str, int] = {}

    def begin(self) -> None:
        """A call begins; one before it may have been undone."""
        self.fresh.clear()

    def add(self, name: str, partition: str | None, at_ns: int) -> None:
        """The subject succeeded."""
        self._note(f"{name}\0{partition or ''}", at_ns)
        if partition:
            self._note(_any(name), at_ns)

    def latest(self, name: str, partition: str | None) -> int:
        """When that which fails succeeded last, 0 if that is not known. Without a partition any success counts."""
        other = _any(name) if self._whole_assets or not partition else f"{name}\0{partition}"
        own, fresh, table = f"{name}\0", self.fresh, self._table
        return max(fresh.get(own, 0), table.get(own) or 0, fresh.get(other, 0), table.get(other) or 0)

    def keep(self) -> None:
        """The call is done."""
        table = self._table
        for key, at_ns in self.fresh.items():
            if at_ns > (table.get(key) or 0):
                table.put(key, at_ns)
        if len(table) > MOST:  # a quarter at once, so that the search is not made each time
            for key, _ in nsmallest(MOST // 4, table.items(), key=lambda item: (item[1], item[0])):
                table.delete(key)

    def _note(self, key: str, at_ns: int) -> None:
        if at_ns > self.fresh.get(key, 0):
            self.fresh[key] = at_ns


def _any(name: str) -> str:
    return f"{name}\0\0"
