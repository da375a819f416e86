"""The `kafka` exporter: pure parts, and (marked) against a real broker; see tests/receivers/test_kafka_real.py."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import Any

import anyio
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.structs import ConsumerRecord

from exporters.kafka import BATCH_BYTES, BATCH_HEAD, SPEC, CreateTopic, KafkaExporter, KafkaExporterConfig
from exporters.kafka_records import PAYLOAD_BYTES, Record, decode_records, outcome_records_of, payloads_of, records_of
from pipeline.batch import Batch
from pipeline.components import Payload
from pipeline.errors import PartialError, PermanentError, RetryableError
from pipeline.events import Event, MaterializationPlanned
from pipeline.http import Tls
from pipeline.kafka_client import Sasl
from pipeline.options import Duration, Secret
from pipeline.outcomes import RunEnded
from pipeline.outcomes_wire import decode_events
from pipeline.signals import Alert, LogRecord
from pipeline.testing.context import FakeContext

BOOTSTRAP = os.environ.get("DAGTEL_TEST_KAFKA", "")
SASL = os.environ.get("DAGTEL_TEST_KAFKA_SASL", "")
SSL = os.environ.get("DAGTEL_TEST_KAFKA_SSL", "")
CA = os.environ.get("DAGTEL_TEST_KAFKA_CA", "")
real = [
    pytest.mark.anyio,
    pytest.mark.integration,
    pytest.mark.skipif(not BOOTSTRAP, reason="DAGTEL_TEST_KAFKA names no broker"),
]

KEPT = {"retention.ms": "-1"}  # the tests' records are of 1970

_names = count()


def event(raw: bytes, run_id: str = "run", **more: Any) -> Event:
    return Event(raw, "LOG", run_id, 5_000_000, 20, "", "", "", **more)


# --- pure ------------------------------------------------------------------------------------------------------------


def test_an_event_goes_out_as_it_came() -> None:
    came = event(b"raw", headers=(("h", b"v"),), record_ns=7_000_000)
    assert list(records_of([came], 10**18)) == [Record(b"run", b"raw", (("h", b"v"),), 7)]


def test_an_event_without_a_run_has_its_asset_as_key_or_none() -> None:
    planned = event(b"a", "", detail=MaterializationPlanned("raw/orders"))
    assert [record.key for record in records_of([planned, event(b"b", "")], 0)] == [b"raw/orders", None]


def test_an_event_that_nobody_read_has_no_bytes_to_send() -> None:
    assert list(records_of([event(b""), event(b"a")], 0)) == [Record(b"run", b"a", (), 5)]


def test_a_time_of_the_future_is_now_and_one_before_1970_is_1970() -> None:
    late, early = event(b"a", record_ns=9 * 10**18), event(b"b", record_ns=-5)
    assert [record.at_ms for record in records_of([late, early], 42_000_000)] == [42, 0]


def test_log_records_and_alerts_go_out_as_json() -> None:
    (log,) = records_of([LogRecord(5_000_000, "INFO", "LOG", "hello", "e1", run_id="r")], 0)
    assert (log.key, log.at_ms) == (b"r", 5)
    assert msgspec.json.decode(log.value)["message"] == "hello"
    (alert,) = records_of([Alert("asset_failure", "firing", "ERROR", "print", 5_000_000, 1, 1, asset="a")], 0)
    assert alert.key == b"print"
    assert msgspec.json.decode(alert.value)["asset"] == "a"


def test_a_batch_without_items_gives_no_payload() -> None:
    assert payloads_of(records_of([], 0)) == []


def test_large_batches_become_several_payloads_and_nothing_is_lost() -> None:
    items = [event(b"%d" % n * 400_000) for n in range(40)]
    payloads = payloads_of(records_of(items, 0))
    assert len(payloads) > 1
    assert max(len(payload.body) for payload in payloads) < PAYLOAD_BYTES + 900_000
    assert sum(payload.items for payload in payloads) == 40
    assert [record.value for payload in payloads for record in decode_records(payload.body)] == [e.raw for e in items]


def test_outcomes_go_out_many_to_a_record_without_keys_and_never_in_the_future() -> None:
    ended = RunEnded("r", "j", "success", 5, 1)
    events = [event(b"x", outcomes=(ended,), now_ns=n * 1_000_000) for n in range(1, 31)]
    [record] = outcome_records_of(events, 9_000_000)
    assert (record.key, record.headers, record.at_ms) == (None, (), 9)
    assert [came.outcomes for came in decode_events(record.value)] == [(ended,)] * 30


def test_logs_in_an_exporter_of_outcomes_are_refused_with_what_to_do() -> None:
    with pytest.raises(PermanentError, match="an exporter of their own"):
        list(outcome_records_of([LogRecord(5, "INFO", "LOG", "hello", "e1")], 0))


# --- real ------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def exporter(topic: str, **options: Any) -> AsyncIterator[KafkaExporter]:
    given = {"brokers": BOOTSTRAP, "topic": topic, "create_topic": CreateTopic(config=KEPT)} | options
    async with SPEC.build(KafkaExporterConfig(**given), FakeContext("kafka")) as built:
        assert isinstance(built, KafkaExporter)
        yield built


async def deliver(out: KafkaExporter, items: Sequence[Event]) -> None:
    with anyio.fail_after(40):
        for payload in out.build(Batch(items, "whole", 10**18)):
            await out.send(payload)


async def retried(out: KafkaExporter, payload: Payload) -> int:
    """Send as the runtime does: again and again, while it may help. Gives how many records were refused."""
    with anyio.fail_after(40):
        while True:
            try:
                await out.send(payload)
                return 0
            except PartialError as error:
                return error.count
            except RetryableError:
                await anyio.sleep(0.05)


async def records_in(topic: str, brokers: str = BOOTSTRAP) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        tps = [TopicPartition(topic, n) for n in await consumer._client._wait_on_metadata(topic)]
        consumer.assign(tps)
        ends = await consumer.end_offsets(tps)
        found: list[ConsumerRecord] = []
        with anyio.fail_after(20):
            while any([await consumer.position(tp) < ends[tp] for tp in tps]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
        return found
    finally:
        await consumer.stop()


def unique(what: str) -> str:
    return f"{what}-{os.getpid()}-{next(_names)}"


class TestAgainstABroker:
    pytestmark = real

    @pytest.mark.parametrize("compression", ["none", "gzip", "snappy", "lz4", "zstd"])
    async def test_events_arrive_with_key_headers_and_time_in_order(self, compression: Any) -> None:
        topic = unique("out")
        create = CreateTopic(partitions=3, config=KEPT)
        async with exporter(topic, compression=compression, create_topic=create) as out:
            await deliver(out, [event(b"e%d" % n, f"run{n % 5}", headers=(("h", b"v"),)) for n in range(1000)])
        records = await records_in(topic)
        assert len(records) == 1000
        by_key: dict[bytes, list[int]] = {}
        for record in records:
            by_key.setdefault(record.key, []).append(int(record.value[1:]))
        assert by_key == {b"run%d" % k: list(range(k, 1000, 5)) for k in range(5)}
        assert {(record.headers, record.timestamp) for record in records} == {((("h", b"v"),), 5)}

    async def test_the_topic_is_made_with_its_settings_and_left_alone_when_it_is_there(self) -> None:
        topic = unique("made")
        for partitions in (2, 5):
            async with exporter(topic, create_topic=CreateTopic(partitions=partitions)) as out:
                await deliver(out, [event(b"a")])
        records = await records_in(topic)
        assert {record.timestamp_type for record in records} == {1}  # LogAppendTime
        admin = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
        await admin.start()
        (described,) = await admin.describe_topics([topic])
        await admin.close()
        assert len(described["partitions"]) == 2

    async def test_the_topic_is_there_before_the_first_record(self) -> None:
        topic, context = unique("early"), FakeContext("kafka")
        options = KafkaExporterConfig(brokers=(BOOTSTRAP,), topic=topic, create_topic=CreateTopic(partitions=2))
        async with SPEC.build(options, context), SPEC.build(options, again := FakeContext("kafka")):
            await context.poll()
            await again.poll()
        assert await records_in(topic) == []

    async def test_a_record_that_is_too_large_is_named_and_the_others_arrive(self) -> None:
        topic = unique("large")
        async with exporter(topic, max_message_size=5000) as out:
            with pytest.raises(PartialError) as raised:
                await deliver(out, [event(b"a"), event(b"x" * 6000), event(b"b")])
            assert list(raised.value.failed) == [1]
            with pytest.raises(PermanentError):
                await deliver(out, [event(b"x" * 6000)])
            await deliver(out, [event(b"c")])
        assert [record.value for record in await records_in(topic)] == [b"a", b"b", b"c"]

    @pytest.mark.parametrize("idempotence", ["on", "off"])
    async def test_a_record_that_the_broker_refuses_takes_no_others_with_it(self, idempotence: Any) -> None:
        topic = unique("refused")
        create = CreateTopic(config=KEPT | {"max.message.bytes": "3000"})
        async with exporter(topic, create_topic=create, idempotence=idempotence, linger=Duration("50ms")) as out:
            with pytest.raises(PartialError) as raised:
                await deliver(out, [event(b"a"), event(b"x" * 6000), event(b"b")])
            assert list(raised.value.failed) == [1]
            await deliver(out, [event(b"c")])
        assert sorted(record.value for record in await records_in(topic)) == [b"a", b"b", b"c"]

    @pytest.mark.parametrize("idempotence", ["on", "off"])
    async def test_a_record_that_the_broker_refuses_does_not_change_the_order_of_a_run(self, idempotence: Any) -> None:
        """It has a batch of its own, as long as the broker takes batches of ours; others are behind it already."""
        topic = unique("order")
        create = CreateTopic(config=KEPT | {"max.message.bytes": str(BATCH_BYTES + BATCH_HEAD)})
        random = Random(3)
        items = [event(b"%04d" % n + random.randbytes(996), run_id="r") for n in range(2000)]
        items[777] = event(random.randbytes(2 * BATCH_BYTES), run_id="r")
        async with exporter(topic, create_topic=create, idempotence=idempotence, compression="none") as out:
            refused = 0
            for payload in out.build(Batch(items, "whole", 10**18)):
                refused += await retried(out, payload)
            assert refused == 1
        arrived = [int(record.value[:4]) for record in await records_in(topic)]
        assert arrived == [n for n in range(2000) if n != 777]

    async def test_a_topic_that_it_makes_takes_the_largest_record_that_it_sends(self) -> None:
        topic = unique("largest")
        most = 5_000_000
        async with exporter(topic, max_message_size=most) as out:
            await deliver(out, [event(b"x" * (most - 200), run_id="r")])
        assert [len(record.value) for record in await records_in(topic)] == [most - 200]

    async def test_an_attempt_that_ran_out_of_time_sends_nothing_twice(self) -> None:
        topic = unique("twice")
        async with exporter(topic, linger=Duration("1s")) as out:
            await deliver(out, [event(b"first")])
            (payload,) = out.build(Batch([event(b"e%d" % n) for n in range(10)], "whole", 10**18))
            with anyio.move_on_after(0.2) as scope:
                await out.send(payload)
            assert scope.cancelled_caught
            await out.send(payload)
        assert [record.value for record in await records_in(topic)] == [b"first", *(b"e%d" % n for n in range(10))]

    async def test_a_broker_that_is_down_can_be_tried_again(self) -> None:
        async with exporter("t", brokers="127.0.0.1:1", create_topic=None) as out:
            with pytest.raises(RetryableError, match="no broker lets us in"):
                await deliver(out, [event(b"a")])

    @pytest.mark.skipif(not SASL, reason="DAGTEL_TEST_KAFKA_SASL names no listener")
    async def test_it_signs_in(self) -> None:
        topic = unique("sasl")
        sasl = Sasl(mechanism="SCRAM-SHA-512", username="test", password=Secret("test-secret"))
        async with exporter(topic, brokers=SASL, sasl=sasl) as out:
            await deliver(out, [event(b"a")])
        assert [record.value for record in await records_in(topic)] == [b"a"]

    @pytest.mark.skipif(not SSL, reason="DAGTEL_TEST_KAFKA_SSL names no listener")
    async def test_it_speaks_tls(self) -> None:
        topic = unique("tls")
        async with exporter(topic, brokers=SSL, tls=Tls(ca_file=CA)) as out:
            await deliver(out, [event(b"a")])
        assert [record.value for record in await records_in(topic)] == [b"a"]
