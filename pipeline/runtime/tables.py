"""State tables: dicts that know what changed since the last checkpoint and can undo the call in progress.

Invariant: after `undo` a table equals what it was at `begin`; after `take_changes` the rows handed out plus the stored
ones equal the table as it was then. `edit` gives out a live value, so its undo is an encoded copy, made once a key and
call; a copy a call and key is cheap because a call is a batch (a hundred runs), not an event.
"""

from collections.abc import Callable, ItemsView, Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pipeline.errors import StateError
from pipeline.native import HAS_NATIVE, native
from pipeline.runtime.changes import GONE, Changes, Row, encoded, noted
from pipeline.runtime.still_types import is_still
from pipeline.runtime.table_rows import MARKS, Copy, Missing, TableRows, encode

if HAS_NATIVE and not TYPE_CHECKING:
    TableRows = native.TableRows

K = TypeVar("K", bound="str | int | tuple[str, ...]")
V = TypeVar("V")


class StateTable(TableRows[K, V]):
    """A table in memory. See `pipeline.components.Table` for what components may do with it."""

    marks = MARKS  # the twin asks for them here: it is made with our own arguments

    def __init__(self, owner: str, name: str, key: type[K], value: type[V], version: int) -> None:
        super().__init__()
        self.owner, self.name, self.version = owner, name, version
        self._still = is_still(value)
        self._decode = msgspec.msgpack.Decoder(value)
        self._decode_key = msgspec.msgpack.Decoder(key)
        # The dicts stay the same ones, so their own methods serve: half the time of ones that call them.
        self.get: Callable[[K], V | None] = self._rows.get
        self.items: Callable[[], ItemsView[K, V]] = self._rows.items
        self.begin: Callable[[], None] = self._undo.clear
        """A call begins: what it does can be undone."""

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
        return self._decode.decode(encode(plain))

    def undo(self) -> None:
        """Take back what the call in progress did."""
        for key, old in self._undo.items():  # what was born and deleted in the call is there again, too
            if isinstance(old, Missing):
                self._rows.pop(key, None)
                self._dirty[key] = GONE
            else:
                value = self._decode.decode(old.data) if isinstance(old, Copy) else old
                self._rows[key] = self._dirty[key] = value
        self._undo.clear()

    def take_dirty(self) -> list[Row]:
        """The rows changed since the last time, encoded; they count as clean from now on."""
        return self.take_changes().rows()

    def take_changes(self) -> Changes:
        """The same, encoded as far as they could change; the rest is for whoever makes rows of it."""
        self._undo.clear()
        keys: list[object] = list(self._dirty)
        values: list[object] = list(self._dirty.values())
        self._dirty.clear()
        self._born.clear()
        if self._still:
            return Changes(self.owner, self.name, self.version, keys, values, noted)
        values = [None if value is GONE else encode(value) for value in values]
        return Changes(self.owner, self.name, self.version, keys, values, encoded)
