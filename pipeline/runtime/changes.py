"""What changed in state tables, as it stood at a barrier; rows are made of it by whoever writes them.

Values that nothing can change in place (`pipeline.runtime.still_types`) are only noted at the barrier and encoded
later, beside the loop: of 33,000 rows of a checkpoint that is 40 ms which the intake does not wait for. All others are
encoded at once, for the next call may edit them. Either way the rows say what the table was at the barrier.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

import msgspec

from pipeline.store.state import StateRow

_encode = msgspec.msgpack.Encoder().encode

GONE = object()
"""Stands for the value of a row to delete."""


class Row(msgspec.Struct, frozen=True, gc=False):
    """One changed row of one table: `value` is None for a row to delete."""

    owner: str
    table: str
    key: bytes
    version: int
    value: bytes | None


class Changes(msgspec.Struct, frozen=True, gc=False):
    """Those of one table: keys, and beside each what `encode` makes its stored value of, None for a row to delete."""

    owner: str
    table: str
    version: int
    keys: Sequence[object]
    values: Sequence[object]
    encode: Callable[[object], bytes | None]

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self) -> list[Row]:
        """One by one, encoded."""
        owner, table, version = self.owner, self.table, self.version
        return [Row(owner, table, key, version, value) for key, value in self.encoded()]

    def encoded(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Keys and values as they are stored."""
        encode = self.encode
        for key, value in zip(self.keys, self.values, strict=True):
            yield _encode(key), encode(value)


def noted(value: object) -> bytes | None:
    """The stored value of one that was only noted."""
    return None if value is GONE else _encode(value)


def encoded(value: object) -> bytes | None:
    """The stored value of one that was encoded at the barrier."""
    return value if isinstance(value, bytes) else None


class StateRows(Sequence[StateRow]):
    """The changed rows of several shards. How many is known; each is made when it is asked for, each time anew.

    All at once, with what a driver makes of them, 6,000 rows were 4 MiB just when a checkpoint is written.
    """

    def __init__(self, changes: Iterable[tuple[str, Changes]]) -> None:
        self._changes = [(shard, changed) for shard, changed in changes if changed]
        self._count = sum(len(changed) for _, changed in self._changes)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[StateRow]:
        for shard, changed in self._changes:
            owner, table, version = changed.owner, changed.table, changed.version
            for key, value in changed.encoded():
                yield StateRow(shard, owner, table, key, version, value)

    @overload
    def __getitem__(self, at: int) -> StateRow: ...
    @overload
    def __getitem__(self, at: slice) -> list[StateRow]: ...
    def __getitem__(self, at: int | slice) -> StateRow | list[StateRow]:
        return list(self)[at]
