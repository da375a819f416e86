"""Records as we read them, a batch of the broker's at a time, and not one by one as aiokafka makes them.

aiokafka 0.14 turns each record that its compiled parser gives into a dataclass of eleven fields, in a generator of its
own. There is no public way around it. So the place where a fetch's answer is kept hands each answer batches that
seem to hold one record each: all of theirs. What aiokafka does with batches (checksums, transactions, markers) stays
its own. A version that does it otherwise goes on with its own records, which have the same names.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from pipeline.native import HAS_NATIVE, native


class KafkaRecord(msgspec.Struct, frozen=True, gc=False):
    """`timestamp` is in milliseconds, -1 where there is none."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def _records_in_python(batch: Iterable[Any]) -> list[KafkaRecord]:
    return [KafkaRecord(r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ())) for r in batch]


_records_of: Final[Callable[[Iterable[Any]], list[KafkaRecord]]] = (
    partial(native.kafka_records, KafkaRecord) if HAS_NATIVE else _records_in_python
)


class Run(msgspec.Struct, frozen=True, gc=False):
    """The records of a batch, of which there is one at least; `offset` is the last one's."""

    offset: int
    records: list[KafkaRecord]


class _Batch:
    """A batch of the broker's that gives its `Run` where it is iterated over."""

    def __init__(self, batch: Any) -> None:
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Run]:
        records = _records_of(self._batch)
        if records:
            yield Run(records[-1].offset, records)

    def __next__(self) -> Any:  # aiokafka asks control batches so
        return next(self._batch)


class _Batches:
    """The batches of an answer (aiokafka's `MemoryRecords`)."""

    def __init__(self, batches: Any) -> None:
        self._batches = batches

    def has_next(self) -> bool:
        return bool(self._batches.has_next())

    def next_batch(self) -> _Batch:
        return _Batch(self._batches.next_batch())


class Answers(OrderedDict[Any, Any]):
    """aiokafka's `Fetcher._records`: what was fetched and not taken yet, by partition."""

    def __setitem__(self, partition: Any, answer: Any) -> None:
        records: Any = getattr(answer, "_partition_records", None)
        if all(hasattr(records, name) for name in ("_consumer_record", "_records", "next_fetch_offset")):
            records._records = _Batches(records._records)
            records._consumer_record = partial(_wanted, records)
        super().__setitem__(partition, answer)


def _wanted(answer: Any, partition: object, run: Run) -> list[KafkaRecord]:
    """Those from where the fetch begins: a batch comes whole."""
    begin, records = answer.next_fetch_offset, run.records
    return records if records[0].offset >= begin else [record for record in records if record.offset >= begin]


def flat(found: Sequence[Any], most: int) -> list[list[Any]]:
    """What a fetch gave of a partition, in pieces of `most` records."""
    records = [record for run in found for record in run] if found and isinstance(found[0], list) else list(found)
    return [records[at : at + most] for at in range(0, len(records), most)]


def read_lean(consumer: Any) -> None:
    """Let a started consumer, which has fetched nothing yet, give lists of `KafkaRecord`s, a list a batch."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if isinstance(getattr(fetcher, "_records", None), OrderedDict) and not fetcher._records:
        fetcher._records = Answers()
