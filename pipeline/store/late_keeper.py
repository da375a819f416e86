"""A history's writer that is loaded with the first record: SQLAlchemy takes 0.13 s, which no start has to spare."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from pipeline.alert_records import Record
from pipeline.store.place import Place

if TYPE_CHECKING:
    from pipeline.store.history_writes import HistoryWriter


class LateKeeper:
    """A `pipeline.alert_records.Keeper`; see `pipeline.store.history_writes`."""

    def __init__(self, place: Place, keep: int) -> None:
        self._place, self._keep = place, keep

    @cached_property
    def _writer(self) -> "HistoryWriter":
        from pipeline.store.history_writes import HistoryWriter

        return HistoryWriter(self._place, self._keep)

    def write(self, records: Sequence[Record], at_ns: int) -> None:
        self._writer.write(records, at_ns)

    def expire(self, before_ns: int) -> int:
        return self._writer.expire(before_ns)

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()
