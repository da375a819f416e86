"""Records as we read them, a batch of the broker's at a time, and not one by one as aiokafka makes them.

aiokafka 0.14 turns each record that its compiled parser gives into a dataclass of eleven fields, in a generator of its
own, and sums up a batch in software: a third of what fetching takes. There is no public way around it. So the place
where a fetch's answer is kept hands each answer batches that seem to hold one record each: all of theirs. What aiokafka
does with batches (checksums, transactions, markers) stays its own. A version that does it otherwise goes on with its
own records, which have the same names.
"""

import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property, partial
from struct import Struct
from typing import Any, Final
from weakref import ref

import msgspec
from aiokafka.record.memory_records import MemoryRecords as _MemoryRecords

from pipeline.native import HAS_NATIVE, native
from receivers.kafka_parts import Part, leave_records_in_place


class KafkaRecord(msgspec.Struct, frozen=True, gc=False):
    """`timestamp` is in milliseconds, -1 where there is none."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


_READER: Final = native.RecordReader(KafkaRecord) if HAS_NATIVE else None
_RECORDS: Final[tuple[type, ...]] = (native.Records,) if HAS_NATIVE else ()
_LENGTH: Final = 8  # where a batch says how much of it follows
_HEADER: Final = Struct(">q8xb4xhi")
"""Of a batch of version 2: its first offset, version, attributes, and how much further the last offset is."""
_SMALLEST: Final = 61
_VERSION: Final = 2
_CONTROL: Final = 0x20


class Run(msgspec.Struct, frozen=True, gc=False):
    """The records of a batch, one at least; `first` is the offset of the first of them, `offset` that of the last."""

    first: int
    offset: int
    records: Sequence[KafkaRecord]


class Batches:
    """aiokafka's `MemoryRecords` over bytes that stay where they are. `is_lean`: a batch gives its `Run`."""

    def __init__(self, answer: bytes | Part | None) -> None:
        self.is_lean = False
        part = answer if isinstance(answer, Part) else Part(answer or b"", 0, len(answer or b""))
        self._part, self._answer, self._at = part, part.whole, part.start

    def size_in_bytes(self) -> int:
        """Of all."""
        return len(self._part)

    def has_next(self) -> bool:
        """Whether a whole batch is left: a broker cuts off the last one."""
        return self._next() <= self._part.stop

    def next_batch(self) -> Any:
        """The batch, lean or aiokafka's own; None where none is left."""
        if not self.has_next():
            return None
        start, self._at = self._at, self._next()
        batch = _Batch(Part(self._answer, start, self._at))
        return batch if self.is_lean else batch.theirs

    def _next(self) -> int:
        """Where the batch ends that begins here."""
        length = self._at + _LENGTH
        if self._part.stop - length < 4:
            return self._part.stop + 1
        return length + 4 + int.from_bytes(self._answer[length : length + 4], "big")


class _Batch:
    """A batch of the broker's that gives its `Run` where it is iterated over."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._known: tuple[int, ...] = (
            _HEADER.unpack_from(part.whole, part.start) if len(part) >= _SMALLEST else (0, 0, 0, 0)
        )

    @cached_property
    def theirs(self) -> Any:
        """aiokafka's own."""
        return _MemoryRecords(bytes(self._part)).next_batch()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.theirs, name)

    @property
    def is_control_batch(self) -> bool:
        return bool(self._known[2] & _CONTROL) if self._known[1] == _VERSION else self.theirs.is_control_batch

    @property
    def next_offset(self) -> int:
        base, version, _, last = self._known
        return base + last + 1 if version == _VERSION else int(self.theirs.next_offset)

    def validate_crc(self) -> bool:
        known = None if _READER is None else _READER.is_whole(self._part.whole, self._part.start)
        return bool(self.theirs.validate_crc()) if known is None else known

    def __iter__(self) -> Iterator[Run]:
        found = None if _READER is None else _READER.records(self._part.whole, self._part.start)
        if found is not None:
            if (ends := found.ends()) is not None:
                yield Run(*ends, found)
            return
        records = [KafkaRecord(r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ())) for r in self.theirs]
        if records:
            yield Run(records[0].offset, records[-1].offset, records)

    def __next__(self) -> Any:  # aiokafka asks control batches so
        return next(self.theirs)


class Answers(OrderedDict[Any, Any]):
    """aiokafka's `Fetcher._records`: what was fetched and not taken yet, by partition."""

    def __setitem__(self, partition: Any, answer: Any) -> None:
        records: Any = getattr(answer, "_partition_records", None)
        batches = getattr(records, "_records", None)
        if isinstance(batches, Batches) and hasattr(records, "_consumer_record"):
            batches.is_lean = True
            records._consumer_record = partial(_wanted, ref(records))  # no cycle: it would keep the answer's bytes
        super().__setitem__(partition, answer)


def _wanted(answer: ref[Any], partition: object, run: Run) -> Sequence[KafkaRecord]:
    """Those from where the fetch begins: a batch comes whole."""
    begin, records = getattr(answer(), "next_fetch_offset", 0), run.records
    return records if run.first >= begin else [record for record in records if record.offset >= begin]


def flat(found: Sequence[Any], most: int) -> Sequence[Sequence[Any]]:
    """What a fetch gave of a partition, in pieces of `most` records."""
    if found and all(isinstance(run, _RECORDS) for run in found):
        pieces = native.Records.pieces(found, most)
        if pieces is not None:
            return pieces
    are_runs = bool(found) and isinstance(found[0], (list, *_RECORDS))
    records = [record for run in found for record in run] if are_runs else list(found)
    return [records[at : at + most] for at in range(0, len(records), most)]


def read_lean(consumer: Any) -> None:
    """Let a started consumer, which has fetched nothing yet, give sequences of `KafkaRecord`s, one a batch."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if isinstance(getattr(fetcher, "_records", None), OrderedDict) and not fetcher._records:
        module: Any = sys.modules[type(fetcher).__module__]
        if getattr(module, "MemoryRecords", None) is _MemoryRecords:
            leave_records_in_place(module, Batches)  # for other consumers batches are as they were
        fetcher._records = Answers()
