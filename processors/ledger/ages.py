"""Which of many rows is the oldest, in 16 bytes a row: `order.Oldest` takes 120, but its stamps may change."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final

_SLACK: Final = 1024


class Ages:
    """Keys by stamp, then by key. New ones are nearly the youngest, so putting one in its place moves little."""

    def __init__(self, rows: Iterable[tuple[int, str]]) -> None:
        self.rebuild(rows)

    def rebuild(self, rows: Iterable[tuple[int, str]]) -> None:
        """From these rows alone."""
        ordered = sorted(rows)
        self._stamps = array("q", [stamp for stamp, _ in ordered])
        self._keys = [key for _, key in ordered]
        self._first = 0  # what stands before has been taken

    def add(self, stamp: int, key: str) -> None:
        """O(rows that are younger)."""
        stamps = self._stamps
        if stamps and stamp > stamps[-1]:  # as nearly always
            stamps.append(stamp)
            self._keys.append(key)
            return
        low = bisect_left(stamps, stamp, self._first)
        at = bisect_left(self._keys, key, low, bisect_right(stamps, stamp, low))
        stamps.insert(at, stamp)
        self._keys.insert(at, key)

    def take(self) -> str | None:
        """The oldest key, which leaves; None when there is none."""
        if self._first == len(self._keys):
            return None
        key = self._keys[self._first]
        self._first += 1
        if self._first > _SLACK and self._first > len(self._keys) // 8:
            del self._keys[: self._first], self._stamps[: self._first]
            self._first = 0
        return key
