"""A backend that is dead, slow, refuses, cuts connections or answers garbage harms itself alone, and not for long."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anyio
import anyio.to_thread
import pytest
from aiokafka import AIOKafkaProducer

from benchmarks.load import Record
from tests.chaos.events import Truth, alarm, headers, make_topic, mixed, recorded_at
from tests.chaos.faulty import FAULTS, Fault, Faulty, faulty
from tests.chaos.scene import LONG, Scene, size
from tests.chaos.scraping import watched
from tests.chaos.table import Row, record, seconds
from tests.chaos.verdict import compared

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1800)]

NAMES = ("jaeger", "loki", "webhook")
ALARMS = size(15, 60)
"""Failing runs while a fault lasts, one each TICK_S."""
TICK_S = 0.1
BESIDE = 40
"""Recorded events that flow with each."""
ALERT_S = 2.0
PATIENCE_S = 180.0
PARTITIONS = 2


class Phase:
    """One fault of one backend: what was sent meanwhile, and how it went."""

    def __init__(self, backend: str, fault: Fault) -> None:
        self.backend, self.fault = backend, fault
        self.sent: dict[str, float] = {}
        self.began = self.ended = 0.0
        self.recovery = 0.0


def phases() -> list[Phase]:
    """In the long form each fault at each backend, in the short form each fault once."""
    if LONG:
        return [Phase(backend, fault) for fault in FAULTS for backend in NAMES]
    return [Phase(NAMES[number % len(NAMES)], fault) for number, fault in enumerate(FAULTS)]


class Traffic:
    """Failing runs among recorded events, a little of both at each tick."""

    def __init__(self, here: Scene, producer: AIOKafkaProducer) -> None:
        self.later = int(time.time()) - recorded_at()
        self.name, self.producer = here.name, producer
        self.made: list[Record] = []
        self._number = 0
        self._beside = iter(mixed(200_000, self.later, here.name, every=10**9))

    async def tick(self) -> tuple[str, float]:
        """Send some; gives the job that failed, and when that was sent."""
        batch = [next(self._beside) for _ in range(BESIDE)]
        failing = alarm(self._number, self.later, self.name, 10_000_000 + 100 * self._number)
        self._number += 1
        for made in batch:
            await self._send(made)
        at = time.time()
        for made in failing:
            await self._send(made)
        await self.producer.flush()
        return json.loads(failing[0].value)["pipeline_name"], at

    async def _send(self, made: Record) -> None:
        self.made.append(made)
        await self.producer.send(self.name, made.value, key=made.key, headers=headers(made))


@pytest.fixture
def proxies(
    backends: dict[str, str], webhook: tuple[str, list[dict[str, Any]]]
) -> Iterator[tuple[dict[str, Faulty], list[dict[str, Any]]]]:
    url, alerts = webhook
    with ExitStack() as stack:
        addresses = {"jaeger": backends["jaeger_otlp"], "loki": backends["loki"], "webhook": url}
        yield (
            {
                name: stack.enter_context(faulty(address, takes_pages=name != "webhook"))
                for name, address in addresses.items()
            },
            alerts,
        )


def test_a_backend_in_trouble_delays_no_other_and_nothing_is_lost(
    scene: Callable[..., Scene], proxies: tuple[dict[str, Faulty], list[dict[str, Any]]]
) -> None:
    wrong, alerts = proxies
    here = scene("backends", wrong["webhook"].url)
    here.environment |= {"DAGTEL_JAEGER_ENDPOINT": wrong["jaeger"].url, "DAGTEL_LOKI_ENDPOINT": wrong["loki"].url}
    here.sets |= {f"exporters.{name}.timeout": "10s" for name in NAMES}  # so that 5 s are slow, and not no answer
    plan = phases()
    with watched(here) as scraped:
        made = anyio.run(_broken, here, wrong, plan)
        here.idle(PARTITIONS, PATIENCE_S)
        scraped.judge()
        assert here.started[0].stop() == 0, here.log[-4000:]
    here.once()  # runs that were cut short by the end of the load are closed

    found = compared(here, Truth(made), alerts)
    unanswered = sum(call.forwarded and not call.answered for call in wrong["webhook"].calls)
    for number, fault in enumerate(FAULTS):
        those = [phase for phase in plan if phase.fault == fault]
        record(
            Row(
                order=2 + number / 10,
                fault=f"{', '.join(phase.backend for phase in those)} {NAMED[fault]}",
                times=len(those),
                events=sum(len(phase.sent) for phase in those) * (BESIDE + 13),
                lost=found.lost,
                doubled=found.doubled,
                recovery=seconds([phase.recovery for phase in those]),
                seen=_said(_latencies(wrong["webhook"], those)) + scraped.seen,
            )
        )
    found.check(repeats=unanswered)  # what the webhook got and gave no answer to may come twice
    if LONG:  # the short form runs beside anything
        latencies = _latencies(wrong["webhook"], plan)
        assert _p99(latencies) < ALERT_S, sorted(latencies)[-10:]
        for phase in plan:
            for name in set(NAMES) - {phase.backend}:
                assert _gap(wrong[name], phase) < ALERT_S + 1, f"{name} waited while {phase.backend} was {phase.fault}"


NAMED = {
    "dead": "dead (nobody listens)",
    "slow": "slow (5 s to an answer)",
    "refusing": "refusing (429, 503, Retry-After 1 s)",
    "cutting": "cutting connections, before and after they took the data",
    "garbage": "answering garbage (no HTTP, a login page, 502 with bytes)",
}


async def _broken(here: Scene, wrong: dict[str, Faulty], plan: list[Phase]) -> list[Record]:
    """Let it flow, and break one after another meanwhile; gives all that was sent."""
    await make_topic(here.backends["kafka"], here.name, PARTITIONS)
    producer = AIOKafkaProducer(bootstrap_servers=here.backends["kafka"])
    await producer.start()
    try:
        traffic = Traffic(here, producer)
        here.start()
        await traffic.tick()
        await _until(here, lambda: len(wrong["webhook"].calls) > 0)  # it is under way
        for phase in plan:
            await _phase(here, wrong, phase, traffic)
    finally:
        await producer.stop()
    return traffic.made


async def _phase(here: Scene, wrong: dict[str, Faulty], phase: Phase, traffic: Traffic) -> None:
    proxy = wrong[phase.backend]
    phase.began = time.time()
    proxy.fault = phase.fault
    for _ in range(ALARMS):
        job, at = await traffic.tick()
        phase.sent[job] = at
        await anyio.sleep(TICK_S)
    await _until(here, lambda: _others_have_all(here, wrong, phase))  # and that backend is still in trouble
    proxy.fault = None
    phase.ended = time.time()

    def over() -> bool:
        back = proxy.forwarded_since(phase.ended)
        if back is None:
            return False
        phase.recovery = max(0.0, back - phase.ended)
        return not sum(here.figures("dagtel_exporter_queue_size").values())

    await _until(here, over)


async def _until(here: Scene, found: Callable[[], bool]) -> None:
    await anyio.to_thread.run_sync(here.wait, "recovery", found, PATIENCE_S)


def _others_have_all(here: Scene, wrong: dict[str, Faulty], phase: Phase) -> bool:
    """Whether all that was sent in a phase has got to every backend but the one in trouble."""
    queues = here.figures("dagtel_exporter_queue_size")
    waiting = sum(queues.get(frozenset({("exporter", name)}), 1.0) for name in NAMES if name != phase.backend)
    if here.lag(PARTITIONS) != 0 or waiting:
        return False
    told = {found["job"] for call in wrong["webhook"].calls if call.answered for found in [json.loads(call.body)]}
    return phase.backend == "webhook" or phase.sent.keys() <= told


def _latencies(webhook: Faulty, plan: list[Phase]) -> list[float]:
    """Seconds from a failure's append to the first call about it, over the phases in which another was in trouble."""
    first: dict[str, float] = {}
    for call in webhook.calls:
        found = json.loads(call.body)
        if found["state"] == "firing":
            first.setdefault(found["job"], call.at)
    others = [phase for phase in plan if phase.backend != "webhook"]
    return [first[job] - at for phase in others for job, at in phase.sent.items()]


def _p99(found: list[float]) -> float:
    return sorted(found)[max(0, int(len(found) * 0.99) - 1)]


def _said(latencies: list[float]) -> str:
    return f"alerts p99 {_p99(latencies):.2f} s while the others were in trouble" if latencies else ""


def _gap(proxy: Faulty, phase: Phase) -> float:
    """The longest time in a phase in which a healthy backend was sent nothing."""
    times = [phase.began, *(call.at for call in proxy.calls if phase.began <= call.at <= phase.ended), phase.ended]
    return max(after - before for before, after in zip(times, sorted(times)[1:], strict=False))
