"""The pipeline's own silence, and the heartbeat that somebody outside can miss."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from connectors.silence import SPEC, SilenceConfig
from pipeline.channels import meant_for
from pipeline.clock import MINUTE, SECOND
from pipeline.components import CatchesUp
from pipeline.events import Event
from pipeline.options import Duration
from pipeline.signals import Alert
from pipeline.testing.rig import Rig, rig
from processors.dedup import SPEC as DEDUP

pytestmark = pytest.mark.anyio

START = 1_705_284_000 * SECOND


def at(minutes: float) -> int:
    return START + round(minutes * MINUTE)


def event(minutes: float, raw: bytes = b"{}") -> Event:
    now = at(minutes)
    return Event(raw, "LOG", "r1", now, 20, "job", "", "", now_ns=now)


async def see(it: Rig, *events: Event) -> None:
    for each in events:
        await until(it, (each.now_ns - START) / MINUTE)
        await it.push([each])


async def until(it: Rig, minutes: float) -> None:
    if at(minutes) > it.now_ns:
        await it.wait(at(minutes) - it.now_ns)


def told(it: Rig) -> list[tuple[float, str, str]]:
    return [((a.now_ns - START) / MINUTE, a.state, a.kind) for a in it.given if isinstance(a, Alert)]


@asynccontextmanager
async def life(config: SilenceConfig | None = None, before: Sequence[Event] = ()) -> AsyncIterator[Rig]:
    config = config or SilenceConfig()
    async with rig(SPEC, config) as first:
        if not before:
            yield first
            return
        await see(first, *before)
        await first.barrier()
        async with rig(SPEC, config, first.memory.restart()) as second:
            second.now_ns = first.now_ns
            yield second


async def test_silence_is_told_and_over_with_the_next_event() -> None:
    async with life(None, [event(0), event(10)]) as it:
        await see(it, event(100))
        assert told(it) == [(70, "failing", "pipeline_silent"), (100, "recovered", "pipeline_silent")]
        assert it.given[0].severity == "ERROR"
        assert it.given[0].summary.startswith(
            "No event of Dagster's for 1 h (since 2024-01-15 02:10 UTC); one is expected every 1 h."
        )
        assert it.given[0].fingerprint == it.given[1].fingerprint


async def test_after_a_restart_in_the_middle_it_is_told_once_and_over_once() -> None:
    async with life() as first:
        await see(first, event(0))
        await until(first, 65)
        await first.barrier()
        async with rig(SPEC, SilenceConfig(), first.memory.restart()) as second:
            second.now_ns = first.now_ns
            await until(second, 90)
            await see(second, event(91))
            assert told(second) == [(91, "recovered", "pipeline_silent")]


async def test_an_input_that_never_says_anything_is_told_too() -> None:
    async with life() as it:
        it.now_ns = START
        await it.barrier()
        await until(it, 61)
        assert told(it) == [(60, "failing", "pipeline_silent")]
        assert it.given[0].summary.startswith("No event of Dagster's at all since 2024-01-15 02:00 UTC (1 h)")


async def test_silence_that_lasts_is_found_again() -> None:
    async with life(SilenceConfig(again=Duration("2h")), [event(0)]) as it:
        await until(it, 310)
        assert [minutes for minutes, _, _ in told(it)] == [60, 180, 300]


async def test_what_the_ledger_makes_for_want_of_events_is_none() -> None:
    async with life(None, [event(0)]) as it:
        await see(it, event(50, raw=b""))
        await until(it, 61)
        assert told(it) == [(60, "failing", "pipeline_silent")]


async def test_a_busy_pipeline_is_never_silent() -> None:
    async with life() as it:
        await see(it, *(event(minutes) for minutes in range(0, 6000, 50)))
        assert told(it) == []


async def test_nothing_is_expected_where_the_option_says_so() -> None:
    async with life(SilenceConfig(expect=Duration(0)), [event(0)]) as it:
        assert it.component.due() is None


# --- the heartbeat ---------------------------------------------------------------------------------------------------

BEATS = SilenceConfig(expect=Duration(0), heartbeat=Duration("5m"), deployment="prod")


async def test_heartbeats_go_out_whether_there_are_events_or_not() -> None:
    async with life(BEATS, [event(0)]) as it:
        await see(it, event(7))
        await until(it, 16)
        assert told(it) == [(5, "firing", "heartbeat"), (10, "firing", "heartbeat"), (15, "firing", "heartbeat")]
        assert it.given[0].title == "Heartbeat of prod"
        assert it.given[1].summary == "dagtel is here; the last event came at 2024-01-15 02:07 UTC."


async def test_dedup_hands_heartbeats_on_to_those_they_are_for() -> None:
    async with life(BEATS, [event(0)]) as it, rig(DEDUP, DEDUP.config()) as dedup:
        await until(it, 11)
        await dedup.push(it.given)
        assert [item.kind for item in dedup.given] == ["heartbeat", "heartbeat"]
        assert len({item.key for item in dedup.given}) == 2
        assert meant_for(dedup.given[0], "ping/outside")
        assert not meant_for(dedup.given[0], "slack")


async def test_while_it_reads_what_is_old_it_has_no_heartbeat_and_then_one() -> None:
    async with life(BEATS, [event(0)]) as it:
        assert isinstance(it.component, CatchesUp)
        it.component.lags(300 * MINUTE, at(0))
        await until(it, 200)
        assert told(it) == []
        it.component.lags(0, at(201))
        await until(it, 207)
        assert [minutes for minutes, _, _ in told(it)] == [201, 206]


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"expect": Duration("5s")}, "expect"),
        ({"again": Duration("5s")}, "again"),
        ({"heartbeat": Duration("5ms")}, "heartbeat"),
        ({"heartbeat": Duration("5m"), "heartbeat_channels": ()}, "heartbeat_channels"),
    ],
)
def test_what_makes_no_sense_is_named(options: dict[str, Any], path: str) -> None:
    assert [where for where, _ in SilenceConfig(**options).problems()] == [path]
