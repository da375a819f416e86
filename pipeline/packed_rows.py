"""A table of state with many rows in each row of the store, for what is written once and nearly never looked at.

A row of its own takes 150 to 280 bytes of memory with its key and its places in table and order. Packed it takes 30 to
90, of which 8 are the index: the upper bits of the key's hash, and in which row it lies. A hit is looked up, so a hash
that two keys have in common costs time and is not taken for the key.
"""

import zlib
from array import array
from bisect import bisect_left, insort
from collections.abc import Mapping
from typing import Final

import msgspec

from pipeline.contract.context import State, Table
from pipeline.errors import StateError

TOGETHER: Final = 256
"""Rows that are best put together: more take longer to look up, fewer are packed less well."""
_PLACE: Final = (1 << 20) - 1
"""Bits of an entry that say in which row; there are never so many rows."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, bytes]).decode


class PackedRows:
    """Bytes by name, put many at a time, at most `most` times; then the oldest go, all that were put together. A name
    that was put twice has what was put last.

    It follows its table: a call that is undone needs to tell nobody. Raises StateError for a row that is damaged.
    """

    def __init__(self, state: State, name: str, most: int) -> None:
        self._rows: Table[int, bytes] = state.table(name, int, bytes, version=1)
        self._name, self._most = name, most
        self._last: tuple[bytes, dict[str, bytes]] = b"", {}
        self._read()

    def add(self, values: Mapping[str, bytes]) -> None:
        """Put these together."""
        self._follow()
        number = self._next
        self._rows.put(number, zlib.compress(_encode(values), 1))
        self._next += 1
        for name in values:
            insort(self._index, _entry(name, number))
        self.trim()

    def trim(self) -> None:
        """Let those go that are too many."""
        self._follow()
        while self._next - self._first > self._most:
            for name in self._packed(self._first):
                del self._index[bisect_left(self._index, _entry(name, self._first))]
            self._rows.delete(self._first)
            self._first += 1

    def get(self, name: str) -> bytes | None:
        """What was put for the name."""
        if not self._index:
            return None
        self._follow()
        index, lowest = self._index, hash(name) & ~_PLACE
        at = bisect_left(index, lowest)
        if at == len(index) or index[at] | _PLACE != lowest | _PLACE:  # as nearly always
            return None
        rows = map(self._packed, self._places(at))
        return next((found for row in rows if (found := row.get(name)) is not None), None)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __len__(self) -> int:
        """Of a name that was put twice, both."""
        self._follow()
        return len(self._index)

    def _places(self, at: int) -> list[int]:
        """The rows of this entry and of those with the same hash behind it, the latest first."""
        index, highest, found = self._index, self._index[at] | _PLACE, list[int]()
        while at < len(index) and index[at] <= highest:
            found.append(self._first + ((index[at] - self._first) & _PLACE))
            at += 1
        return sorted(found, reverse=True)

    def _packed(self, number: int) -> dict[str, bytes]:
        row = self._rows.get(number)
        if row is None:
            return {}
        if self._last[0] is not row:
            try:
                self._last = row, _decode(zlib.decompress(row))
            except (zlib.error, msgspec.MsgspecError) as error:
                raise StateError(f"state table {self._name}: row {number} is damaged: {error}") from error
        return self._last[1]

    def _follow(self) -> None:
        """Begin anew if the call was undone that put the last row. A row that goes goes with one that is put."""
        if self._first != self._next and self._rows.get(self._next - 1) is None:
            self._read()

    def _read(self) -> None:
        numbers = sorted(number for number, _ in self._rows.items())
        self._first, self._next = (numbers[0], numbers[-1] + 1) if numbers else (1, 1)
        self._index = array("q", sorted(_entry(name, number) for number in numbers for name in self._packed(number)))


def _entry(name: str, number: int) -> int:
    return hash(name) & ~_PLACE | number & _PLACE
