"""Fakes for everyone: receivers, processors and exporters that do what a test says. Fakes, not mocks.

`a_plan(...)` puts them into one events pipeline, without a configuration file:

    out = CollectingExporter()
    plan = a_plan(MemoryReceiver(events("a", "b")), [], {"out": out}, path)
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import msgspec

from pipeline.batch import Batch
from pipeline.components import (
    Context,
    ExporterSpec,
    Intake,
    Payload,
    Position,
    Processor,
    ProcessorSpec,
    Read,
    Receipt,
    ReceiverSpec,
    Rejected,
)
from pipeline.config.model import (
    DeadLettersConfig,
    HealthTelemetry,
    MetricsTelemetry,
    ServiceConfig,
    StateConfig,
    TelemetryConfig,
)
from pipeline.delivery import Delivery
from pipeline.errors import RetryableError
from pipeline.events import Event
from pipeline.options import Duration
from pipeline.signals import Signal
from pipeline.topology.plan import Node, PipelinePlan, Plan


class NoOptions(msgspec.Struct, frozen=True):
    """Nothing to set."""


def events(*messages: str, source: str = "memory") -> list[Event]:
    """LOG events, one a message; `offset` counts from 0 and the time goes on by a second each."""
    start = 1_700_000_000_000_000_000
    return [
        Event(text.encode(), "LOG", "run", start + i * 10**9, 20, "job", "", text, source=source, offset=i)
        for i, text in enumerate(messages)
    ]


class MemoryReceiver:
    """Gives its events in reads of `size`, from the stored position on; counts those it could put in `read`."""

    def __init__(self, items: Sequence[Event], size: int = 2, rejected: Sequence[Rejected] = ()) -> None:
        self.items, self.size, self.rejected = items, size, rejected
        self.read = 0

    async def run(self, intake: Intake[Any]) -> None:
        position = (await intake.assign(["memory"]))["memory"]
        start = position.next if position else 0
        for at in range(start, len(self.items), self.size):
            some = [msgspec.structs.replace(item) for item in self.items[at : at + self.size]]
            end = at + len(some)
            bad = self.rejected if at == start else ()
            await intake.put(Read("memory", some, Position(end), bad, end < len(self.items), 100 * len(some)))
            self.read += len(some)
        if not intake.once:
            await anyio.sleep_forever()


class CollectingExporter:
    """Keeps what it is sent: `payloads`, and their messages in `messages`."""

    def __init__(self) -> None:
        self.payloads: list[Payload] = []

    @property
    def messages(self) -> list[str]:
        return [message for payload in self.payloads for message in msgspec.json.decode(payload.body)]

    def build(self, batch: Batch[Any]) -> Sequence[Payload]:
        return [Payload(msgspec.json.encode([item.message for item in batch.items]), len(batch.items))]

    async def send(self, payload: Payload) -> Receipt | None:
        self.payloads.append(payload)
        return None


class FlakyExporter(CollectingExporter):
    """Raises `error` the first `fails` times, then delivers."""

    def __init__(self, fails: int, error: Callable[[], Exception] = lambda: RetryableError("away")) -> None:
        super().__init__()
        self.left, self.error = fails, error

    async def send(self, payload: Payload) -> Receipt | None:
        if self.left:
            self.left -= 1
            raise self.error()
        return await super().send(payload)


class StuckExporter(CollectingExporter):
    """Takes `takes` payloads, then never answers again."""

    def __init__(self, takes: int = 0) -> None:
        super().__init__()
        self.takes = takes

    async def send(self, payload: Payload) -> Receipt | None:
        if len(self.payloads) >= self.takes:
            await anyio.sleep_forever()
        return await super().send(payload)


class EachItem:
    """A processor from a function: None drops the item."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self._change = change

    async def process(self, batch: Batch[Any]) -> Batch[Any]:
        changed = [self._change(item) for item in batch.items]
        return batch.carrying([item for item in changed if item is not None])


def built(component: Any) -> Callable[[Any, Context], Any]:
    """A `build` that gives a component that is already there."""

    @asynccontextmanager
    async def build(options: object, context: Context) -> AsyncIterator[Any]:
        yield component

    return build


def a_plan(
    receiver: Any,
    processors: Sequence[Processor[Any]],
    exporters: Mapping[str, Any],
    state: Path,
    *,
    delivery: Mapping[str, Delivery] | None = None,
    dead_letters: tuple[str, ...] = (),
    shutdown_timeout: str = "5s",
    checkpoint_interval: str = "20ms",
) -> Plan:
    """A plan of these components: one events pipeline, no telemetry, state at `state`. The receiver's id is `in`."""
    takes = frozenset({Signal.EVENTS, Signal.LOGS})
    nodes = {
        id: Node(id, ExporterSpec(id, NoOptions, built(e), takes), NoOptions(), (delivery or {}).get(id, Delivery()))
        for id, e in exporters.items()
    }
    stages = tuple(
        Node(f"p{i}", ProcessorSpec(f"p{i}", NoOptions, built(p), takes), NoOptions(), None)
        for i, p in enumerate(processors)
    )
    ways_out = tuple(id for id in exporters if id not in dead_letters)
    return Plan(
        receivers={"in": Node("in", ReceiverSpec("in", NoOptions, built(receiver)), NoOptions(), None)},
        connectors={},
        exporters=nodes,
        extensions={},
        pipelines={"events": PipelinePlan("events", Signal.EVENTS, ("in",), stages, ways_out)},
        service=ServiceConfig(
            clock="events",
            checkpoint_interval=Duration(checkpoint_interval),
            shutdown_timeout=Duration(shutdown_timeout),
            state=StateConfig(path=str(state)),
            dead_letters=DeadLettersConfig(exporters=dead_letters),
            telemetry=TelemetryConfig(
                metrics=MetricsTelemetry(address="", level="none"), health=HealthTelemetry(address="")
            ),
        ),
    )
