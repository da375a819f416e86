"""A record as we read it, in place of the one that aiokafka makes: 0.5 µs less, and no work for the collector.

aiokafka 0.14 turns each record that its compiled parser gives into a dataclass of eleven fields. There is no public way
around it, so the place where a fetch's answer is kept hands each answer our maker of records instead. A version that
does it otherwise goes on with its own records, which have the same names.
"""

from collections import OrderedDict
from typing import Any

import msgspec


class KafkaRecord(msgspec.Struct, frozen=True, gc=False):
    """`timestamp` is in milliseconds, -1 where there is none."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]


def _made(partition: object, record: Any) -> KafkaRecord:
    headers = record.headers
    return KafkaRecord(record.offset, record.timestamp, record.key, record.value, tuple(headers) if headers else ())


class Answers(OrderedDict[Any, Any]):
    """aiokafka's `Fetcher._records`: what was fetched and not taken yet, by partition."""

    def __setitem__(self, partition: Any, answer: Any) -> None:
        records: Any = getattr(answer, "_partition_records", None)
        if hasattr(records, "_consumer_record"):
            records._consumer_record = _made
        super().__setitem__(partition, answer)


def read_lean(consumer: Any) -> None:
    """Let a started consumer, which has fetched nothing yet, give `KafkaRecord`s."""
    fetcher: Any = getattr(consumer, "_fetcher", None)
    if isinstance(getattr(fetcher, "_records", None), OrderedDict) and not fetcher._records:
        fetcher._records = Answers()
