"""The whole service on fakes: what goes in comes out once, whatever fails on the way."""

import gc
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from pipeline.batch import Batch
from pipeline.components import Payload, Position, Read, Rejected
from pipeline.config.model import HealthTelemetry
from pipeline.delivery import CircuitBreaker, Delivery, QueueBatch, RetryOnFailure, SendingQueue
from pipeline.errors import PartialError, PermanentError, StateError
from pipeline.events import Event
from pipeline.options import Duration, Size
from pipeline.runtime import driver
from pipeline.runtime.launch import run_service
from pipeline.store.state import StateStore
from pipeline.testing.fakes import (
    CollectingExporter,
    EachItem,
    FlakyExporter,
    MemoryReceiver,
    StuckExporter,
    a_plan,
    events,
)
from pipeline.topology.plan import Plan

pytestmark = pytest.mark.anyio
QUICK = Delivery(
    retry_on_failure=RetryOnFailure(initial_interval=Duration("1ms"), max_interval=Duration("2ms")),
    circuit_breaker=CircuitBreaker(cool_down=Duration("2ms")),
)


@asynccontextmanager
async def no_web(mounts: Mapping[str, Any]) -> AsyncIterator[None]:
    yield


async def run(plan: Plan) -> int:
    with anyio.fail_after(20):
        return await run_service(plan, True, no_web)


def letters(path: Path) -> list[tuple[str, str, str]]:
    store = StateStore(path)
    found = [(d.component, d.reason, d.origin) for d in store.dead_letters()]
    store.close()
    return found


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def test_every_event_comes_out_once_and_a_second_run_has_nothing_to_do(state: Path) -> None:
    out = CollectingExporter()
    plan = a_plan(MemoryReceiver(events(*"abcdefg")), [], {"out": out}, state)
    assert await run(plan) == 0
    assert out.messages == list("abcdefg")
    assert await run(plan) == 0
    assert out.messages == list("abcdefg")


async def test_what_was_delivered_does_not_wait_for_the_garbage_collector(state: Path) -> None:
    bodies: list[bytes] = []

    class Keeping(CollectingExporter):
        def build(self, batch: Batch[Any]) -> list[Payload]:
            bodies.append(msgspec.json.encode([item.message for item in batch.items]))
            return [Payload(bodies[-1], len(batch.items))]

        async def send(self, payload: Payload) -> None:
            gc.disable()  # the service has enabled it

    try:
        assert await run(a_plan(MemoryReceiver(events(*"abcd")), [], {"out": Keeping()}, state)) == 0
        assert [sys.getrefcount(body) for body in bodies] == [3] * len(bodies)  # the list, the name, the argument
    finally:
        gc.enable()


async def test_an_exporter_that_is_away_for_a_while_gets_everything_and_delays_nobody(state: Path) -> None:
    flaky, other = FlakyExporter(fails=5), CollectingExporter()
    plan = a_plan(
        MemoryReceiver(events(*"abcd")), [], {"flaky": flaky, "other": other}, state, delivery={"flaky": QUICK}
    )
    assert await run(plan) == 0
    assert sorted(flaky.messages) == list("abcd")
    assert other.messages == list("abcd")


async def test_what_does_not_get_out_in_time_stays_and_goes_first_at_the_next_start_byte_for_byte(state: Path) -> None:
    stuck = StuckExporter()
    first = a_plan(MemoryReceiver(events("a", "b")), [], {"out": stuck}, state, shutdown_timeout="300ms")
    assert await run(first) == 1
    store = StateStore(state)
    kept = [payload.body for row in store.waiting() if (payload := store.payload(row.id))]
    store.close()
    out = CollectingExporter()
    one = {"out": Delivery(sending_queue=SendingQueue(num_consumers=1))}  # several would send side by side
    assert await run(a_plan(MemoryReceiver(events("a", "b", "c")), [], {"out": out}, state, delivery=one)) == 0
    assert [payload.body for payload in out.payloads][: len(kept)] == kept
    assert out.messages == ["a", "b", "c"]


@pytest.mark.parametrize("comes", [True, False])
async def test_what_was_left_is_sent_once_the_first_events_are_read_or_do_not_come(
    state: Path, monkeypatch: pytest.MonkeyPatch, comes: bool
) -> None:
    """What sends may have to be loaded first, and a start has no time to spare."""
    one = {"out": Delivery(sending_queue=SendingQueue(num_consumers=1))}
    stuck = a_plan(MemoryReceiver(events("a")), [], {"out": StuckExporter()}, state, shutdown_timeout="100ms")
    assert await run(stuck) == 1
    monkeypatch.setattr(driver, "CALM_S", 3600.0 if comes else 0.2)
    told: list[str] = []

    class Late(MemoryReceiver):
        async def run(self, intake: Any) -> None:
            await anyio.sleep(0.1)
            told.append("read" if not out.payloads else "sent before")
            if comes:
                await super().run(intake)
            else:
                while not out.payloads:
                    await anyio.sleep(0.01)

    out = CollectingExporter()
    assert await run(a_plan(Late(events("a", "b")), [], {"out": out}, state, delivery=one)) == 0
    assert (told, out.messages) == (["read"], ["a", "b"] if comes else ["a"])


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermanentError("400: too old"), "refused: 400: too old"),
        (PartialError("1 of 2 refused", {0: "bad"}), "partly refused: 1 of 2 refused"),
        (KeyError("bug"), "KeyError: 'bug'"),
    ],
)
async def test_a_payload_refused_for_ever_is_a_dead_letter_with_the_answer(
    state: Path, error: Exception, reason: str
) -> None:
    out = FlakyExporter(fails=1, error=lambda: error)
    assert await run(a_plan(MemoryReceiver(events("a", "b")), [], {"out": out}, state)) == 0
    assert letters(state) == [("exporters.out", reason, "out")]


async def test_retries_end_where_the_configuration_says_so(state: Path) -> None:
    off = Delivery(retry_on_failure=RetryOnFailure(enabled=False))
    out = FlakyExporter(fails=1)
    assert await run(a_plan(MemoryReceiver(events("a")), [], {"out": out}, state, delivery={"out": off})) == 0
    assert letters(state) == [("exporters.out", "given up: away", "out")]


async def test_an_attempt_takes_no_longer_than_its_timeout(state: Path) -> None:
    class SlowOnce(CollectingExporter):
        slow = True

        async def send(self, payload: Payload) -> bytes | None:
            if self.slow:
                self.slow = False
                await anyio.sleep_forever()
            return await super().send(payload)

    out = SlowOnce()
    quick = msgspec.structs.replace(QUICK, timeout=Duration("50ms"))
    assert await run(a_plan(MemoryReceiver(events("a")), [], {"out": out}, state, delivery={"out": quick})) == 0
    assert out.messages == ["a"]


async def test_an_item_on_which_a_processor_raises_is_a_dead_letter_and_the_others_go_on(state: Path) -> None:
    def picky(event: Event) -> Event:
        if event.message in "ce":
            raise ValueError(f"not {event.message}")
        return event

    out = CollectingExporter()
    plan = a_plan(MemoryReceiver(events(*"abcdef"), size=6), [EachItem(picky)], {"out": out}, state)
    assert await run(plan) == 0
    assert out.messages == list("abdf")
    assert letters(state) == [
        ("processors.p0", "ValueError: not c", "memory@2"),
        ("processors.p0", "ValueError: not e", "memory@4"),
    ]


async def test_rejected_input_is_a_dead_letter_and_is_exported_where_configured(state: Path) -> None:
    out, dead = CollectingExporter(), CollectingExporter()
    bad = Rejected(b"{", "not JSON: it ends too early", "memory@9")
    receiver = MemoryReceiver(events("a"), rejected=[bad])
    assert await run(a_plan(receiver, [], {"out": out, "dead": dead}, state, dead_letters=("dead",))) == 0
    assert letters(state) == [("receivers.in", "not JSON: it ends too early", "memory@9")]
    assert dead.messages == ["not JSON: it ends too early"]


async def test_an_exporter_that_cannot_build_an_item_loses_only_that_item(state: Path) -> None:
    class Picky(CollectingExporter):
        def build(self, batch: Batch[Any]) -> Any:
            if any(item.message == "b" for item in batch.items):
                raise ValueError("no b")
            return super().build(batch)

    out = Picky()
    assert await run(a_plan(MemoryReceiver(events(*"abc"), size=3), [], {"out": out}, state)) == 0
    assert out.messages == ["a", "c"]
    assert letters(state) == [("exporters.out", "ValueError: no b", "memory@1")]


async def test_a_filtered_batch_moves_the_position_all_the_same(state: Path) -> None:
    out = CollectingExporter()
    plan = a_plan(MemoryReceiver(events(*"abc")), [EachItem(lambda e: None)], {"out": out}, state)
    assert await run(plan) == 0
    assert out.messages == []
    store = StateStore(state)
    assert store.positions(["memory"])["memory"].next == 3
    store.close()


async def test_intake_stops_while_a_blocking_outbox_is_full_and_the_sum_is_exact(state: Path) -> None:
    stuck = StuckExporter()
    small = Delivery(sending_queue=SendingQueue(queue_size=Size(40), num_consumers=1, batch=QueueBatch(max_size=1)))
    receiver = MemoryReceiver(events(*["message"] * 500), size=1)
    plan = a_plan(
        receiver,
        [],
        {"out": stuck},
        state,
        delivery={"out": small},
        shutdown_timeout="300ms",
        checkpoint_interval="1ms",
    )

    intake = msgspec.structs.replace(plan.service.intake, max_bytes=Size(100))
    plan = msgspec.structs.replace(plan, service=msgspec.structs.replace(plan.service, intake=intake))

    async def stop() -> None:
        await anyio.sleep(1.0)
        scope.cancel()

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stop)
            await run_service(plan, False, no_web)
    store = StateStore(state)
    waiting = sum(len(msgspec.json.decode(store.payload(row.id).body)) for row in store.waiting())  # type: ignore[union-attr]
    assert waiting == 4, "4 payloads of 11 bytes fill 40"
    assert store.positions(["memory"])["memory"].next == waiting
    assert receiver.read <= waiting + 1, "one more may stand in the intake"
    store.close()


async def test_drop_oldest_keeps_the_newest_takes_everything_in_and_says_so(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Held(CollectingExporter):
        def __init__(self) -> None:
            super().__init__()
            self.go = anyio.Event()

        async def send(self, payload: Payload) -> bytes | None:
            await self.go.wait()
            return await super().send(payload)

    class Releasing(MemoryReceiver):
        async def run(self, intake: Any) -> None:
            await intake.assign(["memory"])
            for at, item in enumerate(self.items):
                await intake.put(Read("memory", [item], Position(at + 1), size=1))
                self.read += 1
                while at + 1 not in [position.next for position in intake.committed().values()]:
                    await anyio.sleep(0)  # a payload each
            out.go.set()

    out = Held()
    queue = SendingQueue(queue_size=Size(30), num_consumers=1, on_full="drop_oldest")
    receiver = Releasing(events(*[f"{i:03}" for i in range(50)]), size=1)
    delivery = {"out": Delivery(timeout=Duration(0), sending_queue=queue)}
    plan = a_plan(receiver, [], {"out": out}, state, delivery=delivery, checkpoint_interval="1ms")
    assert await run(plan) == 0
    assert out.messages[-1] == "049"
    assert receiver.read == 50
    assert len(out.messages) < 50
    assert capsys.readouterr().err.count("Payloads dropped: the outbox is full.") == 1, "47 times would be a storm"


async def test_state_of_a_component_that_is_gone_stops_the_start_and_says_what_to_do(state: Path) -> None:
    store = StateStore(state)
    from pipeline.store.state import Commit, StateRow

    epoch = store.take_shard("whole").epoch
    store.commit(Commit(epochs={"whole": epoch}, rows=[StateRow("whole", "processors.old", "t", b"k", 1, b"v")]))
    store.close()
    plan = a_plan(MemoryReceiver(events("a")), [], {"out": CollectingExporter()}, state)
    with pytest.raises(StateError, match=r"processors\.old.*service\.state\.moved.*forget"):
        await run(plan)


async def test_unsent_payloads_of_an_exporter_that_is_gone_stop_the_start(state: Path) -> None:
    stuck = a_plan(MemoryReceiver(events("a")), [], {"slack": StuckExporter()}, state, shutdown_timeout="200ms")
    assert await run(stuck) == 1
    with pytest.raises(StateError, match=r"unsent payloads.*slack"):
        await run(a_plan(MemoryReceiver(events("a")), [], {"out": CollectingExporter()}, state))


async def test_a_receiver_that_fails_for_good_ends_the_service_with_1(state: Path) -> None:
    class Broken:
        async def run(self, intake: Any) -> None:
            raise PermanentError("the topic was made anew; set on_recreated: accept")

    assert await run(a_plan(Broken(), [], {"out": CollectingExporter()}, state)) == 1


async def test_while_a_checkpoint_cannot_be_written_the_driver_sleeps(state: Path) -> None:
    class Counting:
        """A timer far away; counts how often the driver asks for it."""

        lead_ns = 0
        asked = 0

        async def process(self, batch: Batch[Event]) -> Batch[Event]:
            return batch

        def due(self) -> int:
            self.asked += 1
            return 4 * 10**18

        async def on_time(self, now_ns: int) -> list[Event]:
            return []

    class Locking(MemoryReceiver):
        async def run(self, intake: Any) -> None:
            await intake.assign(["memory"])
            with sqlite3.connect(state, isolation_level=None) as other:
                other.execute("BEGIN IMMEDIATE")
                for at, item in enumerate(self.items):  # the second comes while the first one's checkpoint waits
                    await intake.put(Read("memory", [item], Position(at + 1), behind=at == 0))
                    await anyio.sleep(0.3)
                before = timer.asked
                await anyio.sleep(1.0)
                rates.append(timer.asked - before)
                other.execute("COMMIT")
            other.close()

    timer, out, rates = Counting(), CollectingExporter(), list[int]()
    assert await run(a_plan(Locking(events(*"ab")), [timer], {"out": out}, state)) == 0
    assert sorted(out.messages) == list("ab")
    assert rates[0] < 60, "a few looks a second, and no spinning"


async def test_past_the_cap_of_a_blocking_exporter_the_intake_stops_and_says_so_and_timers_and_alerts_go_on(
    state: Path,
) -> None:
    class Clockwork:
        """Emits an item each time its timer fires, every 50 ms from its first event on."""

        lead_ns = 0
        next_ns: int | None = None

        async def process(self, batch: Batch[Event]) -> Batch[Event]:
            self.next_ns = self.next_ns or time.time_ns() + 50_000_000
            return batch

        def due(self) -> int | None:
            return self.next_ns

        async def on_time(self, now_ns: int) -> list[Event]:
            self.next_ns = now_ns + 50_000_000
            return events("tick")

    class Endless(MemoryReceiver):
        async def run(self, intake: Any) -> None:
            await intake.assign(["memory"])
            for at, item in enumerate(self.items):
                item.record_ns = time.time_ns()
                await intake.put(Read("memory", [item], Position(at + 1), size=100))  # never behind: time goes on
                self.read += 1

    class Telling(CollectingExporter):
        """A notifier: takes what the timer gave."""

        def build(self, batch: Batch[Any]) -> Any:
            return super().build(batch.carrying([item for item in batch.items if item.message == "tick"]))

        async def send(self, payload: Payload) -> bytes | None:
            await super().send(payload)
            if blocked and self.messages.count("tick") >= ticks + 3:
                done.set()
            return None

    blocked: list[str] = []
    ticks, done = 10**6, anyio.Event()
    told, receiver = Telling(), Endless(events(*["message"] * 500), size=1)
    small = Delivery(timeout=Duration(0), sending_queue=SendingQueue(queue_size=Size(40), batch=QueueBatch(max_size=1)))
    plan = a_plan(receiver, [Clockwork()], {"stuck": StuckExporter(), "told": told}, state, delivery={"stuck": small})
    health = HealthTelemetry(address="127.0.0.1:13133")
    own = msgspec.structs.replace(plan.service.telemetry, health=health)
    plan = msgspec.structs.replace(plan, service=msgspec.structs.replace(plan.service, clock="system", telemetry=own))
    served: dict[str, Any] = {}

    @asynccontextmanager
    async def web(mounts: Mapping[str, Any]) -> AsyncIterator[None]:
        served.update(mounts)
        yield

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_service, plan, False, web)
            while not blocked:
                await anyio.sleep(0.02)
                if pages := served.get("127.0.0.1:13133"):
                    status, shown = await ask(pages["/readyz"])
                    if shown["blocked"]:
                        blocked.append(shown["blocked"])
                        assert status == 503
            taken, ticks = receiver.read, told.messages.count("tick")
            await done.wait()
            tasks.cancel_scope.cancel()
    assert blocked[0].startswith("the outbox of exporter stuck is full")
    assert receiver.read == taken < 500


async def ask(app: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON that a bare ASGI app answers."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app({"type": "http", "method": "GET", "path": "/readyz", "headers": []}, receive, send)
    return sent[0]["status"], msgspec.json.decode(sent[1]["body"])
