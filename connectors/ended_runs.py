"""Which runs have ended, for who must not wait for more of them."""

from heapq import nsmallest
from typing import Final

from pipeline.components import State, Table
from pipeline.packed_rows import TOGETHER, PackedRows

_APART: Final = 1024
"""Runs that are rows of their own, those that ended last."""


class EndedRuns:
    """At most `most` runs, those that ended longest ago are forgotten first. Tables `ended` and `ended_before`."""

    def __init__(self, state: State, most: int) -> None:
        packed = max(0, most - _APART - TOGETHER) // TOGETHER
        self._last: Table[str, int] = state.table("ended", str, int, version=1)
        self._before = PackedRows(state, "ended_before", packed)
        self._most, self._moved = (_APART + TOGETHER, TOGETHER) if packed else (most, max(1, most // 8))
        self._packs = packed > 0

    def add(self, run: str, now_ns: int) -> None:
        """It ended at that domain time."""
        if len(self._last) >= self._most:
            count = max(self._moved, len(self._last) - self._most + 1)
            oldest = [name for name, _ in nsmallest(count, self._last.items(), key=lambda item: (item[1], item[0]))]
            for name in oldest:
                self._last.delete(name)
            for start in range(0, len(oldest) if self._packs else 0, TOGETHER):
                self._before.add(dict.fromkeys(oldest[start : start + TOGETHER], b""))
            self._before.trim()
        self._last.put(run, now_ns)

    def __contains__(self, run: object) -> bool:
        return run in self._last or run in self._before

    def __len__(self) -> int:
        return len(self._last) + len(self._before)
