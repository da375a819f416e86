"""What keeps a problem from being told, and that it is told when that is over: groups, silences, mute windows, causes
upstream, catching up, limits. The driver of `test_dedup` is the runtime's part.
"""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alert_commands import Acknowledge, Command, Expire, Resolve, Silence, decode_command, encode_command
from pipeline.batch import WHOLE, Batch
from pipeline.channels import NOBODY
from pipeline.clock import DAY, HOUR, MINUTE, SECOND
from pipeline.facts import ErrorInfo
from pipeline.options import Duration
from pipeline.runtime.context import ShardTables
from pipeline.signals import Alert, AlertState, Severity
from pipeline.store.state import StoredRow
from pipeline.testing.context import FakeContext, MemoryState
from processors.alert_mutes import MuteWindow
from processors.alert_routes import BY_SEVERITY, RouteOption
from processors.dedup import SPEC, Dedup
from processors.dedup_options import DedupConfig, RateOption

pytestmark = pytest.mark.anyio

TWO = 1_705_284_000_000_000_000  # Monday 2024-01-15 02:00 UTC


def failure(at_ns: int, problem: str = "p", state: AlertState = "failing", **facts: Any) -> Alert:
    given = {"asset": f"asset_{problem}", "error": ErrorInfo("TimeoutError", "no answer"), **facts}
    severity: Severity = given.pop("severity", "ERROR")
    return Alert(given.pop("kind", "asset_failure"), state, severity, problem, at_ns, at_ns, at_ns, **given)


def success(at_ns: int, problem: str = "p", **facts: Any) -> Alert:
    return failure(at_ns, problem, "recovered", **facts)


class Driver:
    """One item at a time, before each the timers that are due; a restart after each call."""

    def __init__(self, **options: Any) -> None:
        self.config = DedupConfig(**{"rate_limit": RateOption(messages=0), "group_wait": Duration(0), **options})
        assert not list(self.config.problems())
        self.state = MemoryState()
        self.once = False
        self.lagging: bool | None = None

    async def call(self, act: Callable[[Dedup], Any]) -> list[Alert]:
        async with SPEC.build(self.config, FakeContext(state=self.state)) as dedup:
            assert isinstance(dedup, Dedup)
            dedup._lagging = self.lagging
            result = act(dedup)
            result = await result if hasattr(result, "__await__") else result
            self.lagging = dedup._lagging
        self.state.checkpoint()
        self.state = self.state.restart()
        return list(result.items if isinstance(result, Batch) else result or ())

    async def due(self) -> int | None:
        async with SPEC.build(self.config, FakeContext(state=self.state)) as dedup:
            assert isinstance(dedup, Dedup)
            dedup._lagging = self.lagging
            return dedup.due()

    async def advance(self, now_ns: int) -> list[Alert]:
        told: list[Alert] = []
        while (due := await self.due()) is not None and due < now_ns:
            told += await self.call(lambda d, due=due: d.on_time(due))  # type: ignore[misc]
        return told

    async def feed(self, *items: Alert | Command) -> list[Alert]:
        told: list[Alert] = []
        for item in items:
            told += await self.advance(item.now_ns)
            told += await self.call(lambda d, item=item: d.process(Batch((item,), WHOLE, item.now_ns)))  # type: ignore[misc]
        return told


def said(alerts: Sequence[Alert]) -> list[tuple[str, str, str]]:
    return [(a.fingerprint, a.state, a.reason) for a in alerts]


# --- groups ----------------------------------------------------------------------------------------------------------


async def test_what_fails_in_one_run_within_the_wait_is_one_notification_and_one_end() -> None:
    driver = Driver(group_wait=Duration("30s"))
    told = await driver.feed(
        failure(TWO, "a", run_id="r"), failure(TWO + 5 * SECOND, "b", run_id="r", severity="CRITICAL"),
        failure(TWO + 9 * SECOND, "c", run_id="r"), failure(TWO + 9 * SECOND, "x", run_id="other"),
        success(TWO + MINUTE, "a"), success(TWO + 2 * MINUTE, "b"), success(TWO + 3 * MINUTE, "c"),
    )  # fmt: skip
    assert said(told) == [("a", "firing", "first"), ("x", "firing", "first"), ("a", "resolved", "recovered")]
    group = told[0]
    assert (group.now_ns, group.count, group.severity) == (TWO + 30 * SECOND, 3, "CRITICAL")
    assert (group.grouped_by, group.members_total, [m.asset for m in group.members]) == (
        "run", 3, ["asset_b", "asset_c"],
    )  # fmt: skip
    assert told[2].now_ns == TWO + 3 * MINUTE
    assert told[2].key == group.key == "a#1"


async def test_a_group_fails_again_as_one_and_what_is_new_later_is_told_by_itself() -> None:
    driver = Driver(group_wait=Duration("30s"))
    await driver.feed(failure(TWO, "a", run_id="r"), failure(TWO, "b", run_id="r"))
    told = await driver.feed(
        failure(TWO + 10 * MINUTE, "b", run_id="r2"), failure(TWO + 10 * MINUTE, "new", run_id="r2"),
        failure(TWO + 10 * MINUTE, "a", run_id="r2"),
    ) + await driver.advance(TWO + 90 * MINUTE)  # fmt: skip
    assert said(told) == [
        ("a", "firing", "first"), ("new", "firing", "first"), ("a", "digest", "window_over"),
    ]  # fmt: skip
    assert told[2].count == 2


async def test_what_is_well_within_the_wait_is_not_told() -> None:
    driver = Driver(group_wait=Duration("30s"))
    assert await driver.feed(failure(TWO, run_id="r"), success(TWO + SECOND)) == []
    assert await driver.advance(TWO + DAY) == []


async def test_the_end_of_once_does_not_wait_for_groups() -> None:
    driver = Driver(group_wait=Duration("30s"))
    await driver.feed(failure(TWO, "a", run_id="r"), failure(TWO, "b", run_id="r"))
    assert said(await driver.call(lambda d: d.finish(TWO))) == [("a", "firing", "first")]
    assert await driver.call(lambda d: d.finish(TWO)) == []


async def test_the_end_of_once_is_beyond_what_is_due_at_its_very_time() -> None:
    """The last line of a recorded log is the failure of 08:00: nothing comes after it that would let time pass."""
    driver = Driver(group_wait=Duration(0))
    for number in range(73):
        told = await driver.feed(failure(TWO + number * 5 * MINUTE))
    assert said(told) == [], "events at time t come before timers due at t"
    told = await driver.call(lambda d: d.finish(TWO + 6 * HOUR))
    assert [(a.state, a.count) for a in told] == [("escalated", 72)]
    assert await driver.call(lambda d: d.finish(TWO + 6 * HOUR)) == []


async def test_a_backfill_is_one_group_as_long_as_it_is_open() -> None:
    driver = Driver(group_by=("backfill", "run"))
    tags = {"dagster/backfill": "bf"}
    told = await driver.feed(
        failure(TWO, "timeout", partition="1", run_id="1", tags=tags),
        failure(TWO + MINUTE, "timeout", partition="2", run_id="2", tags=tags),
        failure(TWO + 20 * MINUTE, "missing", partition="3", run_id="3", tags=tags),
    ) + await driver.advance(TWO + 61 * MINUTE)
    assert said(told) == [("timeout", "firing", "first"), ("timeout", "digest", "window_over")]
    assert (told[1].failing, told[1].members_total, told[1].grouped_by) == (3, 2, "backfill")


async def test_of_a_backfill_it_says_how_many_of_how_many_partitions_failed_by_which_error() -> None:
    driver = Driver(group_by=("backfill", "run"))
    tags = {"dagster/backfill": "bf"}
    await driver.feed(
        *(
            failure(
                TWO + n * SECOND, "timeout" if n % 3 else "missing", asset="orders", partition=f"p{n}", run_id=f"r{n}",
                tags=tags, planned=950 + n,
            )
            for n in range(44)
        )
    )  # fmt: skip
    (digest,) = await driver.advance(TWO + 61 * MINUTE)
    assert (digest.failing, digest.planned, digest.count) == (44, 993, 43)
    assert [(m.asset, m.count) for m in digest.members] == [("orders", 29)], "the others are its own"
    driver = Driver(group_by=("backfill", "run"))
    await driver.feed(
        failure(TWO, "a", partition="1", run_id="1", tags=tags, planned=10),
        failure(TWO + 1, "b", partition="1", run_id="1", tags=tags, planned=10),
    )
    (digest,) = await driver.advance(TWO + 61 * MINUTE)
    assert digest.planned == 0, "partitions of several assets are not to be added up"


# --- silences, acknowledgements, resolving ---------------------------------------------------------------------------


def silence(at_ns: int, until_ns: int, when: str = 'asset == "asset_p"', id: str = "s") -> Silence:
    return Silence(id, at_ns, when, until_ns, "ada", "deploying")


async def test_what_is_silenced_is_counted_and_told_when_it_still_fails_at_the_end() -> None:
    driver = Driver()
    told = await driver.feed(
        silence(TWO, TWO + HOUR), failure(TWO + 1), failure(TWO + MINUTE), failure(TWO + MINUTE, "q")
    )
    told += await driver.advance(TWO + HOUR + 1)
    assert said(told) == [("q", "firing", "first"), ("p", "firing", "silenced_over")]
    assert told[1].count == 2
    assert [d.reason for d in told[1].decisions][:2] == ["silenced", "counted"]
    assert told[1].decisions[0].detail == "s by ada"


async def test_what_recovers_while_it_is_silenced_is_not_told_at_all() -> None:
    driver = Driver()
    assert await driver.feed(silence(TWO, TWO + HOUR), failure(TWO + 1), success(TWO + 2)) == []


async def test_a_silence_over_what_was_told_stops_its_digests_but_not_its_end() -> None:
    driver = Driver()
    failures = [failure(TWO + n * 5 * MINUTE) for n in range(1, 30)]
    told = await driver.feed(failure(TWO), silence(TWO + 1, TWO + 100 * MINUTE), *failures)
    assert [(a.state, a.reason, a.count) for a in told] == [("firing", "first", 1), ("digest", "silenced_over", 20)]
    driver = Driver()
    told = await driver.feed(failure(TWO), silence(TWO + 1, TWO + HOUR), success(TWO + 2))
    assert said(told) == [("p", "firing", "first"), ("p", "resolved", "recovered")]


async def test_a_silence_that_is_ended_early_lets_its_problems_out() -> None:
    driver = Driver()
    told = await driver.feed(
        silence(TWO, TWO + HOUR), failure(TWO + 1), Expire("e", TWO + MINUTE, "s"), failure(TWO + 2 * MINUTE, "q")
    )
    assert said(told) == [("p", "firing", "silenced_over"), ("q", "firing", "first")]


async def test_a_second_silence_goes_on_where_the_first_ends() -> None:
    driver = Driver()
    told = await driver.feed(silence(TWO, TWO + HOUR), silence(TWO, TWO + 3 * HOUR, id="t"), failure(TWO + 1))
    told += await driver.feed(Expire("e", TWO + 2, "s")) + await driver.advance(TWO + 2 * HOUR)
    assert told == []
    assert said(await driver.advance(TWO + 4 * HOUR)) == [("p", "firing", "silenced_over")]


async def test_a_condition_that_asks_for_what_an_alert_has_not_silences_nothing() -> None:
    driver = Driver()
    told = await driver.feed(silence(TWO, TWO + HOUR, 'tags["team"] == "x"'), failure(TWO + 1))
    assert said(told) == [("p", "firing", "first")]


async def test_what_is_acknowledged_neither_escalates_nor_repeats_and_its_end_is_told() -> None:
    driver = Driver()
    failures = [failure(TWO + n * 30 * MINUTE) for n in range(1, 20)]
    told = await driver.feed(failure(TWO), Acknowledge("k", TWO + 1, "p#1", "ada"), *failures, success(TWO + 12 * HOUR))
    assert {a.state for a in told} == {"firing", "digest", "resolved"}
    assert told[-1].acknowledged_by == "ada"


async def test_resolving_by_hand_ends_it_and_the_next_failure_is_another_occurrence() -> None:
    driver = Driver()
    told = await driver.feed(
        failure(TWO, partition="1"), failure(TWO, partition="2"), Resolve("r", TWO + 1, "p"), success(TWO + 2),
        failure(TWO + MINUTE, partition="1"),
    )  # fmt: skip
    assert [(a.state, a.reason, a.key) for a in told] == [
        ("firing", "first", "p#1"), ("resolved", "by_hand", "p#1"), ("firing", "first", "p#2"),
    ]  # fmt: skip


async def test_commands_of_what_is_not_there_change_nothing() -> None:
    driver = Driver()
    commands = [Resolve("r", TWO, "p#7"), Acknowledge("a", TWO, "zzz"), Expire("e", TWO, "none")]
    assert await driver.feed(*commands) == []
    assert not driver.state.stored


@pytest.mark.parametrize(
    "command", [silence(1, 2), Expire("e", 1, "s", "x"), Acknowledge("a", 1, "p#1"), Resolve("r", 1, "p", "ada", "ok")]
)
def test_a_command_is_the_same_after_it_was_stored(command: Command) -> None:
    assert decode_command(encode_command(command)) == command


# --- routing and mute windows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "channels"),
    [
        ("INFO", {"slack", "webhook", "alertmanager", "apprise"}),
        ("WARNING", {"slack", "webhook", "alertmanager", "apprise", "email"}),
        ("ERROR", {"slack", "webhook", "alertmanager", "apprise", "email", "pagerduty"}),
        ("CRITICAL", {"*"}),
    ],
)
async def test_the_severity_says_who_is_told_by_default(severity: Severity, channels: set[str]) -> None:
    (told,) = await Driver().feed(failure(TWO, severity=severity))
    assert set(told.channels) == channels


async def test_routes_go_before_the_assets_channels_those_before_its_owners_and_they_before_the_table() -> None:
    options = {
        "owners": {"team:sales": ("slack/sales",)},
        "routes": (RouteOption(when='asset == "asset_r"', channels=("email/r",)),),
    }
    by = {"owners": ("team:sales", "ada")}
    told = await Driver(**options).feed(
        failure(TWO, "r", channels=("pagerduty",), **by), failure(TWO, "c", channels=("pagerduty",), **by),
        failure(TWO, "o", **by), failure(TWO, "t"),
    )  # fmt: skip
    assert [a.channels for a in told][:3] == [("email/r",), ("pagerduty",), ("slack/sales",)]
    assert "pagerduty" in told[3].channels
    assert len(told[3].channels) > 1


async def test_a_route_that_continues_adds_channels_and_the_first_word_on_the_rest_holds() -> None:
    routes = (
        RouteOption(when='severity == "ERROR"', channels=("slack",), urgency="high", continue_=True),
        RouteOption(when='asset == "asset_p"', channels=("email",), urgency="low"),
        RouteOption(channels=("never",)),
    )
    (told,) = await Driver(routes=routes).feed(failure(TWO))
    assert (told.channels, told.urgency) == (("slack", "email"), "high")


async def test_channels_that_name_no_notifier_keep_nobody_from_being_told(caplog: pytest.LogCaptureFixture) -> None:
    routes = (RouteOption(when='asset == "asset_r"', channels=("slakc", "email")),)
    context = FakeContext(exporters=("slack/data", "email", "pagerduty"))
    async with SPEC.build(DedupConfig(routes=routes, group_wait=Duration(0)), context) as dedup:
        items = [failure(TWO, "r"), failure(TWO, "m", channels=("pager",)), failure(TWO, "s", channels=("slack",))]
        told = (await dedup.process(Batch(items, WHOLE, TWO))).items
    assert [a.channels for a in told] == [("email",), BY_SEVERITY["ERROR"], ("slack",)]
    assert ["'slakc'" in r.why or "'pager'" in r.why for r in caplog.records] == [True, True]  # type: ignore[attr-defined]


async def test_a_route_to_nobody_counts_only() -> None:
    driver = Driver(routes=(RouteOption(when='asset == "asset_p"', channels=()),))
    assert await driver.feed(failure(TWO), failure(TWO + 1), success(TWO + 2)) == []


async def test_a_route_changes_the_severity_and_with_it_who_is_told() -> None:
    driver = Driver(routes=(RouteOption(when='asset == "asset_p"', severity="INFO"),))
    told = await driver.feed(failure(TWO), success(TWO + 1))
    assert told[0].severity == "INFO"
    assert "pagerduty" not in told[0].channels


async def test_the_end_goes_to_everybody_who_was_told() -> None:
    driver = Driver(escalate_channels=("pagerduty/oncall",), severities={"ERROR": ("slack",), "CRITICAL": ("email",)})
    failures = [failure(TWO + n * HOUR) for n in range(8)]
    told = await driver.feed(*failures, success(TWO + 9 * HOUR))
    assert told[0].channels == ("slack",)
    assert next(a for a in told if a.state == "escalated").channels == ("email", "pagerduty/oncall")
    assert told[-1].state == "resolved"
    assert set(told[-1].channels) == {"slack", "email", "pagerduty/oncall"}


NIGHT = MuteWindow(name="night", from_="22:00", until="06:00")


async def test_what_begins_in_a_mute_window_is_told_at_its_end_if_it_still_fails() -> None:
    driver = Driver(mute_windows=(NIGHT,), mute=("night",))
    told = await driver.feed(failure(TWO), failure(TWO + HOUR), failure(TWO, "q"), success(TWO + MINUTE, "q"))
    told += await driver.advance(TWO + 4 * HOUR + 1)
    assert [(a.fingerprint, a.state, a.reason, a.count, a.now_ns) for a in told] == [
        ("p", "firing", "muted_over", 2, TWO + 4 * HOUR)
    ]


async def test_a_route_that_is_muted_is_told_later_and_the_others_at_once() -> None:
    driver = Driver(
        mute_windows=(NIGHT,),
        routes=(
            RouteOption(channels=("pagerduty",), mute=("night",), continue_=True),
            RouteOption(channels=("slack",)),
        ),
    )
    told = await driver.feed(failure(TWO)) + await driver.advance(TWO + 5 * HOUR)
    assert [(a.state, a.reason, a.channels, (a.now_ns - TWO) // HOUR) for a in told] == [
        ("firing", "first", ("slack",), 0), ("firing", "mute_over", ("pagerduty",), 4),
    ]  # fmt: skip
    (end,) = await driver.feed(success(TWO + 6 * HOUR))
    assert set(end.channels) == {"slack", "pagerduty"}


async def test_an_escalation_goes_through_a_mute_window_to_its_own_channels() -> None:
    driver = Driver(
        mute_windows=(NIGHT,), mute=("night",), escalate_after=Duration("1h"), escalate_channels=("pagerduty",),
        routes=(RouteOption(channels=("slack",)),), repeat_every=Duration(0),
    )  # fmt: skip
    before = TWO - 5 * HOUR  # 21:00
    told = await driver.feed(failure(before), failure(before + 30 * MINUTE)) + await driver.advance(TWO + 5 * HOUR)
    assert [(a.state, a.channels) for a in told] == [
        ("firing", ("slack",)), ("escalated", ("pagerduty",)), ("repeated", ("slack",)),
    ]  # fmt: skip
    assert told[2].now_ns == TWO + 4 * HOUR


# --- what follows from others ----------------------------------------------------------------------------------------


def stale(at_ns: int, asset: str = "mart", upstream: tuple[str, ...] = ("asset_p",)) -> Alert:
    return failure(at_ns, f"stale-{asset}", kind="sla_breach", asset=asset, upstream=upstream, severity="WARNING")


async def test_what_is_stale_because_an_upstream_fails_is_folded_into_it() -> None:
    driver = Driver(window=Duration("1h"))
    told = await driver.feed(failure(TWO), stale(TWO + 10 * MINUTE), failure(TWO + 20 * MINUTE))
    told += await driver.advance(TWO + HOUR + 1)
    assert said(told) == [("p", "firing", "first"), ("p", "digest", "window_over")]
    assert [(m.kind, m.asset) for m in told[1].members] == [("sla_breach", "mart")]


async def test_it_comes_out_on_its_own_if_it_stays_broken_after_the_upstream_is_well() -> None:
    driver = Driver(inhibit_grace=Duration("30m"))
    told = await driver.feed(failure(TWO), stale(TWO + 1), success(TWO + HOUR)) + await driver.advance(TWO + DAY)
    assert [(a.fingerprint, a.state, a.reason, a.now_ns) for a in told[1:]] == [
        ("p", "resolved", "recovered", TWO + HOUR),
        ("stale-mart", "firing", "inhibited_over", TWO + 90 * MINUTE),
    ]


async def test_it_is_never_told_if_it_is_well_soon_after_the_upstream() -> None:
    driver = Driver()
    end = success(TWO + 70 * MINUTE, "stale-mart", kind="sla_breach", asset="mart")
    told = await driver.feed(failure(TWO), stale(TWO + 1), success(TWO + HOUR), end) + await driver.advance(TWO + DAY)
    assert said(told) == [("p", "firing", "first"), ("p", "resolved", "recovered")]


async def test_what_is_stale_for_no_known_reason_is_told() -> None:
    driver = Driver()
    told = await driver.feed(failure(TWO), stale(TWO + 1, upstream=("elsewhere",)))
    assert said(told) == [("p", "firing", "first"), ("stale-mart", "firing", "first")]


# --- catching up -----------------------------------------------------------------------------------------------------


async def test_after_downtime_only_what_is_still_open_is_told_and_marked_late() -> None:
    driver = Driver()
    now = TWO + 7 * HOUR
    await driver.call(lambda d: d.lags(7 * HOUR, TWO))
    told = await driver.feed(failure(TWO, "a"), failure(TWO + HOUR, "b"), success(TWO + 2 * HOUR, "a"))
    assert told == []
    await driver.call(lambda d: d.lags(0, now))
    told = await driver.advance(now + 1)
    assert [(a.fingerprint, a.state, a.reason, a.late) for a in told] == [("b", "firing", "late", True)]


async def test_a_problem_that_was_told_before_the_downtime_is_told_once_after_it() -> None:
    driver = Driver(escalate_after=Duration(0))
    await driver.feed(failure(TWO))
    await driver.call(lambda d: d.lags(7 * HOUR, TWO))
    assert await driver.feed(*(failure(TWO + n * HOUR) for n in range(1, 7))) == []
    await driver.call(lambda d: d.lags(0, TWO + 7 * HOUR))
    told = await driver.advance(TWO + 7 * HOUR + 1)
    assert [(a.state, a.count) for a in told] == [("digest", 6)]


async def test_a_success_after_downtime_comes_before_the_escalation() -> None:
    driver = Driver()
    await driver.feed(failure(TWO), failure(TWO + MINUTE))
    await driver.call(lambda d: d.lags(8 * HOUR, TWO + MINUTE))
    told = await driver.feed(success(TWO + 3 * HOUR))
    await driver.call(lambda d: d.lags(0, TWO + 8 * HOUR))
    assert said(told + await driver.advance(TWO + 9 * HOUR)) == [("p", "resolved", "recovered")]


async def test_ancient_history_pages_nobody_but_is_listed() -> None:
    driver = Driver()
    await driver.call(lambda d: d.lags(300 * DAY, TWO))
    assert await driver.feed(*(failure(TWO + n, f"old{n}") for n in range(3))) == []
    now = TWO + 300 * DAY
    await driver.call(lambda d: d.lags(0, now))
    told = await driver.advance(now + DAY)
    assert [(a.kind, a.state, a.reason, a.members_total) for a in told] == [("still_broken", "digest", "chronic", 3)]
    assert "pagerduty" not in told[0].channels
    assert told[0].now_ns == now + 7 * HOUR  # at nine


async def test_who_never_catches_up_is_told_late_rather_than_never() -> None:
    driver = Driver()
    async with SPEC.build(driver.config, FakeContext(state=driver.state)) as dedup:
        assert isinstance(dedup, Dedup)
        dedup.lags(HOUR, TWO)
        await dedup.process(Batch((failure(TWO + 1),), WHOLE, TWO + 1))
        dedup.lags(HOUR, TWO + 20 * MINUTE)
        assert dedup.due() is None
        dedup.lags(HOUR, TWO + 40 * MINUTE)
        due = dedup.due()
        assert due == TWO + 40 * MINUTE
        assert [(a.state, a.late) for a in await dedup.on_time(due)] == [("firing", True)]


# --- chronic ---------------------------------------------------------------------------------------------------------


async def test_what_does_not_change_for_a_day_leaves_the_repeats_for_the_daily_list() -> None:
    driver = Driver(severities={"CRITICAL": ("slack",), "WARNING": ("email",)})
    told = await driver.feed(*(failure(TWO + n * 2 * HOUR, partition="1") for n in range(40)))
    told += await driver.advance(TWO + 4 * DAY)
    repeats = [a for a in told if a.state == "repeated"]
    assert [a.reason for a in repeats] == ["not_resolved"] * 11 + ["chronic"]
    assert repeats[-1].repeat_ns == 0
    lists = [a for a in told if a.kind == "still_broken"]
    assert [(a.now_ns - TWO) / HOUR for a in lists] == [31, 55, 79]  # at nine
    assert lists[0].members[0].asset == "asset_p"
    assert said(await driver.feed(success(TWO + 5 * DAY, partition="1")))[-1] == ("p", "resolved", "recovered")
    assert await driver.advance(TWO + 20 * DAY) == []


# --- limits ----------------------------------------------------------------------------------------------------------


async def test_a_thousand_failures_in_ten_seconds_are_a_handful_of_messages_and_lose_nothing() -> None:
    driver = FastDriver(rate_limit=RateOption(messages=10), severities={"ERROR": ("slack",)})
    told = await driver.feed(*(failure(TWO + n * 10**7, f"p{n:03}") for n in range(1000)))
    told += await driver.advance(TWO + 59 * MINUTE)
    heard = [a for a in told if a.channels == ("slack",)]
    assert len(heard) == 11
    storm = heard[-1]
    assert (storm.kind, storm.state, storm.reason, storm.count) == ("overflow", "digest", "rate_limited", 990)
    named = [m.key.partition("#")[0] for m in storm.members]
    assert (named, storm.members_total) == ([f"p{n:03}" for n in range(10, 510)], 990)
    assert len([a for a in told if a.channels == (NOBODY,)]) == 990  # on record
    ends = await driver.feed(*(success(TWO + HOUR + n, f"p{n:03}") for n in range(1000)))
    ends += await driver.advance(TWO + 3 * HOUR)
    ended = [a for a in ends if a.channels == ("slack",)]
    assert [a.state for a in ended] == ["resolved"] * 11
    assert ended[-1].key == storm.key


async def test_what_is_over_before_its_overflow_was_told_is_left_out_of_it() -> None:
    driver = Driver(rate_limit=RateOption(messages=1), severities={"ERROR": ("slack",)})
    await driver.feed(failure(TWO, "a"), failure(TWO + 1, "b"), failure(TWO + 1, "c"), success(TWO + 2, "b"))
    (storm,) = await driver.advance(TWO + 2 * MINUTE)
    assert [m.asset for m in storm.members] == ["asset_c"]


async def test_resolutions_that_overflow_are_named_with_their_keys() -> None:
    driver = Driver(rate_limit=RateOption(messages=2), severities={"ERROR": ("slack",)})
    for n in range(4):
        await driver.feed(failure(TWO + n * 5 * MINUTE, f"p{n}"))
    told = await driver.feed(*(success(TWO + HOUR + n, f"p{n}") for n in range(4)))
    told += await driver.advance(TWO + 2 * HOUR)
    heard = [a for a in told if a.channels == ("slack",)]
    assert [a.kind for a in heard] == ["asset_failure", "asset_failure", "overflow"]
    assert [(m.key, m.state) for m in heard[2].members] == [("p2#1", "resolved"), ("p3#1", "resolved")]


class FastDriver(Driver):
    """One life, for many items."""

    dedup: Dedup | None = None

    async def call(self, act: Callable[[Dedup], Any]) -> list[Alert]:
        if self.dedup is None:
            built = await SPEC.build(self.config, FakeContext(state=self.state)).__aenter__()
            assert isinstance(built, Dedup)
            self.dedup = built
        result = await act(self.dedup)
        return list(result.items if isinstance(result, Batch) else result)

    async def due(self) -> int | None:
        return self.dedup.due() if self.dedup else None


# --- state of a version before ----------------------------------------------------------------------------------------


async def test_open_problems_of_version_1_are_gone_on_with() -> None:
    """What was released first had no flapping, holds, channels and groups."""
    finding = msgspec.to_builtins(failure(TWO, partition="1"))
    life = {
        "finding": finding, "occurrence": 2, "began_ns": TWO, "latest_ns": TWO + 1, "first_ns": TWO, "last_ns": TWO + 1,
        "total": 3, "persists_ns": TWO + 1, "window_ends_ns": TWO + HOUR, "since": 2, "partitions": ["1"],
    }  # fmt: skip
    rows = {
        ("processors.dedup", "lives"): [stored("p", 1, life)],
        ("processors.dedup", "failing"): [stored(("p", "1"), 1, TWO)],
        ("processors.dedup", "past"): [stored("q", 1, {"occurrences": 4, "ended_ns": TWO})],
    }
    config = DedupConfig(rate_limit=RateOption(messages=0), group_wait=Duration(0))
    context = FakeContext()
    context.state = ShardTables("processors.dedup", WHOLE, rows)
    async with SPEC.build(config, context) as dedup:
        assert isinstance(dedup, Dedup)
        assert dedup.due() == TWO + HOUR
        (digest,) = await dedup.on_time(TWO + HOUR)
        ends = (await dedup.process(Batch((success(TWO + 2 * HOUR, partition="1"),), WHOLE, TWO + 2 * HOUR))).items
        again = (await dedup.process(Batch((failure(TWO + 3 * HOUR, "q"),), WHOLE, TWO + 3 * HOUR))).items
    assert (digest.state, digest.count, digest.key, digest.asset) == ("digest", 2, "p#2", "asset_p")
    assert [(a.state, a.count, a.channels[0]) for a in ends] == [("resolved", 3, "*")]
    assert [(a.state, a.key) for a in again] == [("firing", "q#5")]


def stored(key: object, version: int, value: object) -> StoredRow:
    return msgspec.msgpack.encode(key), version, msgspec.msgpack.encode(value)


# --- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"mute": ["nihgt"]}, "mute"),
        ({"routes": [{"when": 'asset = "x"'}]}, "routes"),
        ({"routes": [{"mute": ["x"]}]}, "routes"),
        ({"rate_limit": {"messages": -1}}, "rate_limit"),
        ({"mute_windows": [{"name": "a", "from": "1:00", "until": "2:00"}] * 2}, "mute_windows"),
    ],
)
def test_faults_of_the_options_are_found(options: dict[str, Any], path: str) -> None:
    config = msgspec.convert(options, DedupConfig, dec_hook=lambda kind, value: kind(value))
    assert [where for where, _ in config.problems()] == [path]


# --- laws ------------------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["fail", "fail", "fail", "fail", "well", "well", "silence", "expire", "ack", "resolve"]),
        st.sampled_from(["p", "q", "r", "stale-mart"]),
        st.sampled_from(["run-1", "run-2", ""]),
        st.sampled_from([0, 1, SECOND, 10 * SECOND, MINUTE, 20 * MINUTE, HOUR, 7 * HOUR]),
    ),
    max_size=25,
)
OPTIONS = st.sampled_from(
    [
        {},
        {"group_wait": Duration("30s")},
        {"group_wait": Duration("30s"), "rate_limit": RateOption(messages=1)},
        {"rate_limit": RateOption(messages=2), "severities": {"CRITICAL": ("pagerduty",)}},
        {"mute_windows": (NIGHT,), "mute": ("night",), "group_wait": Duration("5s")},
        {
            "mute_windows": (NIGHT,),
            "routes": (
                RouteOption(channels=("pagerduty",), mute=("night",), continue_=True),
                RouteOption(channels=("slack",)),
            ),
        },
        {"group_by": ("backfill", "run"), "escalate_after_count": 3, "flapping_count": 2},
    ]
)


def acted(steps: Sequence[tuple[str, str, str, int]]) -> list[Alert | Command]:
    now, items, silences = TWO, list[Alert | Command](), 0
    for number, (what, problem, run, wait) in enumerate(steps):
        now += wait
        facts = {"kind": "sla_breach", "asset": "mart", "upstream": ("asset_p",)} if problem.startswith("stale") else {}
        if what == "fail":
            items.append(failure(now, problem, run_id=run, tags={"dagster/backfill": run}, **facts))
        elif what == "well":
            items.append(success(now, problem, **facts))
        elif what == "silence":
            silences += 1
            items.append(silence(now, now + 2 * HOUR, f'fingerprint == "{problem}"', f"s{silences}"))
        elif what == "expire":
            items.append(Expire(f"e{number}", now, f"s{silences}"))
        elif what == "ack":
            items.append(Acknowledge(f"a{number}", now, problem))
        else:
            items.append(Resolve(f"r{number}", now, problem))
    return items


@settings(deadline=None)
@given(STEPS, OPTIONS)
async def test_a_restart_after_each_call_changes_nothing(
    steps: list[tuple[str, str, str, int]], options: dict[str, Any]
) -> None:
    items = acted(steps)
    end = TWO + 40 * DAY
    steady, restarting = FastDriver(**options), Driver(**options)
    assert await restarting.feed(*items) == await steady.feed(*items)
    assert await steady.advance(end - 38 * DAY) == await restarting.advance(end - 38 * DAY)


async def test_two_things_that_are_due_at_the_same_time_are_both_done() -> None:
    driver = FastDriver(mute_windows=(NIGHT,), routes=(
        RouteOption(channels=("pagerduty",), mute=("night",), continue_=True), RouteOption(channels=("slack",)),
    ))  # fmt: skip
    told = await driver.feed(failure(TWO + HOUR), failure(TWO + 2 * HOUR), failure(TWO + 2 * HOUR + 1))
    told += await driver.advance(TWO + 8 * HOUR)
    assert [(a.state, a.channels, (a.now_ns - TWO) // HOUR) for a in told] == [
        ("firing", ("slack",), 1), ("digest", ("slack",), 2), ("digest", ("slack",), 3),
        ("firing", ("pagerduty",), 4), ("escalated", ("pagerduty", "slack"), 7),
    ]  # fmt: skip


@settings(deadline=None)
@given(STEPS, OPTIONS)
async def test_nothing_is_lost_nothing_is_told_after_its_end_and_no_channel_gets_more_than_it_can_bear(
    steps: list[tuple[str, str, str, int]], options: dict[str, Any]
) -> None:
    items, driver = acted(steps), FastDriver(**options)
    told = await driver.feed(*items)
    last = items[-1].now_ns if items else TWO
    told += await driver.advance(last + 12 * HOUR)  # all silences and nights are over
    heard = [alert for alert in told if alert.channels != (NOBODY,)]

    # What still fails has been told of: by itself, with a group, in an overflow's digest, or with what it follows from.
    known = {alert.fingerprint for alert in heard}
    known |= {member.key.partition("#")[0] for alert in heard for member in alert.members}
    dedup = driver.dedup
    for fingerprint, life in dedup._book.lives.items() if dedup else ():
        assert not life.failing or fingerprint in known or life.held == "inhibited", f"{fingerprint} was never told"
        assert life.held in ("", "inhibited", "muted"), f"{fingerprint} is still held: {life.held}"

    # One end a life, and nothing after it.
    by_key: dict[str, list[Alert]] = {}
    for alert in heard:
        by_key.setdefault(alert.key, []).append(alert)
    for key, alerts in by_key.items():
        states = [alert.state for alert in alerts]
        assert states.count("resolved") <= 1, key
        assert "resolved" not in states[:-1], key
        assert states[0] != "resolved" or key.startswith("overflow:"), f"{key}: the end of what nobody was told of"
        assert [a.now_ns for a in alerts] == sorted(a.now_ns for a in alerts), key

    # Never a storm.
    limit = options.get("rate_limit")
    if limit is not None:
        for channel in {channel for alert in heard for channel in alert.channels}:
            times = [alert.now_ns for alert in heard if channel in alert.channels and alert.reason != "rate_limited"]
            times = [at for at in times if at]
            worst = max((sum(1 for other in times if at <= other < at + MINUTE) for at in times), default=0)
            assert worst <= 2 * limit.messages + 2, channel  # an interval may begin in the middle of this one


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans(), st.integers(0, 3 * 60)), max_size=40))
async def test_the_counts_of_ends_are_the_failures(steps: list[tuple[str, bool, int]]) -> None:
    driver, now = FastDriver(group_wait=Duration("30s")), TWO
    items = []
    for problem, fails, seconds in steps:
        now += seconds * SECOND
        items.append(failure(now, problem, run_id=f"run-{now // (10 * MINUTE)}") if fails else success(now, problem))
    ends = [success(now + HOUR, problem) for problem in "abc"]
    told = await driver.feed(*items, *ends) + await driver.advance(now + 9 * HOUR)
    resolved = sum(alert.count for alert in told if alert.state == "resolved")
    untold = sum(1 for item in items if item.state == "failing") - resolved
    unheard = [alert for alert in told if alert.state == "firing"]
    assert untold >= 0
    assert len({alert.key for alert in unheard}) == len(unheard)
    assert not driver.dedup or not list(driver.dedup._book.lives.items())
