"""One partition that is being read: records become a `Read`, and the position moves. Pure: no broker, no clock."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Protocol, TypeAlias, cast

from pipeline.components import Read, Rejected
from pipeline.errors import DecodeError
from pipeline.events import Event
from receivers.kafka_options import OnRecreated
from receivers.kafka_positions import Start, anew, fingerprint, last_offset, moved, position_after, shorter

Headers: TypeAlias = tuple[tuple[str, bytes], ...]
MILLISECOND = 1_000_000
TOMBSTONE = "the record has no value (a tombstone); Dagster's events have one"
_value_of = itemgetter(1)


class Decode(Protocol):
    """Bytes to an event, or a list of them; raises DecodeError. See `receivers.dagster_wire.decode`."""

    def __call__(
        self,
        raw: bytes,
        source: str,
        offset: int,
        record_ns: int = 0,
        headers: Headers = (),
        texts: dict[str, str] | None = None,
    ) -> Event | list[Event]: ...


class DecodeAll(Protocol):
    """Many records at once: their events, None where `Decode` has to look, how many of these there are, and the bytes
    of the others. None where it cannot. See `receivers.wire_native`."""

    def __call__(self, records: Sequence[Any], source: str, /) -> tuple[list[Event | None], int, int] | None: ...


class Record(Protocol):
    """What we use of a Kafka record; `timestamp` in milliseconds, -1 where there is none."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


class Partition:
    """Where one partition stands. `position` is that of the last `Read` handed out, put or not.

    `seek_to`: where the broker's cursor has to be set before the next fetch, None when it stands right.
    `goal`: the end that was there when the first fetch was answered, None until then.
    """

    def __init__(
        self,
        source: str,
        start: Start,
        begin: int,
        end: int,
        on_recreated: OnRecreated,
        decode: Decode,
        decode_all: DecodeAll | None = None,
    ) -> None:
        self.source, self._on_recreated, self._decode, self._decode_all = source, on_recreated, decode, decode_all
        self._holds_several = False
        self.restart(start, begin, end)

    def restart(self, start: Start, begin: int, end: int, goal: int | None = None) -> None:
        """Go on at `start` in a partition that now holds the offsets from `begin` to before `end`."""
        self.position, self.end = start.position, end
        self.seek_to: int | None = start.fetch
        self.goal = goal
        self._check, self._begin = start.check, begin

    def recheck(self) -> None:
        """Fetch again from the record read last, and see whether the partition is still the one that was read."""
        last = last_offset(self.position)
        if self._check is None and last is not None and last >= self._begin:
            self._check = last
        self.seek_to = self.position.next if self._check is None else self._check

    @property
    def is_at_goal(self) -> bool:
        """What was there when reading began has been read."""
        return self.goal is not None and self.position.next >= self.goal

    @property
    def lag(self) -> int:
        """Records that are known to be there and not read."""
        return max(0, self.end - self.position.next)

    def opening(self) -> Read[object]:
        """An empty read that tells where we begin: it pins a first position, and says whether we are behind."""
        return self._read((), (), 0)

    def advance(self, next_offset: int, end: int | None) -> Read[object] | None:
        """What it means that the broker's cursor stands at `next_offset` and no record came: markers were skipped."""
        if not self._see(end):
            return self.opening()
        if next_offset <= self.position.next or self._check is not None:
            return None
        self.position = moved(self.position, next_offset)
        return self._read((), (), 0)

    def take(self, records: Sequence[Record], next_offset: int, end: int | None) -> Read[object] | None:
        """The records as events. `next_offset` is where the broker's cursor stands behind them, `end` the known end.

        Raises PermanentError when the partition is not the one that was read.
        """
        if not self._see(end):
            return self.opening()
        if self._check is not None and records:
            if not self._is_the_one(records[0]):
                return self.opening()
            records = [record for record in records if record.offset >= self.position.next]
        if not records:
            return self.advance(next_offset, end)
        items, rejected, size = self._decoded(records)
        last = records[-1]
        at_ns = self._latest(items) if self._holds_several and items else _nanos(last)
        self.position = position_after(next_offset, last.offset, at_ns, fingerprint(last.key, last.value))
        return self._read(items, rejected, size)

    def _see(self, end: int | None) -> bool:
        """Take note of the end that a fetch was told. False: it is before our position, and we begin anew."""
        if end is None:
            return True
        if self.goal is None:
            if end < self.position.next:
                self._begin_anew(shorter(self.source, self.position, self._begin, end, self._on_recreated), end)
                return False
            self.goal = max(end, self.end)
        self.end = end
        return True

    def _begin_anew(self, start: Start, end: int) -> None:
        self.restart(start, self._begin, end, end)

    def _is_the_one(self, first: Record) -> bool:
        """Whether the record fetched again is the one read last (or gone, which is fine). Else we begin anew."""
        check, self._check = self._check, None
        if first.offset != check or fingerprint(first.key, first.value) == self.position.crc:
            return True
        start = anew(self.source, f"its record {check} is not the one that was read", self._begin, self._on_recreated)
        self._begin_anew(start, self.end)
        return False

    def _decoded(self, records: Sequence[Record]) -> tuple[list[Event], list[Rejected], int]:
        done: list[Event | None]
        if self._decode_all is None or (at_once := self._decode_all(records, self.source)) is None:
            done, missing, size = [None] * len(records), len(records), 0
        else:
            done, missing, size = at_once
        if not missing:
            return cast(list[Event], done), [], size
        items: list[Event] = []
        rejected: list[Rejected] = []
        texts: dict[str, str] = {}
        begin = 0
        for at in [at for at, event in enumerate(done) if event is None]:  # the others' records are not even made
            items += cast(list[Event], done[begin:at])
            begin, record = at + 1, records[at]
            size += len(record.value or b"")
            try:
                items += self._events(record, texts)
            except DecodeError as error:
                rejected.append(self._rejected(record, error))
        items += cast(list[Event], done[begin:])
        return items, rejected, size

    def _events(self, record: Record, texts: dict[str, str]) -> Sequence[Event]:
        """Raises DecodeError."""
        if record.value is None:
            raise DecodeError(TOMBSTONE)
        found = self._decode(record.value, self.source, record.offset, _nanos(record), _headers(record), texts)
        if isinstance(found, Event):
            return (found,)
        self._holds_several = True
        return found

    def _rejected(self, record: Record, error: DecodeError) -> Rejected:
        value, source, offset = record.value or b"", self.source, record.offset
        return Rejected(value, str(error), f"{source}@{offset}", source, offset, _nanos(record), _headers(record))

    def _latest(self, items: Sequence[Event]) -> int:
        """The time that reading has come to, where records of many events carry times of their own."""
        latest = max(event.record_ns for event in items)
        return max(self.position.at_ns, latest)

    def _read(self, items: Sequence[Event], rejected: Sequence[Rejected], size: int) -> Read[object]:
        return Read(self.source, items, self.position, rejected, self.position.next < self.end, size)


def _nanos(record: Record) -> int:
    return record.timestamp * MILLISECOND if record.timestamp > 0 else 0


def _headers(record: Record) -> Headers:
    if all(map(_value_of, record.headers)):
        return record.headers
    return tuple((name, text or b"") for name, text in record.headers)  # null on the wire
