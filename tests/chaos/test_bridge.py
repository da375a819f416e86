"""The bridge under fire: eight writers, rollbacks, rows of up to 10 MB, retention, and kill -9 again and again."""

import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.load import Record, records
from tests.chaos.dagster_writers import Retention, Stored, Writers, digest, shared_out
from tests.chaos.events import Truth, make_topic, recorded_at, write
from tests.chaos.scene import HERE, Counters, Scene, different, figures_of, size, undisturbed
from tests.chaos.table import Row, record, seconds
from tests.integration.conftest import Daemon
from tests.receivers.postgres_dagster import PostgresDagster, new_database

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

EVENTS = size(6_000, 120_000)
KILLS = size(4, 25)
LARGE_EVERY = 200
LARGEST = size(3, 20)
AHEAD = size(1_500, 6_000)
"""Rows that may be stored and not in Kafka; then the writers wait: the load lasts as long as the kills."""
PARTITIONS = 3
PATIENCE_S = 120.0


class Came(msgspec.Struct, frozen=True):
    """A record of the topic."""

    id: int
    key: bytes | None
    partition: int
    digest: bytes


class Topic:
    """Everything that stands in the topic, in its order within each partition."""

    def __init__(self) -> None:
        self.records: list[Came] = []
        self.first: dict[int, Record] = {}
        """Of each storage id the record that came first."""

    @property
    def repeats(self) -> int:
        return len(self.records) - len(self.first)

    @asynccontextmanager
    async def read(self, brokers: str, topic: str) -> AsyncIterator[None]:
        """Read along for as long as the block."""
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=brokers, auto_offset_reset="earliest", max_partition_fetch_bytes=1 << 24
        )
        await consumer.start()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._follow, consumer)
                yield
                tasks.cancel_scope.cancel()
        finally:
            await consumer.stop()

    async def _follow(self, consumer: AIOKafkaConsumer) -> None:
        while True:
            for fetched in (await consumer.getmany(timeout_ms=100)).values():
                for came in fetched:
                    id = int(dict(came.headers)["dagtel-storage-id"])
                    self.records.append(Came(id, came.key, came.partition, digest(came.value)))
                    if id not in self.first:
                        self.first[id] = Record(came.value, came.key or b"", id)


@pytest.fixture
def dagster() -> Iterator[PostgresDagster]:
    with new_database() as made:
        yield made


@pytest.fixture
def bridges(backends: dict[str, str], dagster: PostgresDagster, tmp_path: Path) -> Iterator[Callable[[str], Daemon]]:
    """Starts bridges into a topic; all of them have one state."""
    started: list[Daemon] = []

    def start(topic: str) -> Daemon:
        environment = {
            "DAGTEL_DAGSTER_POSTGRES_URL": dagster.url.reveal(),
            "DAGTEL_DAGSTER_INSTANCE": "chaos",
            "DAGTEL_KAFKA": backends["kafka"],
            "DAGTEL_TOPIC": topic,
            "DAGTEL_TOPIC_PARTITIONS": str(PARTITIONS),
            "DAGTEL_BRIDGE_STATE": str(tmp_path / "bridge.db"),
        }
        started.append(Daemon("bridge", environment=environment, log=tmp_path / "bridge.log"))
        return started[-1]

    yield start
    for daemon in started:
        daemon.kill()
    print((tmp_path / "bridge.log").read_text()[-8000:] if started else "")


def test_every_stored_event_reaches_kafka_in_its_runs_order_and_is_counted_once(
    scene: Callable[..., Scene], bridges: Callable[[str], Daemon], dagster: PostgresDagster
) -> None:
    here = scene("bridge")
    here.configs = [HERE / "counters.yaml"]
    here.sets = {"exporters.prometheus.textfile": str(here.folder / "metrics.prom")}
    made = list(records(EVENTS, later_s=int(time.time()) - recorded_at(), salt=here.name))
    shares = shared_out(made, random.Random(7), LARGE_EVERY, LARGEST)
    topic = Topic()
    writers = Writers(dagster, shares, lambda: writers.count() - len(topic.first) < AHEAD)
    runs = sorted({json.loads(events[0])["run_id"] for share in shares for events in share} - {""})
    retention = Retention(dagster, lambda: set(topic.first), runs)
    starts, cuts = anyio.run(_under_fire, here, bridges, dagster, topic, writers, retention)

    stored = writers.all()
    missing = stored.keys() - topic.first.keys() - retention.deleted
    changed = [came.id for came in topic.records if stored[came.id].digest != came.digest]
    unread = stored.keys() - topic.first.keys()
    truth = Truth(topic.first.values())
    found, once = _counted(here, topic)
    lost, doubled, worst = different(found, once)
    record(
        Row(
            order=6,
            fault="kill -9 of the bridge while 8 writers store rows of up to 10 MB, roll back, and retention deletes",
            times=KILLS,
            events=len(stored),
            lost=len(missing) + lost,
            doubled=doubled,
            recovery=f"{seconds(starts)} from start to the first record",
            seen=f"{topic.repeats:,} repeats in the topic, dropped by `redelivery`; {writers.rolled_back:,} rollbacks; "
            f"connection cut {cuts} times; {len(unread):,} rows deleted before they were read",
        )
    )
    assert topic.first.keys() <= stored.keys(), "what was rolled back never arrives"
    assert missing == set()
    assert changed == []
    assert _out_of_order(writers, topic) == {}
    assert len(stored) > EVENTS * 0.99
    assert (lost, doubled, worst) == (0, 0, [])
    assert figures_of(found) == (truth.materializations, truth.checks, truth.runs_ended)


async def _under_fire(
    here: Scene,
    bridges: Callable[[str], Daemon],
    dagster: PostgresDagster,
    topic: Topic,
    writers: Writers,
    retention: Retention,
) -> tuple[list[float], int]:
    """Kill the bridge KILLS times, each time when some more has arrived, and cut its connection every third time; then
    let it catch up. Gives how long each start took to its first new record, and the number of cuts."""
    chance = random.Random(13)
    share = EVENTS // (KILLS + 1)
    starts: list[float] = []
    cuts = 0

    def arrived(count: int) -> Callable[[], bool]:
        return lambda: len(topic.first) >= count

    daemon = bridges(here.name)
    writers.start()
    try:
        await _made(here.backends["kafka"], here.name)
        async with topic.read(here.backends["kafka"], here.name):
            retention.start()
            for number in range(KILLS):
                if number % 3 == 2:
                    await _until("some more", arrived(share * number + share // 3), daemon)
                    cuts += await anyio.to_thread.run_sync(_cut_connection, dagster)
                await _until("enough", arrived(share * number + chance.randrange(share // 2, share)), daemon)
                await anyio.to_thread.run_sync(daemon.kill)
                before, began = len(topic.records), time.monotonic()
                daemon = bridges(here.name)
                await _until("it goes on", lambda before=before: len(topic.records) > before, daemon)
                starts.append(time.monotonic() - began)
            await _until("all is written", lambda: not writers.under_way, daemon)
            wanted = writers.all().keys()
            await _until("all is there", lambda: not wanted - topic.first.keys() - retention.deleted, daemon)
            code = await anyio.to_thread.run_sync(daemon.stop)
            assert code == 0
            await _until("nothing more comes", _quiet(topic), None)
    finally:
        await anyio.to_thread.run_sync(writers.stop)
        await anyio.to_thread.run_sync(retention.stop)
    return starts, cuts


async def _until(what: str, found: Callable[[], bool], daemon: Daemon | None) -> None:
    """Wait for a condition; the bridge must live on meanwhile."""
    deadline = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < deadline, f"not in {PATIENCE_S} s: {what}"
        code = daemon.process.poll() if daemon else None
        assert code is None, f"the bridge ended with {code} before: {what}"
        await anyio.sleep(0.02)


def _quiet(topic: Topic) -> Callable[[], bool]:
    """Whether two fetches in a row have brought nothing: what was sent before a clean stop is there to be read."""
    seen = [-1, 0.0]

    def quiet() -> bool:
        if len(topic.records) != seen[0]:
            seen[:] = len(topic.records), time.monotonic()
        return time.monotonic() - seen[1] > 1

    return quiet


async def _made(brokers: str, topic: str) -> None:
    """Wait until the bridge has made its topic: whoever asks for it before might make it, with other settings."""
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        with anyio.fail_after(PATIENCE_S):
            while topic not in await admin.list_topics():
                await anyio.sleep(0.1)
    finally:
        await admin.close()


def _cut_connection(dagster: PostgresDagster) -> int:
    with dagster.connect() as database:
        return database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'dagtel' AND datname = current_database()"
        ).rowcount


def _out_of_order(writers: Writers, topic: Topic) -> dict[str, list[int]]:
    """Runs whose first arrivals are not in the order in which they were stored, and runs in two partitions."""
    stored: dict[str, list[Stored]] = {}
    for rows in writers.stored:
        for row in rows:
            stored.setdefault(row.run, []).append(row)
    arrived: dict[bytes | None, list[int]] = {}
    partitions: dict[bytes | None, set[int]] = {}
    seen: set[int] = set()
    for came in topic.records:
        partitions.setdefault(came.key, set()).add(came.partition)
        if came.id not in seen:
            seen.add(came.id)
            arrived.setdefault(came.key, []).append(came.id)
    wrong = {}
    for run, rows in stored.items():
        if not run:
            continue  # without a run there is no order to keep
        came_ids = arrived.get(run.encode(), [])
        if came_ids != [row.id for row in rows if row.id in topic.first] or len(partitions.get(run.encode(), ())) > 1:
            wrong[run] = came_ids
    return wrong


def _counted(here: Scene, topic: Topic) -> tuple[Counters, Counters]:
    """What a daemon counts that reads the topic with its repeats, and one that reads each event once."""
    once = f"{here.name}-once"
    anyio.run(_written_once, here.backends["kafka"], once, list(topic.first.values()))
    here.once()
    return here.counters(), undisturbed(here, once)


async def _written_once(brokers: str, topic: str, made: list[Record]) -> None:
    await make_topic(brokers, topic, PARTITIONS, configs={"max.message.bytes": str(1 << 24)})
    await write(brokers, topic, made)
