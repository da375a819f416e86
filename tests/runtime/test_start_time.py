"""At a start nobody has read anything yet: no timer of the whole may fire before what happened meanwhile was read."""

from pathlib import Path
from typing import Any

import pytest

from connectors.freshness import SPEC, FreshnessConfig
from connectors.sla import SlaOption
from pipeline.clock import HOUR
from pipeline.components import ExporterSpec, Position, Read, ReceiverSpec
from pipeline.config.model import ServiceConfig
from pipeline.delivery import Delivery
from pipeline.events import Event
from pipeline.options import Duration
from pipeline.outcomes import AssetMaterialized
from pipeline.signals import Signal
from pipeline.testing.clock import VirtualClock
from pipeline.testing.fakes import CollectingExporter, NoOptions, built
from pipeline.testing.harness import Harness, harness
from pipeline.topology.plan import Node, PipelinePlan, Plan

pytestmark = pytest.mark.anyio


class Keeps(CollectingExporter):
    """Keeps state and time of what it is given; sends nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, int]] = []

    def build(self, batch: Any, /) -> Any:
        self.kept += [(item.state, item.now_ns) for item in batch.items]
        return ()


def made(at_ns: int) -> Event:
    outcome = AssetMaterialized("r", "j", "s", 1, "orders", None, at_ns, None, True, {}, {})
    return Event(b"{}", "LOG", "r", at_ns, 20, "j", "", "", record_ns=at_ns, outcomes=(outcome,))


def a_plan(out: Keeps, *receivers: str) -> Plan:
    config = FreshnessConfig(sla={"orders": SlaOption(freshness=Duration("2h"))})
    takes = frozenset(Signal)
    return Plan(
        receivers={id: Node(id, ReceiverSpec(id, NoOptions, built(None)), NoOptions(), None) for id in receivers},
        connectors={"freshness": Node("freshness", SPEC, config, None)},
        exporters={"out": Node("out", ExporterSpec("out", NoOptions, built(out), takes), NoOptions(), Delivery())},
        extensions={},
        pipelines={
            "events": PipelinePlan("events", Signal.EVENTS, receivers, (), ("freshness",)),
            "alerts": PipelinePlan("alerts", Signal.ALERTS, ("freshness",), (), ("out",)),
        },
        service=ServiceConfig(clock="system"),
    )


async def read(life: Harness, receiver: str, *items: Event, behind: bool) -> None:
    position = Position(1, at_ns=items[-1].record_ns if items else 0)
    await life.engine.take(receiver, Read(receiver, items, position, behind=behind))


async def first_life(path: Path, clock: VirtualClock) -> None:
    async with harness(a_plan(Keeps(), "in"), path, clock) as life:
        await life.assign("in")
        await read(life, "in", made(clock.wall_ns()), behind=False)
        await life.commit()


async def test_a_daemon_that_was_down_reads_the_update_before_it_calls_an_asset_late(tmp_path: Path) -> None:
    clock, out = VirtualClock(), Keeps()
    await first_life(tmp_path / "state.db", clock)
    down_ns = clock.wall_ns()
    clock.advance(7 * 3600)
    async with harness(a_plan(out, "in"), tmp_path / "state.db", clock) as life:
        await life.commit()  # the first checkpoint, before any receiver is there
        await life.engine.fire()
        await life.assign("in")
        await life.engine.fire()
        await read(life, "in", *(made(down_ns + hours * HOUR) for hours in (1, 2, 3, 4, 5, 6)), behind=False)
        await life.engine.fire()
        await life.commit()
    assert out.kept == []


async def test_one_receiver_that_is_quick_does_not_speak_for_another(tmp_path: Path) -> None:
    clock, out = VirtualClock(), Keeps()
    await first_life(tmp_path / "state.db", clock)
    down_ns = clock.wall_ns()
    clock.advance(3 * 3600)
    async with harness(a_plan(out, "in", "quick"), tmp_path / "state.db", clock) as life:
        await life.assign("quick")
        await read(life, "quick", made(clock.wall_ns()), behind=False)
        await life.engine.fire()
        await life.assign("in")
        await read(life, "in", made(down_ns + HOUR), behind=True)
        await life.commit()
    assert [state for state, _ in out.kept] == []


async def test_a_receiver_that_does_not_come_holds_timers_for_a_minute_and_no_longer(tmp_path: Path) -> None:
    clock, out = VirtualClock(), Keeps()
    await first_life(tmp_path / "state.db", clock)
    breach_ns = clock.wall_ns() + 2 * HOUR
    clock.advance(7 * 3600)
    async with harness(a_plan(out, "in"), tmp_path / "state.db", clock) as life:
        clock.advance(61)
        await life.engine.fire()
        await life.commit()
    assert out.kept[0] == ("failing", breach_ns)
