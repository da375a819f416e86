"""aiokafka's own answers, with our records in them: holds the private names of aiokafka that this rests on."""

import gc
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any
from weakref import ref

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c

from receivers.kafka_records import Answers, Batches, KafkaRecord, flat, read_lean

TP = TopicPartition("dagster.events", 0)


def batch(first: int, count: int, producer: int = -1, transactional: int = 0, control: bool = False) -> bytes:
    """A batch as a broker sends it, from offset `first` on."""
    builder = DefaultRecordBatchBuilder(2, 0, transactional, producer, 0, 0, 2**20)
    for at in range(count):
        value = None if at % 5 == 4 else b"%d" % (first + at)
        key = b"\0\0\0\0" if control else b"run"  # version 0, an abort marker
        builder.append(at, 1000 + at, key, value, [("dagtel-instance", b"x")] if at % 2 else [])
    built = bytearray(builder.build())
    if control:
        built[22] |= 0x20
        built[17:21] = calc_crc32c(bytes(built[21:])).to_bytes(4, "big")
    built[:8] = first.to_bytes(8, "big")
    return bytes(built)


def answer(batches: bytes, begin: int = 0, aborted: Any = (), isolation: int = 0) -> tuple[FetchResult, list[int]]:
    """An answer, and where the consumer has come to."""
    records = PartitionRecords(TP, Batches(batches), list(aborted), begin, None, None, True, isolation)
    state = SimpleNamespace(position=begin, paused=False)
    moved: list[int] = []

    def consumed_to(offset: int) -> None:
        state.position = offset
        moved.append(offset)

    state.consumed_to = consumed_to
    assignment = SimpleNamespace(active=True, state_value=lambda tp: state)
    return FetchResult(TP, assignment=assignment, partition_records=records, backoff=0), moved


def consumer() -> Any:
    return SimpleNamespace(_fetcher=SimpleNamespace(_records=OrderedDict()))


def read(given: tuple[FetchResult, list[int]], lean: bool) -> tuple[list[Any], list[int]]:
    ours = consumer()
    if lean:
        read_lean(ours)
    ours._fetcher._records[TP] = given[0]
    found = ours._fetcher._records[TP].getall()
    records = [record for part in flat(found, 3) for record in part]
    return [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in records], given[1]


def test_a_fetch_gives_our_records() -> None:
    ours = consumer()
    read_lean(ours)
    ours._fetcher._records[TP], moved = answer(batch(3, 2))
    assert list(map(list, ours._fetcher._records[TP].getall())) == [
        [KafkaRecord(3, 1000, b"run", b"3", ()), KafkaRecord(4, 1001, b"run", b"4", (("dagtel-instance", b"x"),))]
    ]
    assert moved == [5]


@pytest.mark.parametrize(
    ("batches", "begin", "aborted", "isolation"),
    [
        (batch(0, 7) + batch(7, 1) + batch(20, 4), 0, (), 0),
        (batch(0, 7) + batch(7, 3), 5, (), 0),
        (batch(0, 7) + batch(7, 3), 8, (), 0),
        (batch(0, 3) + batch(3, 1, control=True) + batch(4, 2), 0, (), 0),
        (batch(0, 3, 9, 1) + batch(3, 2, 8, 1) + batch(5, 1, 9, 1, True) + batch(6, 2, 9, 1), 0, [(9, 0)], 1),
        (batch(3, 1, control=True), 3, (), 0),
        (b"", 3, (), 0),
    ],
)
def test_a_fetch_gives_what_aiokafka_gives(batches: bytes, begin: int, aborted: Any, isolation: int) -> None:
    theirs, ours = (read(answer(batches, begin, aborted, isolation), lean) for lean in (False, True))
    assert ours == theirs


def test_an_answer_that_was_taken_is_freed_at_once() -> None:
    """In a cycle its bytes would lie about until a garbage collection, which hardly ever comes."""
    ours = consumer()
    read_lean(ours)
    ours._fetcher._records[TP], _ = answer(batch(0, 3))
    freed = ref(ours._fetcher._records[TP]._partition_records)
    gc.disable()
    try:
        ours._fetcher._records[TP].getall()
        assert freed() is None
    finally:
        gc.enable()


def test_a_batch_that_was_harmed_is_an_error() -> None:
    harmed = bytearray(batch(0, 3))
    harmed[-1] ^= 1
    with pytest.raises(CorruptRecordException, match="CRC"):
        read(answer(bytes(harmed)), lean=True)


def test_what_a_fetch_gave_comes_in_pieces() -> None:
    assert flat([[1, 2, 3], [4], [5]], 2) == [[1, 2], [3, 4], [5]]
    assert flat([1, 2, 3], 2) == [[1, 2], [3]]
    assert flat([], 2) == []


def test_what_is_no_records_passes() -> None:
    answers = Answers()
    answers[TP] = "an error"
    assert answers[TP] == "an error"


@pytest.mark.parametrize("other", [SimpleNamespace(), SimpleNamespace(_fetcher=SimpleNamespace(_records={}))])
def test_an_aiokafka_that_does_it_otherwise_is_left_alone(other: Any) -> None:
    before = repr(other)
    read_lean(other)
    assert repr(other) == before
