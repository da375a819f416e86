"""What a Prometheus that scrapes each second has seen of every counter, over kills and restarts (see `scraping`)."""

import re
import time
from collections.abc import Callable, Iterator

import anyio
import anyio.to_thread
import pytest
from aiokafka import AIOKafkaProducer

from benchmarks.load import Record, records
from tests.chaos.events import alarm, headers, make_topic
from tests.chaos.scene import Scene, size, undisturbed
from tests.chaos.scraping import prometheus
from tests.chaos.table import Row, record

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

WHOLE = 2177
"""Events of the corpus once; then every run in it has ended."""
ROUNDS = size(2, 10)
TICK = 40
TICK_S = 0.1
KILL_EVERY = size(40, 60)
"""Ticks between two kills or restarts."""
PARTITIONS = 2
_TIME = re.compile(rb'"timestamp": \d+(\.\d+)?')


def test_prometheus_sees_every_counter_grow_by_the_truth_over_kills_and_restarts(scene: Callable[..., Scene]) -> None:
    here = scene("prometheus")
    with prometheus(here) as scraped:
        made = anyio.run(_flow, here)
        wanted = undisturbed(here)
        growth = scraped.growth(scraped.settled(lambda: wanted), live=True)
    record(
        Row(
            order=5,
            fault="kills and restarts, as Prometheus sees the counters (a scrape a second)",
            times=len(here.starts) - 1,
            events=len(made),
            lost=growth.lost,
            doubled=growth.doubled,
            recovery="–",
            seen=f"{growth.series:,} series, {growth.down} steps down, {growth.born_above} that did not begin with 0",
        )
    )
    assert (growth.down, growth.lost, growth.doubled, growth.born_above) == (0, 0, 0, 0)


async def _flow(here: Scene) -> list[Record]:
    """Events as they come in life, and every now and then a kill or a stop; gives what was sent."""
    await make_topic(here.backends["kafka"], here.name, PARTITIONS)
    producer = AIOKafkaProducer(bootstrap_servers=here.backends["kafka"])
    await producer.start()
    made: list[Record] = []
    try:
        daemon = here.start()
        await anyio.to_thread.run_sync(here.wait, "it is ready", here.ready)
        for number, tick in enumerate(_ticks(here.name), 1):
            for sent in tick:
                made.append(live(sent))
                await producer.send(here.name, made[-1].value, key=sent.key, headers=headers(sent))
            await producer.flush()
            await anyio.sleep(TICK_S)
            if number % KILL_EVERY == 0:
                await anyio.to_thread.run_sync(here.wait, "it reads", here.accepted)
                if number % (2 * KILL_EVERY):
                    daemon.kill()
                else:
                    assert await anyio.to_thread.run_sync(daemon.stop) == 0
                daemon = here.start()
    finally:
        await producer.stop()
    await anyio.to_thread.run_sync(here.wait, "all is read", lambda: here.lag(PARTITIONS) == 0)
    return made


def _ticks(salt: str) -> Iterator[list[Record]]:
    """The corpus's events in their order, and with each tick a failing run of a new job: new series all the time."""
    tick: list[Record] = []
    number = 0
    for recorded in records(WHOLE * ROUNDS, salt=salt):
        tick.append(recorded)
        if len(tick) == TICK:
            yield tick + alarm(number, 0, salt, 10_000_000 + 100 * number)
            tick, number = [], number + 1
    yield tick


def live(sent: Record) -> Record:
    """The event as if it happened now."""
    now = b'"timestamp": %.6f' % time.time()
    return Record(_TIME.sub(now, sent.value), sent.key, sent.storage_id)
