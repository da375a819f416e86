"""The real engine and store without a loop: a test drives every step and may crash it between any two."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec
from opentelemetry import trace

from pipeline.clock import Clock
from pipeline.components import ExporterSpec, Payload, Position, Read
from pipeline.runtime.context import ComponentContext, Gifts, ShardTables
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.engine import Engine
from pipeline.runtime.host import Host
from pipeline.runtime.ids import Ids
from pipeline.runtime.inherit import Bequest
from pipeline.runtime.lanes import NOTHING_MOVED, Workshop
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.sealing import Sealing, released
from pipeline.runtime.status import Statuses
from pipeline.runtime.telemetry import Telemetry
from pipeline.store.state import Ack, Commit, OutboxRow, StateStore
from pipeline.testing.context import FakeHttp
from pipeline.topology.plan import Plan


class Sent(msgspec.Struct, frozen=True):
    """A payload on its way out: the exporter, the outbox id, the bytes."""

    exporter: str
    id: int
    payload: Payload


class Harness:
    """One life of a process, from its start to its crash."""

    def __init__(self, engine: Engine, store: StateStore, outboxes: dict[str, Outbox], workshop: Workshop) -> None:
        self.engine, self.store, self.outboxes, self.workshop = engine, store, outboxes, workshop
        self.sealing = Sealing(outboxes)

    async def assign(self, *sources: str) -> dict[str, Position | None]:
        return await self.engine.assign(sources)

    async def revoke(self, *sources: str) -> None:
        await self.commit()
        await self.engine.release(sources)

    async def take(self, source: str, items: Sequence[object], next: int, behind: bool = True) -> None:
        """One read of receiver `in`."""
        await self.engine.take("in", Read(source, items, Position(next), behind=behind))

    async def barrier(self) -> Commit:
        """A checkpoint that is not written yet."""
        return await self.sealed(await self.engine.barrier())

    async def sealed(self, commit: Commit) -> Commit:
        """The same with its payloads as they are stored."""
        return msgspec.structs.replace(commit, outbox=await self.sealing.finished(commit.outbox))

    async def commit(self) -> list[OutboxRow]:
        """A checkpoint, written; its payloads may be sent. Gives them."""
        return self.write(await self.barrier())

    def write(self, commit: Commit) -> list[OutboxRow]:
        """Write a checkpoint, of now or of before."""
        self.store.commit(commit)
        released(self.outboxes, commit.outbox)
        return list(commit.outbox)

    async def reload(self, workshop: Workshop, bequest: Bequest = NOTHING_MOVED) -> list[OutboxRow]:
        """All lanes built anew after a last checkpoint, with another plan or the same. Gives that one's payloads."""
        rows = await self.commit()
        replaced = await self.engine.rebuild(workshop, bequest, _ready)
        for lane in replaced.lanes:
            await lane.close()
        return rows

    async def send(self, exporter: str) -> Sent | None:
        """Send the oldest waiting payload; it is not acknowledged yet. None when nothing waits."""
        outbox = self.outboxes[exporter]
        if not outbox.ready:
            return None
        entry = await outbox.next()
        payload = entry.payload or self.store.payload(entry.id)
        assert payload is not None
        await outbox.exporter.send(payload)
        return Sent(exporter, entry.id, payload)

    def acknowledge(self, sent: Sent) -> None:
        self.outboxes[sent.exporter].acked(sent.id)
        self.engine.acknowledge(Ack(sent.id, sent.exporter))


async def _ready(mounts: object) -> None:
    """Nothing is served here."""


@asynccontextmanager
async def harness(plan: Plan, path: Path, clock: Clock, once: bool = False) -> AsyncIterator[Harness]:
    """A process on the store at `path`; leaving the block is its crash: nothing is committed that was not."""
    store = StateStore(path)
    telemetry = Telemetry("none")
    gifts = Gifts(once, FakeHttp(), telemetry.meter, trace.get_tracer("test"))
    ids, statuses = Ids(store.generation), Statuses()
    dead = DeadLetters(ids)
    try:
        async with anyio.create_task_group() as tasks:
            outboxes: dict[str, Outbox] = {}
            receipts = store.receipts()
            for id, node in plan.exporters.items():
                owner = f"exporters.{id}"
                context = ComponentContext(owner, id, "whole", gifts, ShardTables(owner, "whole", {}), receipts.get(id))
                host: Host[Any] = await Host.open(tasks, node.spec.build(node.options, context))
                assert node.delivery is not None and isinstance(node.spec, ExporterSpec)
                outbox = Outbox(id, node.spec, host.component, node.delivery, ids, dead, lambda: None)
                outboxes[id] = outbox
            workshop = Workshop(plan, tasks, gifts, outboxes, dead, statuses, telemetry)
            engine = Engine(workshop, store, clock, plan.service.clock)
            await engine.open()
            yield Harness(engine, store, outboxes, workshop)
            tasks.cancel_scope.cancel()
    finally:
        store.close()
