"""State tables: dicts that know what changed since the last checkpoint and can undo the call in progress.

Invariant: after `undo` a table equals what it was at `begin`; after `take_changes` the rows handed out plus the stored
ones equal the table as it was then. `edit` gives out a live value, so its undo is an encoded copy, made once a key and
call; a copy a call and key is cheap because a call is a batch (a hundred runs), not an event.
"""

from collections.abc import Callable, ItemsView, Iterable, Mapping
from typing import Generic, TypeVar

import msgspec

from pipeline.errors import StateError
from pipeline.runtime.changes import GONE, Changes, Row, encoded, noted
from pipeline.runtime.still_types import is_still

K = TypeVar("K", bound="str | int | tuple[str, ...]")
V = TypeVar("V")


class _Missing:
    pass


class _Copy:
    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


_MISSING = _Missing()
_encode = msgspec.msgpack.Encoder().encode


class StateTable(Generic[K, V]):
    """A table in memory. See `pipeline.components.Table` for what components may do with it."""

    def __init__(self, owner: str, name: str, key: type[K], value: type[V], version: int) -> None:
        self.owner, self.name, self.version = owner, name, version
        self._rows: dict[K, V] = {}
        self._dirty: dict[K, object] = {}
        """What changed since the last checkpoint, each key with its present value, or GONE: so that a barrier need not
        look each of them up."""
        self._born: set[K] = set()
        """Keys that came since the last checkpoint: gone again before the next, they are never written at all."""
        self._undo: dict[K, V | _Copy | _Missing] = {}
        self._still = is_still(value)
        self._decode = msgspec.msgpack.Decoder(value)
        self._decode_key = msgspec.msgpack.Decoder(key)

    def get(self, key: K, /) -> V | None:
        return self._rows.get(key)

    def put(self, key: K, value: V, /) -> None:
        if key not in self._undo:
            self._undo[key] = self._rows.get(key, _MISSING)
        if key not in self._rows and key not in self._dirty:
            self._born.add(key)
        self._rows[key] = self._dirty[key] = value

    def edit(self, key: K, /) -> V | None:
        value = self._rows.get(key)
        if value is not None:
            if key not in self._undo:
                self._undo[key] = _Copy(_encode(value))
            self._dirty[key] = value
        return value

    def delete(self, key: K, /) -> None:
        if key in self._rows:
            if key not in self._undo:
                self._undo[key] = self._rows[key]
            del self._rows[key]
            if key in self._born:
                self._born.remove(key)
                self._dirty.pop(key, None)
            else:
                self._dirty[key] = GONE

    def items(self) -> ItemsView[K, V]:
        return self._rows.items()

    def __contains__(self, key: object, /) -> bool:
        return key in self._rows

    def __len__(self) -> int:
        return len(self._rows)

    # --- the runtime's side ---

    def load(self, rows: Iterable[tuple[bytes, int, bytes]], migrate: Mapping[int, Callable[[object], object]]) -> None:
        """Fill from stored (key, version, value) rows. Raises StateError for values it must not read."""
        for key, version, data in rows:
            try:
                decoded_key = self._decode_key.decode(key)
                if version == self.version:
                    self._rows[decoded_key] = self._decode.decode(data)
                else:
                    self._rows[decoded_key] = self._dirty[decoded_key] = self._lift(data, version, migrate)
            except msgspec.MsgspecError as error:
                raise StateError(
                    f"state of {self.owner}, table {self.name}: a stored value is damaged: {error}"
                ) from error

    def _lift(self, data: bytes, version: int, migrate: Mapping[int, Callable[[object], object]]) -> V:
        if version > self.version:
            raise StateError(
                f"state of {self.owner}, table {self.name} is of version {version}, this program knows {self.version}: "
                "run the newer program, or name the component in service.state.forget"
            )
        plain: object = msgspec.msgpack.decode(data)
        for step in range(version, self.version):
            if step not in migrate:
                raise StateError(
                    f"state of {self.owner}, table {self.name} is of version {version} and nothing lifts it from "
                    f"{step} to {step + 1}: name the component in service.state.forget to start it anew"
                )
            plain = migrate[step](plain)
        return self._decode.decode(_encode(plain))

    def begin(self) -> None:
        """A call begins: what it does can be undone."""
        self._undo.clear()

    def undo(self) -> None:
        """Take back what the call in progress did."""
        for key, old in self._undo.items():  # what was born and deleted in the call is there again, too
            if isinstance(old, _Missing):
                self._rows.pop(key, None)
                self._dirty[key] = GONE
            else:
                value = self._decode.decode(old.data) if isinstance(old, _Copy) else old
                self._rows[key] = self._dirty[key] = value
        self._undo.clear()

    def take_dirty(self) -> list[Row]:
        """The rows changed since the last time, encoded; they count as clean from now on."""
        return self.take_changes().rows()

    def take_changes(self) -> Changes:
        """The same, encoded as far as they could change; the rest is for whoever makes rows of it."""
        self._undo.clear()
        dirty, self._dirty, self._born = self._dirty, {}, set()
        values: list[object] = list(dirty.values())
        if self._still:
            return Changes(self.owner, self.name, self.version, list(dirty), values, noted)
        values = [None if value is GONE else _encode(value) for value in values]
        return Changes(self.owner, self.name, self.version, list(dirty), values, encoded)
