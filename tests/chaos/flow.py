"""Events all the time, a failing run of a job of its own with each tick, so that it shows how soon somebody is told."""

import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
from aiokafka import AIOKafkaProducer

from benchmarks.load import Record, records
from tests.chaos.events import Truth, alarm, headers, recorded_at
from tests.chaos.scene import Scene

TICK_S = 0.3
BESIDE = 40
"""Recorded events that flow with each failing run."""
AHEAD = 4
"""So many failures may wait to be told; then the flow waits, too, and a slow machine is not buried in it."""
PATIENCE_S = 120.0


class Flow:
    """`made` is what was sent; `sent` says of each failing run's job when."""

    def __init__(self, here: Scene, alerts: list[dict[str, Any]]) -> None:
        self.here, self.alerts = here, alerts
        self.made: list[Record] = []
        self.sent: dict[str, float] = {}
        self.stop = False
        self._later = int(time.time()) - recorded_at()

    async def run(self, producer: AIOKafkaProducer) -> None:
        beside = records(10**9, later_s=self._later, salt=self.here.name)
        number = 0
        while not self.stop:
            failing = alarm(number, self._later, self.here.name, 10_000_000 + 100 * number)
            for each in [*(next(beside) for _ in range(BESIDE)), *failing]:
                self.made.append(each)
                await producer.send(self.here.name, each.value, key=each.key, headers=headers(each))
            self.sent[json.loads(failing[0].value)["pipeline_name"]] = time.time()
            number += 1
            await anyio.sleep(TICK_S)
            while len(self.untold()) >= AHEAD and not self.stop:
                await anyio.sleep(TICK_S)
        await producer.flush()

    def untold(self) -> set[str]:
        """Jobs whose failure nobody was told of yet."""
        return set(self.sent) - {alert["job"] for alert in tuple(self.alerts)}

    async def ticks(self, count: int) -> list[str]:
        """Wait for so many more; gives their jobs."""
        before = len(self.sent)
        await self.until("events flow", lambda: len(self.sent) >= before + count)
        return list(self.sent)[before : before + count]

    async def told(self, jobs: Sequence[str]) -> None:
        """Wait until somebody was told of each of them."""
        await self.until("all are told", lambda: not self.untold() & set(jobs))

    async def recovery(self) -> float:
        """Seconds until somebody was told of failures that happen from now on."""
        began = time.monotonic()
        await self.told(await self.ticks(2))
        return time.monotonic() - began

    async def until(self, what: str, found: Callable[[], bool]) -> None:
        await anyio.to_thread.run_sync(self.here.wait, what, found, PATIENCE_S)


@asynccontextmanager
async def flowing(here: Scene, alerts: list[dict[str, Any]], bootstrap: str) -> AsyncIterator[Flow]:
    """Events for the daemons of a scene, which run already; at the end all failures are told."""
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, request_timeout_ms=10_000, linger_ms=5
    )
    await producer.start()
    try:
        flow = Flow(here, alerts)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(flow.run, producer)
            await flow.told(await flow.ticks(2))
            yield flow
            flow.stop = True
    finally:
        await producer.stop()
    await flow.told(list(flow.sent))


def fired(truth: Truth, alerts: Sequence[dict[str, Any]]) -> Counter[str]:
    """How often each failing run's alert was told as new."""
    return Counter(alert["job"] for alert in alerts if alert["state"] == "firing" and alert["job"] in truth.alarms)
