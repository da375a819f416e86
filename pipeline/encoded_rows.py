"""A table of state whose values are kept encoded: for many rows of which few are looked at.

A row of small objects takes several times its encoding: each text and number of it is an object of its own, and so is
each dict. What was looked at or put last is at hand decoded.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

import msgspec

from pipeline.contract.context import State, Table

V = TypeVar("V")

_encoder = msgspec.msgpack.Encoder()
_buffer = bytearray()


class EncodedRows(Generic[V]):
    """Rows by name, like a `Table`. Values are not to be changed in place.

    `at_hand`: how many are kept decoded. `alike`: among how many encodings equal ones are looked for; 0 where each
    holds its own name, so that there are none.
    """

    def __init__(
        self,
        state: State,
        name: str,
        value: type[V],
        version: int,
        migrate: Mapping[int, Callable[[object], object]] | None = None,
        at_hand: int = 1000,
        alike: int = 256,
    ) -> None:
        self._rows: Table[str, bytes] = state.table(name, str, bytes, version, migrate)
        self._decode = msgspec.msgpack.Decoder(value).decode
        self._recent: dict[str, tuple[bytes, V]] = {}
        self._same: dict[bytes, bytes] = {}
        """Rows put last: of equal ones there is one object. Of most runs of a job the same is known."""
        self._most, self._alike = at_hand, alike

    def parts(self) -> tuple[object, ...]:
        """What a twin changes as `put` and `delete` do; the same objects always."""
        return (self._rows, self._recent, self._same, self._most, self._alike, _encoder.encode)

    def get(self, key: str) -> V | None:
        """The value, to be read only; one object as long as it is at hand."""
        row = self._rows.get(key)
        if row is None:
            return None
        known = self._recent.get(key)
        if known is not None and known[0] is row:  # that very row: a call that was undone has put another one back
            return known[1]
        return self._at_hand(key, row, self._decode(row))

    def put(self, key: str, value: V) -> None:
        row = encoded(value)
        if self._alike:
            row = self._same.setdefault(row, row)
            if len(self._same) > self._alike:
                self._same.clear()
        self._rows.put(key, row)
        self._at_hand(key, row, value)

    def take(self, key: str) -> bytes | None:
        """The row as it stands, which leaves. None when there is none."""
        row = self._rows.get(key)
        self.delete(key)
        return row

    def read(self, row: bytes) -> V:
        """The value of a row that was taken."""
        return self._decode(row)

    def delete(self, key: str) -> None:
        """Remove it; a key that is not there is fine."""
        self._rows.delete(key)
        self._recent.pop(key, None)

    def items(self) -> Iterator[tuple[str, V]]:
        """Every row as it is now, decoded anew; they may be changed on the way."""
        for key, row in list(self._rows.items()):
            yield key, self._decode(row)

    def __contains__(self, key: object) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    def _at_hand(self, key: str, row: bytes, value: V) -> V:
        if len(self._recent) >= self._most:
            self._recent.clear()
        self._recent[key] = (row, value)
        return value


def encoded(value: object) -> bytes:
    """As it stands in a row; in `migrate` for the step from plain values to encoded ones."""
    _encoder.encode_into(value, _buffer)
    return bytes(_buffer)  # the encoder's own keeps half as much again for growing
