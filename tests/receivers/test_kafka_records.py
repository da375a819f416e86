"""aiokafka's own answers, with our records in them: holds the private names of aiokafka that this rests on."""

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import FetchResult, PartitionRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from receivers.kafka_records import Answers, KafkaRecord, read_lean

TP = TopicPartition("dagster.events", 0)


def answer() -> FetchResult:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 2**20)
    builder.append(0, 5, b"run", b"{}", [("dagtel-instance", b"x")])
    builder.append(1, 6, None, None, [])
    records = PartitionRecords(TP, MemoryRecords(bytes(builder.build())), [], 0, None, None, True, 0)
    state = SimpleNamespace(
        has_valid_position=True, position=0, resume_fut=None, paused=False, consumed_to=lambda offset: None
    )
    assignment = SimpleNamespace(active=True, state_value=lambda tp: state)
    return FetchResult(TP, assignment=assignment, partition_records=records, backoff=0)


def consumer() -> Any:
    return SimpleNamespace(_fetcher=SimpleNamespace(_records=OrderedDict()))


def test_a_fetch_gives_our_records() -> None:
    ours = consumer()
    read_lean(ours)
    ours._fetcher._records[TP] = answer()
    assert ours._fetcher._records[TP].getall() == [
        KafkaRecord(0, 5, b"run", b"{}", (("dagtel-instance", b"x"),)),
        KafkaRecord(1, 6, None, None, ()),
    ]


def test_what_is_no_records_passes() -> None:
    answers = Answers()
    answers[TP] = "an error"
    assert answers[TP] == "an error"


@pytest.mark.parametrize("other", [SimpleNamespace(), SimpleNamespace(_fetcher=SimpleNamespace(_records={}))])
def test_an_aiokafka_that_does_it_otherwise_is_left_alone(other: Any) -> None:
    before = repr(other)
    read_lean(other)
    assert repr(other) == before
