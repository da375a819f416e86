"""Several daemons share the work: they join, leave, are killed, stand still; each event has its effect once."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from benchmarks.load import Record
from tests.chaos.events import Truth, fill, make_topic, mixed, recorded_at
from tests.chaos.faulty import Faulty, faulty
from tests.chaos.flow import Flow, fired, flowing
from tests.chaos.group import PORTS_APART, POSTGRES, SESSION_S, Group, Member, children, figures, shards_at
from tests.chaos.scene import different, is_ready, size, undisturbed
from tests.chaos.table import Row, record, seconds
from tests.integration.conftest import ROOT
from tests.ports import free_port

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(900)]

PARTITIONS = 4
AFTER_TICKS = size(1, 20)
"""Ticks that flow on after each event in the life of the group."""
ROUNDS = size(1, 4)

OWNER = "This process owns what is for all"
Taking = tuple[str, list[dict[str, Any]]]
Figure = tuple[str, frozenset[tuple[str, str]]]
"""A counter: its name and labels."""


@pytest.fixture
def hook(webhook: Taking) -> Iterator[tuple[Faulty, list[dict[str, Any]]]]:
    """A webhook that can be in trouble, and the alerts that it took."""
    url, alerts = webhook
    with faulty(url, takes_pages=False) as proxy:
        yield proxy, alerts


def ended(counters: dict[Figure, float]) -> dict[Figure, float]:
    """Without the runs that are under way: a run to the end of its input counts them as they are, a daemon waits."""
    over = {"success", "failure", "canceled"}
    return {
        (name, labels): value
        for (name, labels), value in counters.items()
        if name != "dagster_runs_total" or dict(labels)["status"] in over
    }


def judged(
    group: Group, made: list[Record], alerts: list[dict[str, Any]], row: Callable[[int, int], Row], kills: int = 0
) -> None:
    """Compare with the truth once all has arrived, stop, compare again, note it, and complain. A kill may cut one
    alert's call off, which is then made again, and known by its key."""
    truth, wanted = Truth(made), ended(undisturbed(group))
    group.wait("all is counted", lambda: group.textfile and different(ended(group.counters()), wanted)[2] == [], 60)
    group.wait("all lines are there", lambda: len(group.in_loki(truth)) == truth.events, 60)
    for member in group.members.values():
        if member.alive:
            assert member.daemon.stop() == 0, member.log[-4000:]
    lost, doubled, worst = different(ended(group.counters()), wanted)
    lines, told = group.in_loki(truth), fired(truth, alerts)
    again = told.total() - len(told)
    record(
        row(
            lost + truth.events - len(lines) + len(truth.alarms - set(told)),
            doubled + lines.total() - len(lines) + max(0, again - kills),
        )
    )
    assert (lost, doubled, worst) == (0, 0, [])
    assert (len(lines), lines.total()) == (truth.events, truth.events)
    assert set(told) == truth.alarms
    assert again <= kills, told.most_common(kills + 1)
    assert group.sql("SELECT count(*) FROM outbox") == [(0,)]
    assert group.sql("SELECT count(*) FROM dead_letters") == [(0,)]


def test_daemons_join_leave_and_are_killed_and_nothing_is_lost_or_counted_twice(
    group: Callable[..., Group], webhook: Taking
) -> None:
    url, alerts = webhook
    here = group("group", url)
    found: dict[str, list[float]] = {"joined": [], "left": [], "killed": [], "back": []}

    async def change(flow: Flow, what: str, act: Callable[[], object], *share: str) -> None:
        began = time.monotonic()
        await anyio.to_thread.run_sync(act)
        await flow.until(f"{', '.join(share)} share the work", here.share(*share))
        await flow.recovery()
        found[what].append(time.monotonic() - began)
        await flow.told(await flow.ticks(AFTER_TICKS))

    def kill_owner() -> str:
        owner: Member = here.wait("somebody counts", here.owner)
        owner.daemon.kill()
        return owner.name

    async def live() -> list[Record]:
        await make_topic(here.backends["kafka"], here.name, PARTITIONS)
        here.join("a", "--leave")
        async with flowing(here, alerts, here.backends["kafka"]) as flow:
            for round in range(ROUNDS):
                await change(flow, "joined", lambda: here.join("b", "--leave"), "a", "b")
                await change(flow, "joined", lambda: here.join("c", "--leave"), "a", "b", "c")
                await change(flow, "left", here.members["a"].daemon.stop, "b", "c")
                gone = await anyio.to_thread.run_sync(kill_owner)
                (left,) = {"b", "c"} - {gone}
                await change(flow, "killed", lambda: None, left)
                await change(flow, "back", lambda name=gone: here.join(name, "--leave"), "b", "c")
                if round + 1 < ROUNDS:
                    await change(flow, "joined", lambda: here.join("a", "--leave"), "a", "b", "c")
                    await change(flow, "left", here.members["b"].daemon.stop, "a", "c")
                    await change(flow, "left", here.members["c"].daemon.stop, "a")
        return flow.made

    made = anyio.run(live)

    def row(lost: int, doubled: int) -> Row:
        return Row(
            order=7,
            fault="two and three daemons in one group: joining, leaving, the one that counts killed with kill -9",
            times=sum(map(len, found.values())),
            events=len(made),
            lost=lost,
            doubled=doubled,
            recovery="; ".join(f"{what} {seconds(found[what])}" for what in ("joined", "left", "killed")),
            seen=f"until a failure after it was told; Kafka takes {SESSION_S} s to miss one that was killed",
        )

    judged(here, made, alerts, row, kills=ROUNDS)


def test_an_owner_that_stood_still_and_was_replaced_writes_and_sends_nothing_more(
    group: Callable[..., Group], hook: tuple[Faulty, list[dict[str, Any]]]
) -> None:
    proxy, alerts = hook
    here = group("stale", proxy.url)
    took: list[float] = []

    async def live() -> list[Record]:
        await make_topic(here.backends["kafka"], here.name, PARTITIONS)
        for name in ("a", "b"):
            here.join(name)
        async with flowing(here, alerts, here.backends["kafka"]) as flow:
            await flow.until("both share the work", here.settled("a", "b"))
            for _ in range(ROUNDS):
                old = await anyio.to_thread.run_sync(here.wait, "somebody counts", here.owner)
                proxy.fault = "refusing"  # so that it has alerts in its hands that are not delivered
                refused = len(proxy.calls)
                await flow.until("alerts are refused", lambda seen=refused: len(proxy.calls) > seen)
                old.signal(signal.SIGSTOP)
                proxy.fault = None
                began = time.monotonic()
                (new,) = {"a", "b"} - {old.name}
                await flow.until("it is replaced", here.share(new))
                await flow.told(list(flow.sent))
                took.append(time.monotonic() - began)
                owned = old.log.count(OWNER)
                old.signal(signal.SIGCONT)
                await flow.until("it ends", lambda stale=old: not stale.alive)
                assert old.daemon.process.returncode == 1, old.log[-4000:]
                assert "has been taken over by another process; this one must end" in old.log
                assert old.log.count(OWNER) == owned, "it took something back"
                await flow.told(await flow.ticks(AFTER_TICKS))
                here.join(old.name)
                await flow.until("both share the work", here.settled("a", "b"))
        return flow.made

    made = anyio.run(live)

    def row(lost: int, doubled: int) -> Row:
        return Row(
            order=7.1,
            fault="the one that counts stopped with SIGSTOP while alerts wait in it, replaced, and let go on",
            times=ROUNDS,
            events=len(made),
            lost=lost,
            doubled=doubled,
            recovery=f"{seconds(took)} until its successor had told all",
            seen="it ends with 1 and says that it was taken over; what it had in hand was sent by its successor alone",
        )

    judged(here, made, alerts, row)


def test_workers_of_one_supervisor_share_the_work_and_are_started_again(
    group: Callable[..., Group], webhook: Taking
) -> None:
    url, alerts = webhook
    here = group("workers", url)
    took: list[float] = []
    base, health = free_port(PORTS_APART), free_port(PORTS_APART)
    here.sets |= {
        "service.telemetry.metrics.address": f"127.0.0.1:{base}",
        "service.telemetry.health.address": f"127.0.0.1:{health}",
        "receivers.kafka.group_instance_id": here.name,
        "receivers.kafka/outcomes.group_instance_id": here.name,
    }
    pages = [f"127.0.0.1:{base}", f"127.0.0.1:{base + PORTS_APART}"]

    def both_read() -> bool:
        shards = [shards_at(page) for page in pages]
        return all(any(s.startswith(f"{here.name}/") for s in of) for of in shards)

    def ready() -> bool:
        return all(is_ready(f"127.0.0.1:{health + PORTS_APART * number}") for number in (0, 1))

    def reloads() -> list[float]:
        return [sum(figures(page, "dagtel_config_reloads_total").values()) for page in pages]

    async def live() -> list[Record]:
        await make_topic(here.backends["kafka"], here.name, PARTITIONS)
        supervisor = here.start("--workers", "2")
        async with flowing(here, alerts, here.backends["kafka"]) as flow:
            await flow.until("both share the work", both_read)
            await flow.until("both are ready", ready)
            for _ in range(ROUNDS):
                for worker in children(supervisor.process.pid):
                    began = time.monotonic()
                    os.kill(worker, signal.SIGKILL)
                    await flow.recovery()
                    took.append(time.monotonic() - began)
                    await flow.until("both share the work", both_read)
            before = reloads()
            supervisor.process.send_signal(signal.SIGHUP)
            await flow.until("both have reloaded", lambda: all(n > b for n, b in zip(reloads(), before, strict=True)))
            await flow.told(await flow.ticks(AFTER_TICKS))
        return flow.made

    made = anyio.run(live)

    def row(lost: int, doubled: int) -> Row:
        return Row(
            order=7.2,
            fault="dagtel run --workers 2: each worker killed with kill -9 in turn, then SIGHUP, then SIGTERM",
            times=2 * ROUNDS,
            events=len(made),
            lost=lost,
            doubled=doubled,
            recovery=f"{seconds(took)} until a failure after it was told",
        )

    judged(here, made, alerts, row, kills=2 * ROUNDS)


def test_two_daemons_whose_counters_read_the_topic_itself_refuse_and_name_the_configuration_for_several(
    group: Callable[..., Group],
) -> None:
    here = group("refusal")
    here.configs = [ROOT / "configs" / "full.yaml"]
    here.sets = {key: value for key, value in here.sets.items() if "kafka/outcomes" not in key} | {
        "service.state.postgresql.url": os.environ[POSTGRES],
        "service.state.postgresql.schema": here.schema,
    }
    made = mixed(400, int(time.time()) - recorded_at(), here.name)
    anyio.run(fill, here.backends["kafka"], here.name, made, PARTITIONS)
    first = here.join("a", outcomes=False)
    here.wait("it has read all by itself", lambda: len(first.shards) == PARTITIONS + 1)
    second = here.join("b", outcomes=False)
    here.wait("one of them refuses", lambda: not (first.alive and second.alive))
    refused = second if not second.alive else first
    assert refused.daemon.process.returncode == 1
    assert "must see every event" in refused.log
    assert "configs/cluster.yaml" in refused.log
