"""A component may give several signals: each pipeline gets its own, and what a receiver found has a time."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.batch import Batch
from pipeline.clock import SECOND
from pipeline.components import ConnectorSpec, Context, ExporterSpec, Payload, Position, Read, ReceiverSpec
from pipeline.config.model import ServiceConfig
from pipeline.delivery import Delivery
from pipeline.events import Event
from pipeline.runtime.domain_time import DomainTime
from pipeline.signals import Alert, Sample, Signal
from pipeline.testing.clock import VirtualClock
from pipeline.testing.fakes import NoOptions, events
from pipeline.testing.harness import harness
from pipeline.topology.plan import Node, PipelinePlan, Plan

pytestmark = pytest.mark.anyio

NOW = 1_700_000_000 * SECOND
BOTH = frozenset({Signal.ALERTS, Signal.METRICS})


def alert(last_ns: int = 0, now_ns: int = 0) -> Alert:
    return Alert("resource", "failing", "WARNING", "v1:1", now_ns, last_ns, last_ns)


def sample(at_ns: int = 0) -> Sample:
    return Sample("disk", "gauge", (), 1.0, at_ns)


class Finds:
    async def process(self, batch: Batch[Event], /) -> Sequence[Alert | Sample]:
        return [found for event in batch.items for found in (alert(now_ns=event.now_ns), sample(event.now_ns))]


class Keeps:
    def __init__(self) -> None:
        self.items: list[object] = []

    def build(self, batch: Batch[Any], /) -> Sequence[Payload]:
        self.items += batch.items
        return ()

    async def send(self, payload: Payload, /) -> None:
        raise AssertionError("nothing is built")


def a_plan(kept: dict[str, Keeps]) -> Plan:
    @asynccontextmanager
    async def finding(options: NoOptions, context: Context) -> AsyncIterator[Finds]:
        yield Finds()

    def keeping(id: str) -> Node:
        @asynccontextmanager
        async def build(options: NoOptions, context: Context) -> AsyncIterator[Keeps]:
            yield kept.setdefault(id, Keeps())

        return Node(id, ExporterSpec(id, NoOptions, build, frozenset(Signal)), NoOptions(), Delivery())

    def receiver(id: str, gives: Signal | frozenset[Signal]) -> Node:
        return Node(id, ReceiverSpec(id, NoOptions, finding, gives), NoOptions(), None)  # type: ignore[arg-type]

    find = ConnectorSpec("find", NoOptions, finding, Signal.EVENTS, BOTH, "whole")
    return Plan(
        receivers={"log": receiver("log", Signal.EVENTS), "in": receiver("in", BOTH)},
        connectors={"find": Node("find", find, NoOptions(), None)},
        exporters={"alerts": keeping("alerts"), "metrics": keeping("metrics")},
        extensions={},
        pipelines={
            "events": PipelinePlan("events", Signal.EVENTS, ("log",), (), ("find",)),
            "alerts": PipelinePlan("alerts", Signal.ALERTS, ("find", "in"), (), ("alerts",)),
            "metrics": PipelinePlan("metrics", Signal.METRICS, ("find", "in"), (), ("metrics",)),
        },
        service=ServiceConfig(clock="system"),
    )


async def test_each_pipeline_of_a_connector_gets_the_items_of_its_signal(tmp_path: Path) -> None:
    kept: dict[str, Keeps] = {}
    async with harness(a_plan(kept), tmp_path / "state.db", VirtualClock()) as life:
        await life.assign("log")
        await life.engine.take("log", _read("log", events("a", "b")))
        await life.commit()
    assert [type(item) for item in kept["alerts"].items] == [Alert, Alert]
    assert [type(item) for item in kept["metrics"].items] == [Sample, Sample]


async def test_each_pipeline_of_a_receiver_gets_the_items_of_its_signal_with_the_time_of_now(tmp_path: Path) -> None:
    kept: dict[str, Keeps] = {}
    clock = VirtualClock()
    async with harness(a_plan(kept), tmp_path / "state.db", clock) as life:
        await life.assign("in")
        await life.take("in", [alert(), sample()], 1, behind=False)
        await life.commit()
    assert kept["alerts"].items == [alert(now_ns=clock.wall_ns())]
    assert kept["metrics"].items == [sample(clock.wall_ns())]


def test_with_the_time_of_events_an_alert_moves_it_by_its_own() -> None:
    time = DomainTime("events")
    time.add("a")
    found = [alert(NOW), alert(NOW - SECOND)]
    time.stamp("a", found, NOW + SECOND)
    assert [each.now_ns for each in found] == [NOW, NOW]


def test_an_alert_that_has_its_time_keeps_it() -> None:
    time = DomainTime("system")
    time.add("a")
    found = alert(NOW, now_ns=NOW - SECOND)
    time.stamp("a", [found], NOW)
    assert found.now_ns == NOW - SECOND


def _read(source: str, items: Sequence[object]) -> Any:
    return Read(source, items, Position(1))
