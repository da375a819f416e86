"""How many partitions a backfill is to make, so that "44 of 1,000 partitions failed" can be said.

The event log tells of each run of a backfill what it plans; how many there will be, it does not. So it is as many as
were planned so far: Dagster makes a backfill's runs long before they are worked off. A run that is tried again plans
the same partition again and does not count.
"""

from typing import Final

import msgspec

from pipeline.components import State, Table
from pipeline.facts import RunFacts
from pipeline.outcomes import AssetPlanned

MOST: Final = 1000
"""Backfills and assets that are counted; the oldest are forgotten."""


class Planned(msgspec.Struct, frozen=True, gc=False):
    """Partitions that were planned, and when the last was (domain time)."""

    count: int
    at_ns: int


class Backfills:
    """Backfill and asset → how many partitions."""

    def __init__(self, state: State) -> None:
        self._table: Table[tuple[str, str], Planned] = state.table("backfills", tuple[str, str], Planned, version=1)

    def plans(self, run: RunFacts | None, o: AssetPlanned, now_ns: int) -> None:
        """A run plans a partition of an asset."""
        if run is None or not run.backfill or o.partition is None or run.parent_run_id:
            return
        key = (run.backfill, o.asset)
        known = self._table.get(key)
        self._table.put(key, Planned(known.count + 1 if known is not None else 1, now_ns))
        if len(self._table) > MOST:  # half at once, so that the search is not made each time
            oldest = sorted(self._table.items(), key=lambda item: (item[1].at_ns, item[0]))
            for gone, _ in oldest[: MOST // 2]:
                self._table.delete(gone)

    def partitions(self, run: RunFacts | None, asset: str) -> int:
        """How many partitions of the asset the run's backfill has planned; 0 for a run of none."""
        known = self._table.get((run.backfill, asset)) if run is not None and run.backfill else None
        return known.count if known is not None else 0
