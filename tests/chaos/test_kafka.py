"""Brokers that die, coordinators that die, leaders that move; topics that are not what they were."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from benchmarks.load import Record
from tests.chaos.cluster import NODES, Cluster, coordinator, leaders, three_brokers
from tests.chaos.events import Truth, fill, make_topic, mixed, recorded_at, write
from tests.chaos.flow import fired, flowing
from tests.chaos.scene import LONG, Scene, different, size, undisturbed
from tests.chaos.table import Row, record, seconds

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

PARTITIONS = 3
AFTER_TICKS = size(2, 30)
"""Ticks that flow on after each fault."""


@pytest.fixture
def cluster(backends: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with three_brokers(tmp_path_factory.mktemp("cluster")) as found:
        yield found


Fault: TypeAlias = Callable[[Cluster, Scene], None]


async def _disturbed(
    here: Scene, alerts: list[dict[str, Any]], cluster: Cluster, faults: Sequence[tuple[Fault, Fault]]
) -> tuple[list[Record], list[float]]:
    """Break and mend while events flow; gives them, and how long it took each time until somebody was told of a
    failure that happened after the break."""
    recoveries = []
    await make_topic(cluster.bootstrap, here.name, PARTITIONS, len(NODES))
    here.start()
    async with flowing(here, alerts, cluster.bootstrap) as flow:
        for break_it, mend in faults:
            await anyio.to_thread.run_sync(break_it, cluster, here)
            recoveries.append(await flow.recovery())
            await anyio.to_thread.run_sync(mend, cluster, here)
            await flow.told(await flow.ticks(AFTER_TICKS))
    await flow.until("all is read", lambda: here.lag(PARTITIONS) == 0)
    return flow.made, recoveries


def _judged(here: Scene, made: list[Record], alerts: list[dict[str, Any]], row: Callable[[int, int], Row]) -> None:
    """Compare with the truth, note it, and complain."""
    assert here.started[0].stop() == 0, here.log[-4000:]
    here.once()
    truth = Truth(made)
    lost, doubled, worst = different(here.counters(), undisturbed(here))
    lines = here.in_loki(truth)
    told = fired(truth, alerts)
    record(
        row(
            lost + truth.events - len(lines) + len(truth.alarms - set(told)),
            doubled + lines.total() - len(lines) + told.total() - len(told),
        )
    )
    assert (lost, doubled, worst) == (0, 0, [])
    assert (len(lines), lines.total()) == (truth.events, truth.events)
    assert told == Counter(truth.alarms)


def _scene(scene: Callable[..., Scene], name: str, url: str, cluster: Cluster) -> Scene:
    here = scene(name, url)
    here.backends = here.backends | {"kafka": cluster.bootstrap}
    here.environment["DAGTEL_KAFKA"] = cluster.bootstrap
    here.sets["exporters.webhook.timeout"] = "60s"  # a call that ran out of time is made again, and counted twice
    return here


def _nothing(cluster: Cluster, here: Scene) -> None:
    """There is nothing to be mended."""


def test_brokers_coordinator_and_leaders_may_go_one_at_a_time(
    scene: Callable[..., Scene], webhook: tuple[str, list[dict[str, Any]]], cluster: Cluster
) -> None:
    url, alerts = webhook
    here = _scene(scene, "brokers", url, cluster)
    gone: list[int] = []

    def kill(node: int) -> Fault:
        def break_it(cluster: Cluster, here: Scene) -> None:
            gone.append(node)
            cluster.kill(node)

        return break_it

    def kill_coordinator(cluster: Cluster, here: Scene) -> None:
        kill(anyio.run(coordinator, cluster.bootstrap, here.name))(cluster, here)

    def back(cluster: Cluster, here: Scene) -> None:
        cluster.start(gone[-1])

    def move(cluster: Cluster, here: Scene) -> None:
        before = anyio.run(leaders, cluster.bootstrap, here.name)
        nodes = [[leader % 3 + 1, (leader + 1) % 3 + 1, leader] for _, leader in sorted(before.items())]
        cluster.put_replicas(here.name, nodes)
        here.wait("leaders have moved", lambda: anyio.run(leaders, cluster.bootstrap, here.name) != before)

    each_broker = [(kill(node), back) for node in NODES[: size(0, 3)]]
    killed = f"{len(each_broker)} killed in turn, " if each_broker else ""
    plan = [*each_broker, (kill_coordinator, back), (move, _nothing)]
    made, recoveries = anyio.run(partial(_disturbed, here, alerts, cluster, plan))

    def row(lost: int, doubled: int) -> Row:
        return Row(
            order=6.2,
            fault=f"three brokers: {killed}the coordinator killed, the leaders moved",
            times=len(plan),
            events=len(made),
            lost=lost,
            doubled=doubled,
            recovery=f"{seconds(recoveries)} until a failure after it was told",
            seen="Kafka itself takes 3 s to notice a dead broker here",
        )

    _judged(here, made, alerts, row)


# --- topics that are not what they were ---

OLD = 400
REFUSED_S = 60.0


async def _delete(bootstrap: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([topic])
    finally:
        await admin.close()


async def _remake(bootstrap: str, topic: str, made: list[Record]) -> None:
    """Delete the topic, make it again with other records in it."""
    await _delete(bootstrap, topic)
    try:
        await make_topic(bootstrap, topic, 1)
    except AssertionError as error:
        # The daemon has asked for it meanwhile, and the broker makes what is asked for: aiokafka cannot be told not to.
        assert "already exists" in str(error)
    await write(bootstrap, topic, made)


MADE_ANEW = [
    pytest.param(OLD * 5, True, id="longer, under the daemon's hands"),
    pytest.param(OLD // 2, False, id="shorter, while the daemon was down"),
    *(
        [
            pytest.param(OLD // 2, True, id="shorter, under the daemon's hands"),
            pytest.param(OLD * 5, False, id="longer, while the daemon was down"),
        ]
        if LONG
        else []
    ),
]


@pytest.mark.parametrize(("length", "running"), MADE_ANEW)
def test_a_topic_made_anew_is_not_read_on_from_the_middle(
    scene: Callable[..., Scene], length: int, running: bool
) -> None:
    here = scene("anew")
    later = int(time.time()) - recorded_at()
    old, new = mixed(OLD, later, here.name), mixed(length, later, f"{here.name}-new")
    new = [Record(each.value, each.key, 20_000_000 + number) for number, each in enumerate(new)]
    anyio.run(fill, here.backends["kafka"], here.name, old, 1)
    here.sets["receivers.kafka.metadata_refresh_interval"] = "1s"
    daemon = here.start()
    here.wait("it has read the old topic", lambda: here.lag(1) == 0 and here.accepted() == len(old))
    if not running:
        assert daemon.stop() == 0
    anyio.run(_remake, here.backends["kafka"], here.name, new)
    if not running:
        daemon = here.start()
    began = time.monotonic()
    code = daemon.process.wait(REFUSED_S)
    took = time.monotonic() - began
    said = here.log.splitlines()[-8:]
    assert code == 1, here.log[-3000:]
    assert any("on_recreated: accept" in line for line in said), said
    before = here.in_loki(Truth(new))
    here.sets["receivers.kafka.on_recreated"] = "accept"
    here.once()
    truth, found = Truth([*old, *new]), here.in_loki(Truth([*old, *new]))
    if length > OLD and running:
        record(
            Row(
                order=6.5,
                fault="a topic deleted and made again, shorter and longer, under the daemon and while it was down",
                times=len(MADE_ANEW),
                events=len(old) + len(new),
                lost=truth.events - len(found),
                doubled=found.total() - len(found),
                recovery="stops with 1 and names `on_recreated: accept`; with that, all of the new topic",
                seen=f"{took:.1f} s until it stopped",
            )
        )
    assert not set(before) & {id for id in found if id not in before}
    assert (len(found), found.total()) == (truth.events, truth.events)


def test_records_that_retention_took_before_they_were_read_are_said_to_be_lost(scene: Callable[..., Scene]) -> None:
    here = scene("lost")
    made = mixed(OLD, int(time.time()) - recorded_at(), here.name)
    anyio.run(fill, here.backends["kafka"], here.name, made[: OLD // 2], 1)
    daemon = here.start()
    here.wait("it has read half", lambda: here.accepted() == OLD // 2)
    assert daemon.stop() == 0
    anyio.run(write, here.backends["kafka"], here.name, made[OLD // 2 :])
    anyio.run(_truncate, here.backends["kafka"], here.name, OLD // 2 + 100)
    refused = here.start()
    assert refused.process.wait(REFUSED_S) == 1
    assert "on_lost: earliest" in here.log
    assert "(100 are gone)" in here.log
    here.sets["receivers.kafka.on_lost"] = "earliest"
    here.once()
    found = here.in_loki(Truth(made))
    assert (len(found), found.total()) == (len(made) - 100, len(made) - 100)


async def _truncate(bootstrap: str, topic: str, before: int) -> None:
    from aiokafka import TopicPartition
    from aiokafka.admin import RecordsToDelete

    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=before)})
    finally:
        await admin.close()
