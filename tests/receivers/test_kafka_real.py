"""The `kafka` receiver against a real broker.

DAGTEL_TEST_KAFKA: bootstrap servers. DAGTEL_TEST_KAFKA_SASL: the same of a SASL_PLAINTEXT listener, user `test` with
the password `test-secret` by PLAIN and by SCRAM. DAGTEL_TEST_KAFKA_SSL and DAGTEL_TEST_KAFKA_CA: of an SSL listener,
and the certificate to trust. `tests/backends/kafka` starts such a broker.
"""

import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any

import anyio
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete

from pipeline.components import Position
from pipeline.errors import DecodeError, PermanentError, RetryableError
from pipeline.events import Event
from pipeline.http import Tls
from pipeline.kafka_client import Sasl
from pipeline.options import Duration, Secret
from pipeline.testing.context import FakeContext
from pipeline.testing.intake import FakeIntake
from receivers.kafka import KafkaReceiver
from receivers.kafka_options import KafkaReceiverConfig

BOOTSTRAP = os.environ.get("DAGTEL_TEST_KAFKA", "")
SASL = os.environ.get("DAGTEL_TEST_KAFKA_SASL", "")
SSL = os.environ.get("DAGTEL_TEST_KAFKA_SSL", "")
CA = os.environ.get("DAGTEL_TEST_KAFKA_CA", "")

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.integration,
    pytest.mark.skipif(not BOOTSTRAP, reason="DAGTEL_TEST_KAFKA names no broker"),
]

_names = count()


def decode(
    raw: bytes,
    source: str,
    offset: int,
    record_ns: int = 0,
    headers: tuple[tuple[str, bytes], ...] = (),
    texts: dict[str, str] | None = None,
) -> Event:
    if raw.startswith(b"poison"):
        raise DecodeError("it is poison")
    return Event(raw, "LOG", "", 0, 20, "", "", "", None, None, source, offset, record_ns, headers)  # type: ignore[arg-type]


def unique(what: str) -> str:
    return f"{what}-{os.getpid()}-{next(_names)}"


def config(topic: str, **options: Any) -> KafkaReceiverConfig:
    given = {
        "brokers": (BOOTSTRAP,),
        "topics": (topic,),
        "group_id": f"group-{topic}",
        "group_instance_id": "",
        "session_timeout": Duration("6s"),
        "heartbeat_interval": Duration("200ms"),
        "commit_interval": Duration("200ms"),
        "topic_timeout": Duration("5s"),
    }
    return KafkaReceiverConfig(**(given | options))


def receiver(settings: KafkaReceiverConfig, leaves: bool = False) -> KafkaReceiver:
    return KafkaReceiver(settings, FakeContext("kafka", leaves=leaves), decode)


async def read_once(settings: KafkaReceiverConfig, stored: Mapping[str, Position] | None = None) -> FakeIntake:
    intake = FakeIntake(stored, once=True)
    with anyio.fail_after(30):
        await receiver(settings).run(intake)
    return intake


@asynccontextmanager
async def running(settings: KafkaReceiverConfig, intake: FakeIntake, leaves: bool = False) -> AsyncIterator[None]:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(receiver(settings, leaves).run, intake)
        yield
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def admin() -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=BOOTSTRAP)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def make_topic(partitions: int = 1, name: str = "", **settings: str) -> str:
    name = name or unique("topic")
    async with admin() as client:
        await client.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
        while name not in await client.list_topics():
            await anyio.sleep(0.05)
    return name


async def drop_topic(name: str) -> None:
    async with admin() as client:
        await client.delete_topics([name])
        while name in await client.list_topics():
            await anyio.sleep(0.05)


async def send(topic: str, values: Iterable[bytes | None], partition: int = 0, **options: Any) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, **options)
    await producer.start()
    try:
        for value in values:
            await producer.send(topic, value, key=b"run", partition=partition, headers=[("h", b"v")])
        await producer.flush()
    finally:
        await producer.stop()


def raws(items: Iterable[object]) -> list[bytes]:
    return [item.raw for item in items if isinstance(item, Event)]


def numbered(first: int, end: int, name: str = "e") -> list[bytes]:
    return [f"{name}{n}".encode() for n in range(first, end)]


# --- reading ---------------------------------------------------------------------------------------------------------


async def test_once_reads_to_the_end_and_keeps_headers_offsets_and_times() -> None:
    topic = await make_topic()
    before = time.time_ns() - 10**9
    await send(topic, numbered(0, 3))
    intake = await read_once(config(topic))
    events = [item for item in intake.items if isinstance(item, Event)]
    assert raws(events) == [b"e0", b"e1", b"e2"]
    assert [event.offset for event in events] == [0, 1, 2]
    assert {event.source for event in events} == {f"{topic}/0"}
    assert {event.headers for event in events} == {(("h", b"v"),)}
    assert before < events[0].record_ns < time.time_ns() + 10**9
    assert intake.stored[f"{topic}/0"].next == 3
    assert not intake.reads[-1].behind


async def test_what_cannot_be_decoded_is_rejected_with_reason_and_origin_and_the_rest_flows_on() -> None:
    topic = await make_topic()
    await send(topic, [b"a", b"poison", None, b"b"])
    intake = await read_once(config(topic))
    assert raws(intake.items) == [b"a", b"b"]
    rejected = [r for read in intake.reads for r in read.rejected]
    assert [(r.body, r.origin) for r in rejected] == [(b"poison", f"{topic}/0@1"), (b"", f"{topic}/0@2")]
    assert rejected[0].reason == "it is poison"
    assert "tombstone" in rejected[1].reason
    assert intake.stored[f"{topic}/0"].next == 4


async def test_a_restart_goes_on_at_the_stored_position() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 5))
    first = await read_once(config(topic))
    await send(topic, numbered(5, 8))
    second = await read_once(config(topic), first.stored)
    assert raws(second.items) == numbered(5, 8)


async def test_the_stored_position_counts_and_not_the_one_that_kafka_has() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 5))
    async with running(config(topic), intake := FakeIntake()):
        await intake.until(lambda: len(intake.items) == 5)
        assert await committed_at_the_broker(topic, 5) == 5
    again = await read_once(config(topic), {f"{topic}/0": Position(2)})
    assert raws(again.items) == numbered(2, 5)


async def committed_at_the_broker(topic: str, expected: int) -> int | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=f"group-{topic}", enable_auto_commit=False)
    await consumer.start()
    try:
        with anyio.move_on_after(10):
            while (found := await consumer.committed(TopicPartition(topic, 0))) != expected:
                await anyio.sleep(0.05)
        return found  # type: ignore[no-any-return]
    finally:
        await consumer.stop()


async def test_several_topics_and_partitions_are_sources_of_their_own() -> None:
    one, two = await make_topic(2), await make_topic(1)
    await send(one, [b"a"], 0)
    await send(one, [b"b"], 1)
    await send(two, [b"c"])
    intake = await read_once(config(one, topics=f"{one}, {two}"))
    assert {source: raws(items) for source, items in intake.by_source().items()} == {
        f"{one}/0": [b"a"],
        f"{one}/1": [b"b"],
        f"{two}/0": [b"c"],
    }


async def test_once_ends_with_empty_partitions() -> None:
    topic = await make_topic(3)
    intake = await read_once(config(topic))
    assert intake.items == []
    assert {source: position.next for source, position in intake.stored.items()} == {
        f"{topic}/{n}": 0 for n in range(3)
    }


async def ends_at(topic: str, offset: int) -> None:
    """Wait for it: a commit is answered before its marker is written."""
    consumer = AIOKafkaConsumer(bootstrap_servers=BOOTSTRAP)
    await consumer.start()
    try:
        with anyio.fail_after(30):
            while (await consumer.end_offsets([TopicPartition(topic, 0)]))[TopicPartition(topic, 0)] < offset:
                await anyio.sleep(0.05)
    finally:
        await consumer.stop()


async def test_once_ends_behind_transaction_markers() -> None:
    topic = await make_topic()
    producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP, transactional_id=unique("txn"))
    await producer.start()
    async with producer.transaction():
        await producer.send(topic, b"a")
    await producer.stop()
    await ends_at(topic, 2)
    first = await read_once(config(topic))
    assert raws(first.items) == [b"a"]
    assert first.stored[f"{topic}/0"].next == 2  # the record and the marker
    assert not first.reads[-1].behind
    assert raws((await read_once(config(topic), first.stored)).items) == []


async def test_latest_pins_where_it_began_so_that_a_restart_before_the_first_record_loses_none() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 2))
    first = await read_once(config(topic, initial_position="latest"))
    assert first.items == []
    await send(topic, numbered(2, 4))
    second = await read_once(config(topic, initial_position="latest"), first.stored)
    assert raws(second.items) == numbered(2, 4)


async def test_a_timestamp_begins_with_the_first_record_at_or_after_it() -> None:
    topic = await make_topic(**{"retention.ms": "-1"})
    producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP)
    await producer.start()
    at = 1_700_000_000
    for n in range(4):
        await producer.send_and_wait(topic, f"e{n}".encode(), timestamp_ms=(at + 60 * n) * 1000)
    await producer.stop()
    options = {"initial_position": "timestamp"}
    when = datetime.fromtimestamp(at + 90, UTC)
    intake = await read_once(config(topic, initial_timestamp=when, **options))
    assert raws(intake.items) == [b"e2", b"e3"]
    late = datetime.fromtimestamp(at + 900, UTC)
    assert (await read_once(config(topic, group_id=unique("g"), initial_timestamp=late, **options))).items == []


async def test_a_missing_topic_is_named_and_not_created() -> None:
    topic = unique("nobody-made")
    with pytest.raises(PermanentError, match=topic):
        await read_once(config(topic, topic_timeout=Duration("600ms")))
    async with admin() as client:
        assert topic not in await client.list_topics()


async def test_a_broker_that_is_down_can_be_tried_again() -> None:
    with socket.socket() as taken:  # bound and not listening: nothing answers there
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(RetryableError, match="no broker lets us in"):
            await read_once(config("t", brokers=f"127.0.0.1:{taken.getsockname()[1]}"))


# --- lost and made anew ----------------------------------------------------------------------------------------------


async def test_lost_records_stop_the_start_and_the_option_accepts_them() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 10))
    stored = {f"{topic}/0": Position(2, 1, 1)}
    async with admin() as client:
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=6)})
    with pytest.raises(PermanentError, match=r"2 is the next, 6 is the oldest .*on_lost: earliest"):
        await read_once(config(topic), stored)
    assert raws((await read_once(config(topic, on_lost="earliest"), stored)).items) == numbered(6, 10)
    latest = await read_once(config(topic, on_lost="latest"), stored)
    assert latest.items == []
    assert latest.stored[f"{topic}/0"] == Position(10)


async def test_an_expired_last_record_is_fine() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 4))
    first = await read_once(config(topic))
    async with admin() as client:
        await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=4)})
    await send(topic, numbered(4, 6))
    assert raws((await read_once(config(topic), first.stored)).items) == numbered(4, 6)


async def test_a_shorter_topic_of_the_same_name_stops_the_start() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 5))
    first = await read_once(config(topic))
    await drop_topic(topic)
    await make_topic(name=topic)
    await send(topic, numbered(0, 2, "new"))
    with pytest.raises(PermanentError, match=r"ends at offset 2, and 5 .*on_recreated: accept"):
        await read_once(config(topic), first.stored)
    accepted = await read_once(config(topic, on_recreated="accept"), first.stored)
    assert raws(accepted.items) == numbered(0, 2, "new")


async def test_a_longer_topic_of_the_same_name_is_known_by_its_last_record() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 5))
    first = await read_once(config(topic))
    await drop_topic(topic)
    await make_topic(name=topic)
    await send(topic, numbered(0, 9, "new"))
    with pytest.raises(PermanentError, match=r"record 4 is not the one .*on_recreated: accept"):
        await read_once(config(topic), first.stored)
    accepted = await read_once(config(topic, on_recreated="accept"), first.stored)
    assert raws(accepted.items) == numbered(0, 9, "new")
    assert accepted.stored[f"{topic}/0"].next == 9


async def test_retention_that_overtakes_a_running_reader_is_an_error_and_no_jump() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 4000))
    intake = FakeIntake(once=True)

    def fill_after_the_first_events(read: object) -> None:
        intake.full = bool(intake.items)

    intake.on_put = fill_after_the_first_events
    failed: list[str] = []

    async def read() -> None:
        try:
            await receiver(config(topic, max_poll_records=10, max_partition_fetch_size=100)).run(intake)
        except PermanentError as error:
            failed.append(str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await intake.until(lambda: intake.full)
        await anyio.sleep(1.5)  # paused by now: what was fetched ahead is gone
        async with admin() as client:
            await client.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=3999)})
        intake.on_put = None
        intake.fill(False)
    assert failed and "on_lost" in failed[0]


# --- the group -------------------------------------------------------------------------------------------------------


async def test_a_rebalance_neither_loses_nor_doubles_anything() -> None:
    topic = await make_topic(4)
    shared: dict[str, Position] = {}
    one, two = FakeIntake(), FakeIntake()
    one.stored = two.stored = shared

    async def feed(until: Callable[[], bool]) -> None:
        producer = AIOKafkaProducer(bootstrap_servers=BOOTSTRAP)
        await producer.start()
        while not until():
            for partition in range(4):
                await producer.send(topic, str(sent[partition]).encode(), partition=partition)
                sent[partition] += 1
            await anyio.sleep(0.002)
        await producer.stop()

    sent = [0, 0, 0, 0]
    steps: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(feed, lambda: "fed" in steps)
        async with running(config(topic, max_poll_records=7), one):
            await one.until(lambda: len(one.items) > 200)
            async with running(config(topic, max_poll_records=7), two):
                await two.until(lambda: len(two.items) > 200)
                assert len(one.assigned) == len(two.assigned) == 2
            # the second has left: the first has all again
            await one.until(lambda: len(one.assigned) == 4)
            seen = len(one.items)
            await one.until(lambda: len(one.items) > seen + 200)
            steps.append("fed")
            await one.until(lambda: all(shared[f"{topic}/{n}"].next >= sent[n] for n in range(4)))
    for partition in range(4):
        source = f"{topic}/{partition}"
        got = one.by_source().get(source, []) + two.by_source().get(source, [])
        numbers = sorted(int(raw) for raw in raws(got))
        assert numbers == list(range(sent[partition]))


async def test_a_full_intake_keeps_its_membership_beyond_max_poll_interval_and_goes_on() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 5))
    intake = FakeIntake()
    settings = config(topic, max_poll_interval=Duration("2s"), session_timeout=Duration("1500ms"))
    async with running(settings, intake):
        await intake.until(lambda: len(intake.items) == 5)
        intake.fill()
        await send(topic, numbered(5, 9))
        await anyio.sleep(5)
        assert ("revoke", frozenset({f"{topic}/0"})) not in intake.calls
        intake.fill(False)
        await intake.until(lambda: len(intake.items) == 9)
    assert raws(intake.items) == numbered(0, 9)
    assert [what for what, _ in intake.calls].count("assign") == 1


async def test_a_static_member_is_back_at_once_and_its_stop_leaves_the_group_as_it_is() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 3))
    settings = config(topic, group_instance_id="one", session_timeout=Duration("5m"))
    first, second = FakeIntake(), FakeIntake()
    async with running(settings, first):
        await first.until(lambda: len(first.items) == 3)
    assert ("revoke", frozenset({f"{topic}/0"})) not in first.calls
    await send(topic, numbered(3, 4))
    second.stored = first.stored
    async with running(settings, second):
        await second.until(lambda: len(second.items) == 1)  # long before the five minutes are over
    assert raws(second.items) == [b"e3"]


async def test_a_static_member_that_leaves_gives_up_what_it_holds_and_the_next_owner_does_not_wait() -> None:
    topic = await make_topic()
    await send(topic, numbered(0, 3))
    leaving = config(topic, group_instance_id="one", session_timeout=Duration("5m"))
    first, second = FakeIntake(), FakeIntake()
    async with running(leaving, first, leaves=True):
        await first.until(lambda: len(first.items) == 3)
    assert first.calls[-1] == ("revoke", frozenset({f"{topic}/0"}))
    await send(topic, numbered(3, 4))
    second.stored = first.stored
    async with running(config(topic, group_instance_id="two"), second):
        await second.until(lambda: len(second.items) == 1)  # long before the five minutes are over
    assert raws(second.items) == [b"e3"]


async def test_new_partitions_are_found_also_by_a_static_member_that_came_back() -> None:
    topic = await make_topic()
    settings = config(topic, group_instance_id="one", metadata_refresh_interval=Duration("300ms"))
    async with running(settings, first := FakeIntake()):
        await first.until(lambda: len(first.reads) == 1)
    async with running(settings, second := FakeIntake(first.stored)):
        await second.until(lambda: len(second.reads) == 1)
        async with admin() as client:
            await client.create_partitions({topic: NewPartitions(2)})
        await send(topic, [b"there"], 1, metadata_max_age_ms=200)
        await second.until(lambda: raws(second.items) == [b"there"], 10)


async def test_a_dynamic_member_gives_up_what_it_holds_before_it_leaves() -> None:
    topic = await make_topic()
    async with running(config(topic), intake := FakeIntake()):
        await intake.until(lambda: len(intake.reads) == 1)
    assert intake.calls[-1] == ("revoke", frozenset({f"{topic}/0"}))


# --- signing in ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not SASL, reason="DAGTEL_TEST_KAFKA_SASL names no listener")
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_it_signs_in(mechanism: Any) -> None:
    topic = await make_topic()
    await send(topic, [b"a"])
    sasl = Sasl(mechanism=mechanism, username="test", password=Secret("test-secret"))
    assert raws((await read_once(config(topic, brokers=SASL, sasl=sasl))).items) == [b"a"]


@pytest.mark.skipif(not SASL, reason="DAGTEL_TEST_KAFKA_SASL names no listener")
async def test_a_wrong_password_is_said_and_not_printed() -> None:
    sasl = Sasl(username="test", password=Secret("guessed"))
    with pytest.raises((PermanentError, RetryableError)) as raised:
        await read_once(config("t", brokers=SASL, sasl=sasl))
    assert "sasl" in str(raised.value)
    assert "guessed" not in str(raised.value)


@pytest.mark.skipif(not SSL, reason="DAGTEL_TEST_KAFKA_SSL names no listener")
async def test_it_speaks_tls() -> None:
    topic = await make_topic()
    await send(topic, [b"a"])
    assert raws((await read_once(config(topic, brokers=SSL, tls=Tls(ca_file=CA)))).items) == [b"a"]


@pytest.mark.skipif(not SSL, reason="DAGTEL_TEST_KAFKA_SSL names no listener")
async def test_a_certificate_that_nobody_vouches_for_is_refused_unless_told_otherwise() -> None:
    topic = await make_topic()
    with pytest.raises(RetryableError):
        await read_once(config(topic, brokers=SSL, tls=Tls()))
    await read_once(config(topic, brokers=SSL, tls=Tls(insecure_skip_verify=True)))
