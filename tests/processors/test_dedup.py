"""One message a problem, whatever happens in between.

The driver does what the runtime does: one item at a time, before an item at t each timer due before t, and a
checkpoint after each call. With `restarts` the process ends after every call, and nothing may change.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alert_commands import Silence
from pipeline.batch import WHOLE, Batch
from pipeline.clock import HOUR, MINUTE
from pipeline.expressions import ExpressionError
from pipeline.facts import ErrorInfo
from pipeline.lineage import Impact
from pipeline.options import Duration
from pipeline.signals import Alert, AlertState, Edges, Severity
from pipeline.testing.context import FakeContext, MemoryState
from processors.dedup import SPEC, Dedup
from processors.dedup_options import DedupConfig, RateOption

pytestmark = pytest.mark.anyio

TWO = 1_705_284_000_000_000_000  # 2024-01-15 02:00 UTC


def failure(
    at_ns: int,
    problem: str = "p",
    partition: str | None = None,
    severity: Severity = "ERROR",
    asset: str = "glucose_entries",
    state: AlertState = "failing",
    impact: Impact | None = None,
) -> Alert:
    return Alert(
        "asset_failure", state, severity, problem, at_ns, at_ns, at_ns, asset=asset, partition=partition, impact=impact,
        run_id=f"run-{at_ns}", error=ErrorInfo("TimeoutError", "Connection timeout after 30s"),
    )  # fmt: skip


def success(at_ns: int, problem: str = "p", partition: str | None = None, asset: str = "glucose_entries") -> Alert:
    return failure(at_ns, problem, partition, "INFO", asset, "recovered")


def plain(**options: Any) -> DedupConfig:
    """No groups and no limits, so that what a life says is what is told."""
    return DedupConfig(**{"group_wait": Duration(0), "rate_limit": RateOption(messages=0), **options})


class Driver:
    """The runtime's part."""

    def __init__(self, config: DedupConfig | None = None, restarts: bool = False) -> None:
        self.config, self.restarts, self.state = config or plain(), restarts, MemoryState()
        self.dedup: Dedup | None = None

    async def call(self, act: Callable[[Dedup], object]) -> list[Alert]:
        if self.dedup is None:
            manager = SPEC.build(self.config, FakeContext(state=self.state))
            built = await manager.__aenter__()
            assert isinstance(built, Dedup)
            self.dedup = built
        result = await act(self.dedup)  # type: ignore[misc]  # process or on_time
        self.state.checkpoint()
        if self.restarts:
            self.state, self.dedup = self.state.restart(), None
        return list(result.items if isinstance(result, Batch) else result)

    async def due(self) -> int | None:
        if self.dedup is None:
            await self.call(lambda d: d.process(Batch((), WHOLE, 0)))
            return await self.due() if not self.restarts else await self._due_of_a_fresh_one()
        return self.dedup.due()

    async def _due_of_a_fresh_one(self) -> int | None:
        built = await SPEC.build(self.config, FakeContext(state=self.state)).__aenter__()
        assert isinstance(built, Dedup)
        return built.due()

    async def advance(self, now_ns: int) -> list[Alert]:
        """Timers due before `now_ns`, each at its time."""
        told: list[Alert] = []
        while (due := await self.due()) is not None and due < now_ns:
            told += await self.call(lambda d, due=due: d.on_time(due))  # type: ignore[misc]
        return told

    async def feed(self, *items: Alert) -> list[Alert]:
        told: list[Alert] = []
        for item in items:
            told += await self.advance(item.now_ns)
            told += await self.call(lambda d, item=item: d.process(Batch((item,), WHOLE, item.now_ns)))  # type: ignore[misc]
        return told


def said(alerts: Iterable[Alert]) -> list[tuple[str, int, float]]:
    """State, count and hours since 02:00."""
    return [(a.state, a.count, round((a.now_ns - TWO) / HOUR, 3)) for a in alerts]


@pytest.mark.parametrize("restarts", [False, True])
async def test_the_six_hours_of_the_seed(restarts: bool) -> None:
    driver = Driver(plain(escalate_to=("@oncall-data", "pagerduty")), restarts)
    failures = [failure(TWO + n * 5 * MINUTE) for n in range(120)]  # 02:00, 02:05 … 11:55
    told = await driver.feed(*failures, success(TWO + 10 * HOUR + 3 * MINUTE))
    assert said(told) == [
        ("firing", 1, 0),
        *(("digest", 12, hour) for hour in (1, 2, 3, 4, 5)),
        ("escalated", 72, 6),
        ("repeated", 24, 8),
        ("repeated", 23, 10),  # the failure of 12:00 did not come
        ("resolved", 120, 10.05),
    ]
    escalated = told[6]
    assert (escalated.first_ns, escalated.last_ns) == (TWO, TWO + 6 * HOUR)
    assert (escalated.severity, escalated.window_ns, escalated.reason) == ("CRITICAL", 6 * HOUR, "persists")
    assert (escalated.escalate_to, escalated.repeat_ns) == (("@oncall-data", "pagerduty"), 2 * HOUR)
    assert {a.key for a in told} == {"p#1"}
    assert await driver.advance(TWO + 100 * HOUR) == []
    assert [key[0] for key in driver.state.stored] == ["past"]


async def test_a_digest_comes_only_if_something_was_repeated() -> None:
    driver = Driver()
    assert said(await driver.feed(failure(TWO))) == [("firing", 1, 0)]
    assert await driver.advance(TWO + 24 * HOUR) == []


async def test_a_failure_after_a_quiet_window_opens_another_and_is_not_told_as_new() -> None:
    driver = Driver(plain(escalate_after=Duration(0)))
    told = await driver.feed(failure(TWO), failure(TWO + 3 * HOUR + 30 * MINUTE))
    told += await driver.advance(TWO + 9 * HOUR)
    assert said(told) == [("firing", 1, 0), ("digest", 1, 4.5)]


async def test_a_failure_at_a_windows_end_counts_in_it() -> None:
    driver = Driver()
    told = await driver.feed(failure(TWO), failure(TWO + HOUR)) + await driver.advance(TWO + HOUR + 1)
    assert said(told) == [("firing", 1, 0), ("digest", 1, 1)]


async def test_what_failed_once_does_not_persist_and_a_nightly_repeat_escalates_when_it_comes() -> None:
    driver = Driver()
    told = await driver.feed(failure(TWO), failure(TWO + 24 * HOUR)) + await driver.advance(TWO + 25 * HOUR)
    assert said(told) == [("firing", 1, 0), ("escalated", 1, 24)]
    assert said(await driver.advance(TWO + 29 * HOUR)) == [("repeated", 0, 26), ("repeated", 0, 28)]


async def test_the_next_timer_is_that_of_the_lives_as_they_are() -> None:
    driver = Driver(plain(escalate_after=Duration("90m")))
    window, later = TWO + 60 * MINUTE, TWO + 70 * MINUTE
    await driver.feed(failure(TWO), failure(TWO + 10 * MINUTE, "q"))
    assert await driver.due() == window
    await driver.feed(failure(TWO + 20 * MINUTE), failure(TWO + 30 * MINUTE, "q"))
    assert await driver.due() == window
    for table in driver.state.tables.values():
        table.begin()
    assert driver.dedup is not None
    nonsense = Silence("s", TWO, "this is no condition (", TWO + HOUR)
    with pytest.raises(ExpressionError):
        await driver.dedup.process(Batch((success(TWO + 40 * MINUTE), nonsense), WHOLE, 0))
    for table in driver.state.tables.values():
        table.undo()
    assert await driver.due() == window
    await driver.feed(success(TWO + 40 * MINUTE))
    assert await driver.due() == later
    await driver.feed(success(TWO + 50 * MINUTE, "q"))
    assert await driver.due() is None


async def test_an_escalation_between_two_digests_ends_the_window() -> None:
    driver = Driver(plain(escalate_after=Duration("90m"), repeat_every=Duration(0)))
    told = await driver.feed(*(failure(TWO + n * 10 * MINUTE) for n in range(20)))
    assert said(told) == [("firing", 1, 0), ("digest", 6, 1), ("escalated", 9, 1.5)]


async def test_escalation_by_count() -> None:
    driver = Driver(plain(escalate_after_count=3))
    told = await driver.feed(*(failure(TWO + n * MINUTE) for n in range(5))) + await driver.advance(TWO + HOUR)
    assert said(told) == [("firing", 1, 0), ("escalated", 3, 0.033)]
    assert told[1].reason == "count_reached"


async def test_two_partitions_of_one_moment_are_no_persistence() -> None:
    driver = Driver()
    told = await driver.feed(failure(TWO, partition="a"), failure(TWO, partition="b"))
    assert said(told + await driver.advance(TWO + 99 * HOUR)) == [("firing", 1, 0), ("digest", 1, 1)]


async def test_it_is_resolved_with_its_last_failing_partition() -> None:
    driver = Driver()
    told = await driver.feed(
        failure(TWO, partition="a"), failure(TWO + 1, partition="b"), failure(TWO + 2, partition="a"),
        success(TWO + 3, partition="a"), success(TWO + 4, partition="a"), success(TWO + 5, partition="b"),
    )  # fmt: skip
    assert [(a.state, a.count) for a in told] == [("firing", 1), ("resolved", 3)]


async def test_notifications_name_the_partitions_that_fail_and_count_the_rest() -> None:
    driver = Driver()
    await driver.feed(*(failure(TWO + n, partition=f"{n:02}") for n in range(30)), success(TWO + 40, partition="29"))
    (digest,) = await driver.advance(TWO + 2 * HOUR)
    assert (digest.failing, digest.partitions) == (29, tuple(f"{n:02}" for n in range(10, 29)))


async def test_a_failure_after_the_resolution_is_another_occurrence() -> None:
    driver = Driver(restarts=True)
    told = await driver.feed(failure(TWO), success(TWO + 1), failure(TWO + 2), success(TWO + 3), success(TWO + 4))
    assert [(a.state, a.key) for a in told] == [
        ("firing", "p#1"), ("resolved", "p#1"), ("firing", "p#2"), ("resolved", "p#2"),
    ]  # fmt: skip


async def test_what_comes_and_goes_is_told_once_as_flapping_and_then_how_it_ended() -> None:
    driver = Driver(restarts=True)
    flips = [act(TWO + n * MINUTE) for n, act in enumerate([failure, success] * 60)]  # each minute, for two hours
    told = await driver.feed(*flips) + await driver.advance(TWO + 9 * HOUR)
    assert [(a.state, a.reason, a.count, a.key) for a in told] == [
        ("firing", "first", 1, "p#1"),
        ("resolved", "recovered", 1, "p#1"),
        ("firing", "first", 1, "p#2"),
        ("resolved", "recovered", 1, "p#2"),
        ("digest", "flapping", 3, "p#3"),
        ("resolved", "stable", 58, "p#3"),
    ]
    assert told[-1].now_ns == TWO + 119 * MINUTE + HOUR  # an hour after the last recovery
    assert [key[0] for key in driver.state.stored] == ["past"]


async def test_what_flaps_and_then_stays_broken_is_told_again_and_goes_on_as_any_problem() -> None:
    driver = Driver()
    flips = [act(TWO + n * MINUTE) for n, act in enumerate([failure, success] * 4)]
    told = await driver.feed(*flips, failure(TWO + 10 * MINUTE), failure(TWO + 80 * MINUTE))
    told += await driver.feed(success(TWO + 3 * HOUR))
    assert [(a.state, a.reason, a.count) for a in told[4:]] == [
        ("digest", "flapping", 3), ("digest", "still_failing", 2), ("digest", "window_over", 1),
        ("resolved", "recovered", 4),
    ]  # fmt: skip


async def test_what_flaps_for_hours_escalates_and_is_not_repeated_while_it_is_well() -> None:
    driver = Driver()
    flips = [act(TWO + n * 20 * MINUTE) for n, act in enumerate([failure, success] * 30)]
    told = await driver.feed(*flips) + await driver.advance(TWO + 30 * HOUR)
    assert [(a.state, a.reason) for a in told[4:]] == [
        ("firing", "first"),
        ("resolved", "recovered"),
    ] * 28  # two occurrences an hour do not flap
    driver = Driver()
    flips = [act(TWO + n * 10 * MINUTE) for n, act in enumerate([failure, success] * 60)]
    told = await driver.feed(*flips) + await driver.advance(TWO + 30 * HOUR)
    assert said(told[4:]) == [
        ("digest", 3, 0.667), ("escalated", 18, 6.667), *(("repeated", 6, n + 0.667) for n in (8, 10, 12, 14, 16, 18)),
        ("resolved", 58, 20.833),
    ]  # fmt: skip


async def test_without_a_count_nothing_flaps() -> None:
    driver = Driver(plain(flapping_count=0))
    told = await driver.feed(*(act(TWO + n) for n, act in enumerate([failure, success] * 5)))
    assert [a.state for a in told] == ["firing", "resolved"] * 5


async def test_occurrences_that_lie_apart_do_not_flap() -> None:
    driver = Driver()
    told = await driver.feed(*(act(TWO + n * 16 * MINUTE) for n, act in enumerate([failure, success] * 5)))
    assert [a.reason for a in told] == ["first", "recovered"] * 5


async def test_problems_live_apart() -> None:
    driver = Driver()
    told = await driver.feed(
        failure(TWO, "a"), failure(TWO + 1, "b"), failure(TWO + 2, "a"), success(TWO + 3, "b"), failure(TWO + HOUR, "c")
    )
    assert [(a.state, a.fingerprint) for a in told] == [
        ("firing", "a"), ("firing", "b"), ("resolved", "b"), ("firing", "c"),
    ]  # fmt: skip


async def test_a_job_has_no_partitions() -> None:
    driver = Driver()
    told = await driver.feed(failure(TWO, partition="a", asset=""), success(TWO + 1, asset=""))
    assert [a.state for a in told] == ["firing", "resolved"]


async def test_severity_never_falls_is_told_at_once_when_it_rises_and_is_raised_by_the_escalation() -> None:
    driver = Driver()
    told = await driver.feed(
        failure(TWO, severity="WARNING"), failure(TWO + 1, severity="ERROR"), failure(TWO + HOUR, severity="WARNING")
    )
    told += await driver.advance(TWO + 6 * HOUR + 1)
    assert [(a.state, a.severity) for a in told] == [
        ("firing", "WARNING"), ("digest", "ERROR"), ("digest", "ERROR"), ("escalated", "CRITICAL"),
    ]  # fmt: skip
    assert (told[1].reason, told[1].now_ns, told[1].count) == ("worse", TWO + 1, 1)


async def test_the_last_known_impact_stays() -> None:
    driver = Driver()
    impact = Impact({"b": 1})
    await driver.feed(failure(TWO, impact=impact), failure(TWO + 1))
    (digest,) = await driver.advance(TWO + HOUR + 1)
    assert (digest.impact, digest.run_id) == (impact, f"run-{TWO + 1}")


async def test_edges_end_here_and_other_notifications_pass() -> None:
    driver = Driver()
    other = msgspec.structs.replace(failure(TWO), state="firing")
    edges = Edges("a", ("b",), TWO)
    assert await driver.call(lambda d: d.process(Batch((edges, other), WHOLE, TWO))) == [other]


async def test_beyond_the_limit_problems_are_told_each_time() -> None:
    driver = Driver(plain(max_open=1))
    told = await driver.feed(failure(TWO, "a"), failure(TWO, "b"), failure(TWO, "b"), failure(TWO, "a"))
    assert [(a.fingerprint, a.reason) for a in told] == [
        ("a", "first"), ("b", "too_many_open"), ("b", "too_many_open"),
    ]  # fmt: skip


async def test_the_oldest_resolved_problems_are_forgotten_first() -> None:
    driver = Driver(plain(max_remembered=10))
    for n in range(11):
        await driver.feed(failure(TWO + n, f"p{n}"), success(TWO + n, f"p{n}"))
    assert sorted(key[1] for key in driver.state.stored) == sorted(
        msgspec.msgpack.encode(f"p{n}") for n in range(2, 11)
    )


@pytest.mark.parametrize("wrong", [{"escalate_after_count": 1}, {"max_open": -1}])
def test_senseless_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, DedupConfig, dec_hook=lambda kind, value: kind(value))


# --- laws ------------------------------------------------------------------------------------------------------------

steps = st.tuples(
    st.sampled_from(["failing", "failing", "failing", "recovered"]),
    st.sampled_from(["p", "q"]),
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([0, 1, MINUTE, 20 * MINUTE, HOUR, 2 * HOUR, 7 * HOUR]),
)
timelines = st.lists(steps, max_size=25)
configs = st.sampled_from(
    [
        plain(),
        plain(escalate_after_count=3),
        plain(window=Duration("40m"), escalate_after=Duration("2h"), repeat_every=Duration("1h")),
        plain(window=Duration(0), repeat_every=Duration(0)),
        plain(escalate_after=Duration(0)),
        plain(flapping_count=2, flapping_window=Duration("3h")),
        plain(flapping_count=0),
    ]
)


def timeline(steps: Sequence[tuple[AlertState, str, str | None, int]]) -> list[Alert]:
    now, items = TWO, []
    for state, problem, partition, wait in steps:
        now += wait
        items.append(failure(now, problem, partition, state=state))
    return items


@settings(deadline=None)
@given(timelines, configs, st.lists(st.integers(1, 5), min_size=25, max_size=25))
async def test_neither_restarts_nor_the_batches_of_one_moment_change_what_is_told(
    steps: list[tuple[AlertState, str, str | None, int]], config: DedupConfig, sizes: list[int]
) -> None:
    items = timeline(steps)
    end = (items[-1].now_ns if items else TWO) + 9 * HOUR
    plain, crashing, batched = Driver(config), Driver(config, restarts=True), Driver(config)
    expected = await plain.feed(*items) + await plain.advance(end)
    assert await crashing.feed(*items) + await crashing.advance(end) == expected
    told: list[Alert] = []
    left = items
    while left:  # as many as no timer comes between
        told += await batched.advance(left[0].now_ns)
        due = await batched.due()
        size = sizes[len(left) % len(sizes)]
        whole = [i for i in left[:size] if i.now_ns == left[0].now_ns] if due is None or due >= left[0].now_ns else []
        batch = whole or left[:1]
        told += await batched.call(lambda d, b=batch: d.process(Batch(b, WHOLE, b[-1].now_ns)))  # type: ignore[misc]
        left = left[len(batch) :]
    assert told + await batched.advance(end) == expected


@settings(deadline=None)
@given(timelines, configs)
async def test_every_failure_is_told_or_counted_once_and_every_life_begins_and_ends_once(
    steps: list[tuple[AlertState, str, str | None, int]], config: DedupConfig
) -> None:
    items = timeline(steps)
    driver = Driver(config)
    told = await driver.feed(*items) + await driver.advance((items[-1].now_ns if items else TWO) + 9 * HOUR)
    for problem in ("p", "q"):
        lives: dict[str, list[Alert]] = {}
        for alert in told:
            if alert.fingerprint == problem:
                lives.setdefault(alert.key, []).append(alert)
        failures = sum(1 for i in items if i.fingerprint == problem and i.state == "failing")
        for life in lives.values():
            states = [a.state for a in life]
            flaps = life[0].reason == "flapping"
            assert states[0] == ("digest" if flaps else "firing")
            assert states.count("firing") == (not flaps)
            assert states.count("escalated") <= 1
            assert "resolved" not in states[:-1]
            if "escalated" in states:
                assert "digest" not in states[states.index("escalated") :]
                assert "repeated" not in states[: states.index("escalated")]
            assert [a.now_ns for a in life] == sorted(a.now_ns for a in life)
        resolved = sum(a.count for life in lives.values() for a in life if a.state == "resolved")
        still = list(lives.values())[-1] if lives and list(lives.values())[-1][-1].state != "resolved" else None
        assert resolved <= failures
        assert still is not None or resolved == failures


@settings(deadline=None)
@given(st.lists(st.integers(0, 6 * HOUR - 1), min_size=1, max_size=60).map(sorted))
async def test_digests_before_the_escalation_add_up(times: list[int]) -> None:
    driver = Driver()
    told = await driver.feed(failure(TWO), *(failure(TWO + 1 + t) for t in times))
    told += await driver.advance(TWO + 6 * HOUR + 1)
    digests = sum(a.count for a in told if a.state == "digest")
    (escalated,) = [a for a in told if a.state == "escalated"]
    assert escalated.count == len(times)
    assert digests == sum(1 for t in times if (t + 1) <= last_digest(told))


def last_digest(told: Sequence[Alert]) -> int:
    return max((a.now_ns - TWO for a in told if a.state == "digest"), default=0)
