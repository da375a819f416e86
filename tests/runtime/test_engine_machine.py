"""Reads, checkpoints, crashes, revokes, sends, timers and components that raise, in any order, on the real runtime.

The law: after any crash the state equals the events before the stored positions, nothing committed is unsent or sent
otherwise than first written, and nothing is sent before it was committed. In the end every event has had its effect
once and every poisoned one lies in the dead letters once.
"""

import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from unittest import mock

import msgspec
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.batch import Batch
from pipeline.clock import SECOND
from pipeline.components import (
    ConnectorSpec,
    Context,
    ExporterSpec,
    Payload,
    ProcessorSpec,
    ReceiverSpec,
    Table,
)
from pipeline.config.model import ServiceConfig
from pipeline.delivery import Delivery, QueueBatch, SendingQueue
from pipeline.events import Event
from pipeline.options import Size
from pipeline.runtime import outbox, sealing
from pipeline.signals import LogRecord, Sample, Signal
from pipeline.testing.clock import VirtualClock
from pipeline.testing.harness import Harness, Sent, harness
from pipeline.topology.plan import Node, PipelinePlan, Plan

SOURCES = ("a/0", "a/1")
WINDOW = 10 * SECOND
POISON = "poison"


class NoOptions(msgspec.Struct, frozen=True):
    """Nothing to set."""


class Counting:
    """Counts items a key in its table, and raises on poison after it has already written."""

    def __init__(self, counts: Table[str, int]) -> None:
        self._counts = counts

    async def process(self, batch: Batch[Event]) -> Batch[Event]:
        for event in batch.items:
            self._counts.put(event.job, (self._counts.get(event.job) or 0) + 1)
            if event.message == POISON:
                raise ValueError("this event is poisoned")
        return batch


class Copying:
    """A log record an event."""

    async def process(self, batch: Batch[Event]) -> Sequence[LogRecord]:
        return [LogRecord(e.at_ns, "INFO", e.type, e.message, f"{e.source}@{e.offset}") for e in batch.items]


class Summing:
    """Whole: a total a key, given out at each barrier."""

    def __init__(self, totals: Table[str, int]) -> None:
        self._totals = totals
        self._changed = {key for key, _ in totals.items()}

    async def process(self, batch: Batch[Event]) -> Sequence[Sample]:
        for event in batch.items:
            self._totals.put(event.job, (self._totals.get(event.job) or 0) + 1)
            self._changed.add(event.job)
        return ()

    async def flush(self, now_ns: int) -> Sequence[Sample]:
        changed, self._changed = sorted(self._changed), set()
        return [Sample("total", "counter", (("job", key),), float(self._totals.get(key) or 0)) for key in changed]


class Windows:
    """Whole and timed: the first event of a key opens a window; when it is over, one record says how many came."""

    lead_ns = WINDOW

    def __init__(self, ends: Table[str, tuple[int, int]]) -> None:
        self._ends = ends

    async def process(self, batch: Batch[Event]) -> Sequence[LogRecord]:
        for event in batch.items:
            end, count = self._ends.get(event.job) or (event.now_ns + WINDOW, 0)
            self._ends.put(event.job, (end, count + 1))
        return ()

    def due(self) -> int | None:
        return min((end for _, (end, _) in self._ends.items()), default=None)

    async def on_time(self, now_ns: int) -> Sequence[LogRecord]:
        over = [(key, count) for key, (end, count) in self._ends.items() if end <= now_ns]
        for key, _ in over:
            self._ends.delete(key)
        return [LogRecord(now_ns, "INFO", "WINDOW", key, f"{key}@{now_ns}", extra={"count": n}) for key, n in over]


class Collecting:
    """Encodes what it gets; what it sends is in the outside world."""

    def __init__(self, world: list[bytes]) -> None:
        self._world = world

    def build(self, batch: Batch[object]) -> Sequence[Payload]:
        return [Payload(msgspec.json.encode(list(batch.items)), len(batch.items))]

    joins = 1 << 20

    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        bodies = [payload.body, *(other.body for other in more)]
        inside = b",".join(body[1:-1] for body in bodies)
        return Payload(b"[" + inside + b"]", payload.items + sum(other.items for other in more))

    async def send(self, payload: Payload) -> None:
        self._world.append(payload.body)


def plan(world: list[bytes]) -> Plan:
    """One events pipeline into three connectors, each with a pipeline into the exporter."""

    @asynccontextmanager
    async def reading(options: NoOptions, context: Context) -> AsyncIterator[object]:
        yield object()

    @asynccontextmanager
    async def counting(options: NoOptions, context: Context) -> AsyncIterator[Counting]:
        yield Counting(context.state.table("counts", str, int, version=1))

    @asynccontextmanager
    async def copying(options: NoOptions, context: Context) -> AsyncIterator[Copying]:
        yield Copying()

    @asynccontextmanager
    async def summing(options: NoOptions, context: Context) -> AsyncIterator[Summing]:
        yield Summing(context.state.table("totals", str, int, version=1))

    @asynccontextmanager
    async def windowing(options: NoOptions, context: Context) -> AsyncIterator[Windows]:
        yield Windows(context.state.table("ends", str, tuple[int, int], version=1))

    @asynccontextmanager
    async def collecting(options: NoOptions, context: Context) -> AsyncIterator[Collecting]:
        yield Collecting(world)

    events = frozenset({Signal.EVENTS})
    everything = frozenset({Signal.LOGS, Signal.METRICS})
    small = Delivery(sending_queue=SendingQueue(memory=Size(300), batch=QueueBatch(max_size=7)))
    count = Node("count", ProcessorSpec("count", NoOptions, counting, events), NoOptions(), None)
    return Plan(
        receivers={"in": Node("in", ReceiverSpec("in", NoOptions, reading), NoOptions(), None)},
        connectors={
            "copy": Node(
                "copy", ConnectorSpec("copy", NoOptions, copying, Signal.EVENTS, Signal.LOGS), NoOptions(), None
            ),
            "sum": Node(
                "sum",
                ConnectorSpec("sum", NoOptions, summing, Signal.EVENTS, Signal.METRICS, "whole"),
                NoOptions(),
                None,
            ),
            "windows": Node(
                "windows",
                ConnectorSpec("windows", NoOptions, windowing, Signal.EVENTS, Signal.LOGS, "whole"),
                NoOptions(),
                None,
            ),
        },
        exporters={"out": Node("out", ExporterSpec("out", NoOptions, collecting, everything), NoOptions(), small)},
        extensions={},
        pipelines={
            "events": PipelinePlan("events", Signal.EVENTS, ("in",), (count,), ("copy", "sum", "windows")),
            "logs": PipelinePlan("logs", Signal.LOGS, ("copy", "windows"), (), ("out",)),
            "metrics": PipelinePlan("metrics", Signal.METRICS, ("sum",), (), ("out",)),
        },
        service=ServiceConfig(clock="events"),
    )


class Machine(RuleBasedStateMachine):
    """A log a source, a process that reads it and dies now and then, and the world outside."""

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.pieces = mock.patch.object(outbox, "PIECE", 2)  # so that payloads are joined of several
        self.pieces.start()
        self.much = mock.patch.object(sealing, "AHEAD", 1)
        self.much.start()
        self.world: list[bytes] = []
        self.logs: dict[str, list[Event]] = {source: [] for source in SOURCES}
        self.taken = dict.fromkeys(SOURCES, 0)
        self.stored = dict.fromkeys(SOURCES, 0)
        self.committed: dict[int, bytes] = {}
        self.sent: Counter[int] = Counter()
        self.unacknowledged: list[Sent] = []
        self.clock = VirtualClock()
        self.portal_manager = start_blocking_portal()
        self.portal: BlockingPortal = self.portal_manager.__enter__()
        self._live()

    def _live(self) -> None:
        manager = harness(plan(self.world), self.folder / "state.db", self.clock)
        self.life = self.portal.wrap_async_context_manager(manager)
        self.process: Harness = self.life.__enter__()
        for source in SOURCES:
            self._assign(source)

    def _assign(self, source: str) -> None:
        position = self.portal.call(self.process.assign, source)[source]
        assert (position.next if position else 0) == self.stored[source]
        self.taken[source] = self.stored[source]

    @rule(
        source=st.sampled_from(SOURCES),
        steps=st.lists(st.tuples(st.integers(-2, 15), st.sampled_from("xyz"), st.booleans()), min_size=1, max_size=12),
    )
    def something_happens(self, source: str, steps: list[tuple[int, str, bool]]) -> None:
        log = self.logs[source]
        now = log[-1].at_ns if log else 1_699_000_000 * SECOND
        for seconds, job, poisoned in steps:
            now += seconds * SECOND
            message = POISON if poisoned and seconds > 10 else f"{job} at {now}"
            log.append(Event(b"raw", "LOG", "run", now, 20, job, "", message, source=source, offset=len(log)))

    @rule(source=st.sampled_from(SOURCES), size=st.integers(0, 20))
    def read(self, source: str, size: int) -> None:
        items = self.logs[source][self.taken[source] :][:size]
        self.taken[source] += len(items)
        behind = self.taken[source] < len(self.logs[source])
        fresh = [msgspec.structs.replace(item) for item in items]
        self.portal.call(self.process.take, source, fresh, self.taken[source], behind)

    @rule()
    def timers_fire(self) -> None:
        self.portal.call(self.process.engine.fire)

    @rule()
    def checkpoint(self) -> None:
        rows = self.portal.call(self.process.commit)
        self.stored = dict(self.taken)
        self.committed.update({row.id: row.payload.body for row in rows})

    @rule(source=st.sampled_from(SOURCES), size=st.integers(0, 20))
    def checkpoint_that_is_written_after_the_next_read(self, source: str, size: int) -> None:
        commit = self.portal.call(self.process.engine.barrier)
        self.stored = dict(self.taken)
        self.read(source, size)
        rows = self.portal.call(self.process.write, self.portal.call(self.process.sealed, commit))
        self.committed.update({row.id: row.payload.body for row in rows})

    @rule()
    def sealed_ahead(self) -> None:
        """What is built is sealed before its checkpoint."""
        self.portal.call(self.process.sealing.ahead)

    @rule(acknowledged=st.booleans())
    def send(self, acknowledged: bool) -> None:
        sent = self.portal.call(self.process.send, "out")
        if sent is None:
            return
        assert self.committed[sent.id] == sent.payload.body, "sent otherwise than first committed, or too early"
        self.sent[sent.id] += 1
        if acknowledged:
            self.process.acknowledge(sent)
        else:
            self.unacknowledged.append(sent)

    @rule()
    def late_answers(self) -> None:
        while self.unacknowledged:
            self.process.acknowledge(self.unacknowledged.pop())

    @rule(source=st.sampled_from(SOURCES))
    def revoked_and_assigned_again(self, source: str) -> None:
        rows = self.portal.call(self.process.commit)
        self.committed.update({row.id: row.payload.body for row in rows})
        self.stored = dict(self.taken)
        self.portal.call(self.process.engine.release, [source])
        self._assign(source)

    @rule(fails=st.booleans())
    def reloaded(self, fails: bool) -> None:
        """A new plan takes over at a barrier; or its building fails, and the old one goes on as if nothing were."""
        workshop = self.process.workshop
        if fails:
            connectors = {**workshop.plan.connectors, "sum": _broken(workshop.plan.connectors["sum"])}
            broken = msgspec.structs.replace(workshop.plan, connectors=connectors)
            workshop = msgspec.structs.replace(workshop, plan=broken)
        try:
            rows = self.portal.call(self.process.reload, workshop)
        except ZeroDivisionError:
            assert fails
            self.committed.update({row.id: _body(self.process, row.id) for row in self.process.store.waiting()})
        else:
            assert not fails
            self.committed.update({row.id: row.payload.body for row in rows})
        self.stored = dict(self.taken)

    @rule(after_barrier=st.booleans())
    def crash(self, after_barrier: bool) -> None:
        if after_barrier:
            self.portal.call(self.process.barrier)
        self.life.__exit__(None, None, None)
        self.unacknowledged.clear()
        self._live()
        self._check_state()

    @invariant()
    def nothing_is_sent_before_it_is_committed(self) -> None:
        if hasattr(self, "sent"):
            assert set(self.sent) <= set(self.committed)

    def _check_state(self) -> None:
        """What was loaded equals the events before the stored positions."""
        everything: Counter[str] = Counter()
        for source in SOURCES:
            expected = Counter(e.job for e in self.logs[source][: self.stored[source]] if e.message != POISON)
            assert _table(self.process, source, "counts") == expected
            everything += expected
        assert _table(self.process, "whole", "totals") == everything

    def teardown(self) -> None:
        if not hasattr(self, "process"):
            return
        for source in SOURCES:
            self.read(source, len(self.logs[source]))
        self.checkpoint()
        while self.process.outboxes["out"].ready:
            self.send(acknowledged=True)
        self.late_answers()
        self.checkpoint()
        self.crash(after_barrier=False)
        self._check_world()
        self.life.__exit__(None, None, None)
        self.portal_manager.__exit__(None, None, None)
        shutil.rmtree(self.folder)
        self.pieces.stop()
        self.much.stop()

    def _check_world(self) -> None:
        assert set(self.sent) == set(self.committed), "committed and never sent"
        items = [item for id in sorted(self.sent) for item in msgspec.json.decode(self.committed[id])]
        well = [e for log in self.logs.values() for e in log if e.message != POISON]
        poisoned = [e for log in self.logs.values() for e in log if e.message == POISON]
        copies = Counter(item["event_id"] for item in items if item.get("event") == "LOG")
        assert copies == Counter(f"{e.source}@{e.offset}" for e in well)
        totals = {dict(item["labels"])["job"]: item["value"] for item in items if "labels" in item}
        assert totals == Counter(e.job for e in well)
        over = sum(item["extra"]["count"] for item in items if item.get("event") == "WINDOW")
        still_open = sum(count for _, count in _table(self.process, "whole", "ends").values())
        assert over + still_open == len(well)
        letters = Counter(letter.origin for letter in self.process.store.dead_letters())
        assert letters == Counter(f"{e.source}@{e.offset}" for e in poisoned)


def _broken(node: Node) -> Node:
    """The same component, whose `build` raises."""

    @asynccontextmanager
    async def breaking(options: NoOptions, context: Context) -> AsyncIterator[object]:
        context.state.table("totals", str, int, version=1).put("x", 10**6)
        yield 1 // 0

    return msgspec.structs.replace(node, spec=msgspec.structs.replace(node.spec, build=breaking))


def _body(process: Harness, id: int) -> bytes:
    payload = process.store.payload(id)
    assert payload is not None
    return payload.body


def _table(process: Harness, shard: str, name: str) -> dict:
    (table,) = [t for t in process.engine._lanes[shard].tables if t.name == name]
    return dict(table.items())


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
