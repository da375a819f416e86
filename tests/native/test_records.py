"""Kafka's batches, read by the twin as aiokafka reads them."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from pipeline.native import HAS_NATIVE, native
from receivers.kafka_records import KafkaRecord

pytestmark = pytest.mark.skipif(not HAS_NATIVE, reason="dagtel-native is not installed")

GZIP = 1
READER = native.RecordReader(KafkaRecord) if HAS_NATIVE else None
"""One for all: it keeps what the records before had."""
TEXTS = st.none() | st.binary(max_size=40)
NAMES = st.sampled_from(("a", "b")) | st.text(max_size=8)
HEADERS = st.lists(st.tuples(NAMES, st.sampled_from((b"1", b"2")) | TEXTS), max_size=3)
RECORDS = st.lists(st.tuples(st.integers(0, 2**48), TEXTS, TEXTS, HEADERS), min_size=1, max_size=6)


def built(
    records: list[tuple[int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]], codec: int = 0
) -> bytes:
    builder = DefaultRecordBatchBuilder(2, codec, 0, -1, -1, -1, 2**20)
    for at, (at_ms, key, value, headers) in enumerate(records):
        builder.append(at, at_ms, key, value, headers)
    return (7 * 2**40).to_bytes(8, "big") + bytes(builder.build())[8:]


def theirs(answer: bytes) -> list[KafkaRecord]:
    batch = MemoryRecords(answer).next_batch()
    return [KafkaRecord(r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ())) for r in batch]


def ours(answer: bytes, start: int = 0) -> list[KafkaRecord] | None:
    assert READER is not None
    records = READER.records(answer, start)
    return None if records is None else list(records)


@given(RECORDS, st.binary(max_size=9))
def test_any_records_are_read_wherever_they_lie(
    records: list[tuple[int, bytes, bytes, list[tuple[str, bytes]]]], before: bytes
) -> None:
    answer = built(records)
    assert ours(before + answer + b"more", len(before)) == theirs(answer)
    read = native.RecordReader(KafkaRecord).records(answer, 0)
    assert read is not None
    assert read.ends() == (read[0].offset, read[-1].offset)
    assert native.RecordReader(KafkaRecord).is_whole(before + answer, len(before)) is True


@given(RECORDS, st.data())
def test_what_is_harmed_is_read_as_aiokafka_reads_it_or_left_to_it(
    records: list[tuple[int, bytes, bytes, list[tuple[str, bytes]]]], data: st.DataObject
) -> None:
    answer = bytearray(built(records))
    at = data.draw(st.integers(21, len(answer) - 1))
    answer[at] = data.draw(st.integers(0, 255).filter(lambda byte: byte != answer[at]))
    assert native.RecordReader(KafkaRecord).is_whole(bytes(answer), 0) is False
    found = ours(bytes(answer))
    assert found is None or found == theirs(bytes(answer))


@given(st.lists(RECORDS, min_size=1, max_size=4), st.integers(1, 5))
def test_batches_of_an_answer_come_in_pieces(
    batches: list[list[tuple[int, bytes, bytes, list[tuple[str, bytes]]]]], most: int
) -> None:
    assert READER is not None
    parts = [built(records) for records in batches]
    answer, starts = b"".join(parts), [sum(map(len, parts[:at])) for at in range(len(parts))]
    runs = [run for start in starts if (run := READER.records(answer, start)) is not None]
    pieces = native.Records.pieces(runs, most)
    assert pieces is not None
    assert [len(piece) <= most for piece in pieces] == [True] * len(pieces)
    assert [record for piece in pieces for record in piece] == [r for part in parts for r in theirs(part)]
    assert pieces[-1][len(pieces[-1]) - 1] == theirs(parts[-1])[-1] == pieces[-1][-1]


def test_records_of_two_answers_are_no_pieces_of_one() -> None:
    assert READER is not None
    runs = [run for _ in range(2) if (run := READER.records(built([(1, b"a", b"b", [])]), 0)) is not None]
    assert len(runs) == 2
    assert native.Records.pieces(runs, 5) is None
    assert native.Records.pieces([], 5) is None
    with pytest.raises(IndexError):
        runs[0][1]


def test_many_headers_are_left_to_aiokafka() -> None:
    assert ours(built([(0, None, None, [("a", b"1")] * 16)])) is not None
    assert ours(built([(0, None, None, [("a", b"1")] * 17)])) is None


@pytest.mark.parametrize("start", [1, 2**40])
def test_where_no_batch_is_there_is_none(start: int) -> None:
    answer = built([(1, b"a", b"b", [])])
    assert ours(answer, start) is None
    assert native.RecordReader(KafkaRecord).is_whole(answer, start) is None
    assert ours(answer[:-1]) is None


def test_compressed_batches_and_those_of_old_are_aiokafka_s() -> None:
    assert ours(built([(1, b"a", b"b" * 99, [])], GZIP)) is None
    old = LegacyRecordBatchBuilder(1, 0, 2**20)
    old.append(0, 5, b"a", b"b" * 99)
    assert ours(bytes(old.build())) is None
