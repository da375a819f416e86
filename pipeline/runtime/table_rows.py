"""What a state table holds, and what changes it: called for each thing that components remember.

`dagtel-native` has a class that does the same; see docs/decisions/0017-compiled-twins.md.
"""

from typing import Generic, TypeVar

import msgspec

from pipeline.runtime.changes import GONE

K = TypeVar("K", bound="str | int | tuple[str, ...]")
V = TypeVar("V")


class Missing:
    """Stands for no row."""


class Copy(msgspec.Struct, gc=False):
    """A value as it was, encoded."""

    data: bytes


MISSING = Missing()
encode = msgspec.msgpack.Encoder().encode

MARKS = (GONE, MISSING, encode, Copy)
"""What the twin uses, too."""


class TableRows(Generic[K, V]):
    """Rows, and beside them what changed since the last checkpoint and what the call in progress changed."""

    def __init__(self) -> None:
        self._rows: dict[K, V] = {}
        self._dirty: dict[K, object] = {}
        """What changed since the last checkpoint, each key with its present value, or GONE: so that a barrier need not
        look each of them up."""
        self._born: set[K] = set()
        """Those of them that came since then: gone again before the next checkpoint, they are never written at all."""
        self._undo: dict[K, V | Copy | Missing] = {}

    def put(self, key: K, value: V, /) -> None:
        if key not in self._undo:
            self._undo[key] = self._rows.get(key, MISSING)
        if key not in self._rows and key not in self._dirty:
            self._born.add(key)
        self._rows[key] = self._dirty[key] = value

    def edit(self, key: K, /) -> V | None:
        value = self._rows.get(key)
        if value is not None:
            if key not in self._undo:
                self._undo[key] = Copy(encode(value))
            self._dirty[key] = value
        return value

    def delete(self, key: K, /) -> None:
        if key in self._rows:
            self._undo.setdefault(key, self._rows.pop(key))
            if key in self._born:
                self._born.remove(key)
                del self._dirty[key]
            else:
                self._dirty[key] = GONE

    def __contains__(self, key: object, /) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)
