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
from functools import partial
from typing import Any, Final
from weakref import ref

import msgspec
from aiokafka.record.memory_records import MemoryRecords as _MemoryRecords

from pipeline.native import HAS_NATIVE, native


class KafkaRecord(msgspec.Struct, frozen=True, gc=False):
    """`timestamp` is in milliseconds, -1 where there is none."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


_READER: Final = native.RecordReader(KafkaRecord) if HAS_NATIVE else None
_PREFIX: Final = 12  # bytes of a batch that are not in its length


class Run(msgspec.Struct, frozen=True, gc=False):
    """The records of a batch, of which there is one at least; `offset` is the last one's."""

    offset: int
    records: list[KafkaRecord]


class Batches:
    """aiokafka's `MemoryRecords`, and the bytes that they are read from. `is_lean`: a batch gives its `Run`."""

    def __init__(self, answer: bytes) -> None:
        self.is_lean = False
        self._batches, self._answer, self._at = _MemoryRecords(answer), answer, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batches, name)

    def next_batch(self) -> Any:
        batch, start = self._batches.next_batch(), self._at
        self._at += _PREFIX + int.from_bytes(self._answer[start + 8 : start + _PREFIX], "big")
        return _Batch(batch, self._answer, start) if self.is_lean else batch


class _Batch:
    """A batch of the broker's that gives its `Run` where it is iterated over."""

    def __init__(self, batch: Any, answer: bytes, start: int) -> None:
        self._batch, self._answer, self._start = batch, answer, start

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def validate_crc(self) -> bool:
        known = None if _READER is None else _READER.is_whole(self._answer, self._start)
        return bool(self._batch.validate_crc()) if known is None else known

    def __iter__(self) -> Iterator[Run]:
        records = None if _READER is None else _READER.records(self._answer, self._start)
        if records is None:
            records = [KafkaRecord(r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ())) for r in self._batch]
        if records:
            yield Run(records[-1].offset, records)

    def __next__(self) -> Any:  # aiokafka asks control batches so
        return next(self._batch)


class Answers(OrderedDict[Any, Any]):
    """aiokafka's `Fetcher._records`: what was fetched and not taken yet, by partition."""

    def __setitem__(self, partition: Any, answer: Any) -> None:
        records: Any = getattr(answer, "_partition_records", None)
        batches = getattr(records, "_records", None)
        if isinstance(batches, Batches) and hasattr(records, "_consumer_record"):
            batches.is_lean = True
            records._consumer_record = partial(_wanted, ref(records))  # no cycle: it would keep the answer's bytes
        super().__setitem__(partition, answer)


def _wanted(answer: ref[Any], partition: object, run: Run) -> list[KafkaRecord]:
    """Those from where the fetch begins: a batch comes whole."""
    begin, records = getattr(answer(), "next_fetch_offset", 0), run.records
    return records if records[0].offset >= begin else [record for record in records if record.offset >= begin]


def flat(found: Sequence[Any], most: int) -> list[list[Any]]:
    """What a fetch gave of a partition, in pieces of `most` records."""
    records = [record for run in found for record in run] if found and isinstance(found[0], list) else list(found)
    return [records[at : at + most] for at in range(0, len(records), most)]


def read_lean(consumer: Any) -> None:
    """Let a started consumer, which has fetched nothing yet, give lists of `KafkaRecord`s, a list a batch."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if isinstance(getattr(fetcher, "_records", None), OrderedDict) and not fetcher._records:
        module: Any = sys.modules[type(fetcher).__module__]
        if getattr(module, "MemoryRecords", None) is _MemoryRecords:
            module.MemoryRecords = Batches  # for other consumers they are as they were
        fetcher._records = Answers()
