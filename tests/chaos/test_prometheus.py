"""What a Prometheus that scrapes each second has seen of every counter, over kills and restarts.

`increase()` extrapolates to the edges of its range, so it is compared by what it is made of: the raw samples. Of each
series the sum of all steps up, a step down counting as a reset with all that follows it, from the first sample to the
last; that must be the truth, and there must be no step down. What a series shows in its very first sample is no
increase for anybody: it is 0, but for series that began after the last scrape before a kill or a stop. They are shown
as they are at the next start (docs/metrics.md), because somebody might have seen them, and are counted apart.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, TypeAlias

import anyio
import anyio.to_thread
import pytest
from aiokafka import AIOKafkaProducer

from benchmarks.load import Record, records
from tests.chaos.events import alarm, headers, make_topic
from tests.chaos.scene import Scene, size, undisturbed
from tests.chaos.table import Row, record
from tests.integration.conftest import ROOT, free_port, get

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

WHOLE = 2177
"""Events of the corpus once; then every run in it has ended."""
ROUNDS = size(2, 10)
TICK = 40
TICK_S = 0.1
KILL_EVERY = size(40, 60)
"""Ticks between two kills or restarts."""
START_S = 15.0
"""The first scrape after a start comes no later."""
PARTITIONS = 2
_TIME = re.compile(rb'"timestamp": \d+(\.\d+)?')
Series: TypeAlias = tuple[str, frozenset[tuple[str, str]]]


@contextmanager
def prometheus(here: Scene, source: str) -> Iterator[str]:
    """A Prometheus of the scene's own, scraping each second."""
    config = here.folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: dagtel, static_configs: [{{targets: ['{here.metrics}']}}]}}]\n"
    )
    environment = {
        **os.environ,
        "BACKENDS_RUN": str(here.folder / "backends"),
        "PROM_PORT": str(free_port()),
        "PROM_FROM": source,
        "PROM_CONFIG": str(config),
    }
    script = ROOT / "tests" / "backends" / "prometheus"
    up = subprocess.run([script, "up"], env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    try:
        yield up.stdout.strip().splitlines()[-1]
    finally:
        subprocess.run([script, "wipe"], env=environment, capture_output=True, check=False)


def test_prometheus_sees_every_counter_grow_by_the_truth_over_kills_and_restarts(scene: Callable[..., Scene]) -> None:
    here = scene("prometheus")
    with prometheus(here, here.backends["prometheus"]) as url:
        made, starts = anyio.run(_flow, here)
        truth = undisturbed(here)
        wanted = {key: value for key, value in truth.items() if value}
        here.wait("the last figures are scraped", lambda: wanted.items() <= _last(url, here).items(), 30)
        seen = _samples(url, here)

    lost = doubled = down = born_above = 0
    for key, value in wanted.items():
        values = [value for _, value in seen[key]]
        down += sum(after < before for before, after in pairwise(values))
        grown = sum(after if after < before else after - before for before, after in pairwise(values))
        if values[0]:
            born_above += 1
            first = seen[key][0][0]
            assert any(0 < first - start < START_S for start in starts), f"{key} begins with {values[0]} at {first}"
        lost, doubled = lost + int(max(0, value - values[0] - grown)), doubled + int(max(0, grown - value))
    record(
        Row(
            order=5,
            fault="kills and restarts, as Prometheus sees the counters (a scrape a second)",
            times=len(starts),
            events=len(made),
            lost=lost,
            doubled=doubled,
            recovery="–",
            seen=f"{len(wanted):,} series, {down} steps down; {born_above} were born in the scrape interval before "
            "a kill, and no scrape saw them at 0",
        )
    )
    assert (down, lost, doubled) == (0, 0, 0)


async def _flow(here: Scene) -> tuple[list[Record], list[float]]:
    """Events as they come in life, and every now and then a kill or a stop; gives what was sent, and when it was
    started again."""
    await make_topic(here.backends["kafka"], here.name, PARTITIONS)
    producer = AIOKafkaProducer(bootstrap_servers=here.backends["kafka"])
    await producer.start()
    made: list[Record] = []
    starts: list[float] = []
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
                starts.append(time.time())
                daemon = here.start()
    finally:
        await producer.stop()
    await anyio.to_thread.run_sync(here.wait, "all is read", lambda: here.lag(PARTITIONS) == 0)
    return made, starts


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


def _samples(url: str, here: Scene) -> dict[Series, list[tuple[float, float]]]:
    """All raw samples of each series: time and value."""
    return {
        key: [(float(at), float(value)) for at, value in found["values"]]
        for key, found in _asked(url, f'{{job="dagtel", instance="{here.metrics}"}}[1h]')
    }


def _last(url: str, here: Scene) -> dict[Series, float]:
    """The newest sample of each series."""
    return {key: float(found["value"][1]) for key, found in _asked(url, f'{{instance="{here.metrics}"}}')}


def _asked(url: str, query: str) -> Iterator[tuple[Series, dict[str, Any]]]:
    for found in get(f"{url}/api/v1/query", query=query)["data"]["result"]:
        labels = {k: v for k, v in found["metric"].items() if k not in ("job", "instance", "__name__")}
        if labels.get("le", "+Inf") != "+Inf":
            labels["le"] = str(float(labels["le"]))  # Prometheus writes 1 for the text's 1.0
        yield (found["metric"]["__name__"], frozenset(labels.items())), found
