"""What `dedup` decides is on record: each failure once, each decision with its reason, as the state has it."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from pipeline.alert_commands import Acknowledge, Silence
from pipeline.alert_records import Decided, Made, Occurred, Record, Routed, Standing, notification_id
from pipeline.batch import WHOLE, Batch
from pipeline.channels import NOBODY
from pipeline.clock import HOUR, MINUTE, SECOND
from pipeline.expressions import ExpressionError
from pipeline.facts import Parts
from pipeline.options import Duration
from pipeline.signals import Alert
from pipeline.testing.context import FakeContext, MemoryState
from processors.alert_mutes import MuteWindow
from processors.alert_routes import RouteOption
from processors.dedup import SPEC, Dedup
from processors.dedup_options import DedupConfig, RateOption
from tests.processors.test_dedup import TWO, failure, plain, success

pytestmark = pytest.mark.anyio

PARTS = Parts("asset_failure", ("glucose_entries",), chain=("TimeoutError",), message=("after <duration>",))


class Recorded:
    """A dedup whose records are kept."""

    def __init__(self, config: DedupConfig | None = None, state: MemoryState | None = None) -> None:
        self.config, self.state = config or plain(), state or MemoryState()
        self.told: list[Alert] = []
        self.records: list[Record] = []
        self.dedup: Dedup

    async def __aenter__(self) -> "Recorded":
        built = await SPEC.build(self.config, FakeContext(state=self.state, recorded=True)).__aenter__()
        assert isinstance(built, Dedup)
        self.dedup = built
        return self

    async def __aexit__(self, *error: object) -> None:
        """Nothing is open."""

    async def take(self, *items: Any) -> None:
        for item in items:
            while (due := self.dedup.due()) is not None and due < item.now_ns:
                self.told += [a for a in await self.dedup.on_time(due) if isinstance(a, Alert)]
            batch = await self.dedup.process(Batch((item,), WHOLE, item.now_ns))
            self.told += [a for a in batch.items if isinstance(a, Alert)]

    async def barrier(self, now_ns: int = TWO) -> list[Record]:
        given = list(await self.dedup.flush(now_ns))  # type: ignore[arg-type]  # records alone
        self.records += given
        self.state.checkpoint()
        return given

    def reasons(self) -> list[tuple[str, int, str]]:
        latest = {(r.key, r.number): r for r in self.records if isinstance(r, Decided)}
        return [(r.reason, r.times, r.detail) for _, r in sorted(latest.items())]

    def standing(self) -> Standing:
        return [r for r in self.records if isinstance(r, Standing)][-1]


def of(records: Iterable[Record], kind: type) -> list[Any]:
    return [record for record in records if isinstance(record, kind)]


async def test_each_failure_is_a_record_and_each_decision_has_its_reason() -> None:
    async with Recorded() as dedup:
        await dedup.take(*(failure(TWO + n * 5 * MINUTE) for n in range(14)))
        await dedup.barrier(TWO + 65 * MINUTE)
        assert [(r.number, r.decision, r.run_id) for r in of(dedup.records, Occurred)] == [
            (n + 1, "counted" if n else "first", f"run-{TWO + n * 5 * MINUTE}") for n in range(14)
        ]
        assert dedup.reasons() == [
            ("first", 1, "firing"),
            ("counted", 12, ""),
            ("window_over", 1, "digest"),
            ("counted", 1, ""),
        ]
        assert (dedup.standing().status, dedup.standing().alert.count) == ("firing", 14)
        first, digest = dedup.told
        routed = {r.notification: dict(r.channels) for r in of(dedup.records, Routed)}
        assert routed[notification_id(first)]["slack"] == "severity ERROR"
        assert (first.number, digest.number, digest.began_ns) == (1, 2, TWO)


async def test_between_two_barriers_the_last_word_is_told_once() -> None:
    async with Recorded() as dedup:
        await dedup.take(*(failure(TWO + n * SECOND) for n in range(500)))
        given = await dedup.barrier()
        assert len(of(given, Occurred)) == 500
        assert [(r.reason, r.times) for r in of(given, Decided)] == [("first", 1), ("counted", 499)]
        assert len(of(given, Standing)) == 1
        assert await dedup.barrier() == []
        await dedup.take(failure(TWO + 501 * SECOND))
        [counted] = of(await dedup.barrier(), Decided)
        assert (counted.number, counted.times) == (2, 500)


async def test_it_goes_on_counting_after_a_restart() -> None:
    async with Recorded() as dedup:
        await dedup.take(failure(TWO), failure(TWO + MINUTE))
        await dedup.barrier()
    async with Recorded(state=dedup.state.restart()) as again:
        await again.take(failure(TWO + 2 * MINUTE), success(TWO + 3 * MINUTE))
        given = await again.barrier(TWO + 4 * MINUTE)
    assert [r.number for r in of(given, Occurred)] == [3]
    decided = sorted((r.number, r.reason, r.times) for r in of(given, Decided))
    assert decided == [(2, "counted", 2), (3, "recovered", 1)]
    [standing] = of(given, Standing)
    assert (standing.status, standing.ended_ns, standing.alert.failing) == ("resolved", TWO + 3 * MINUTE, 0)
    assert standing.alert.now_ns == TWO + 3 * MINUTE  # and not when the barrier happened to be
    assert again.told[-1].number == 2


async def test_what_a_call_gathered_that_raised_is_forgotten() -> None:
    async with Recorded() as dedup:
        broken = msgspec.structs.replace(failure(TWO, "q"), error=None)
        tables = dedup.state.tables.values()
        for table in tables:
            table.begin()
        nonsense = Silence("s", TWO, "this is no condition (", TWO + HOUR)
        with pytest.raises(ExpressionError):
            await dedup.dedup.process(Batch((failure(TWO), nonsense), WHOLE, TWO))
        for table in tables:
            table.undo()
        assert await dedup.barrier() == []
        await dedup.take(failure(TWO), broken)
        assert len(of(await dedup.barrier(), Occurred)) == 2


async def test_nobody_keeps_records_so_nobody_makes_any() -> None:
    dedup = await SPEC.build(plain(), FakeContext()).__aenter__()
    assert isinstance(dedup, Dedup)
    await dedup.process(Batch((failure(TWO),), WHOLE, TWO))
    assert list(await dedup.flush(TWO)) == []


async def test_what_a_fingerprint_is_made_of_is_recorded_and_not_kept_in_state() -> None:
    async with Recorded() as dedup:
        finding = msgspec.structs.replace(failure(TWO), parts=PARTS)
        await dedup.take(finding)
        assert of(await dedup.barrier(), Made) == [Made("p", TWO, PARTS, "Connection timeout after 30s")]
        assert all(alert.parts is None for alert in dedup.told)
        assert not any(b"<duration>" in (row.value or b"") for row in dedup.state.stored.values())


async def test_a_silence_is_named_with_its_author() -> None:
    async with Recorded() as dedup:
        silence = Silence("s1", TWO, 'asset == "glucose_entries"', TWO + HOUR, by="anna")
        await dedup.take(silence, failure(TWO + MINUTE), failure(TWO + 2 * MINUTE))
        await dedup.barrier()
        assert dedup.reasons() == [("silenced", 1, "s1 by anna"), ("counted", 1, "silenced")]
        assert [r.decision for r in of(dedup.records, Occurred)] == ["first", "silenced"]
        standing = dedup.standing()
        assert (standing.status, standing.held, standing.held_until_ns) == ("held", "silenced", TWO + HOUR)
        await dedup.take(failure(TWO + 2 * HOUR))
        await dedup.barrier()
        assert dedup.reasons()[2:] == [("silenced_over", 1, "firing"), ("counted", 1, "")]


async def test_an_acknowledgement_is_named() -> None:
    async with Recorded() as dedup:
        await dedup.take(failure(TWO), Acknowledge("a1", TWO + MINUTE, "p#1", by="anna"))
        await dedup.barrier()
        assert dedup.reasons()[-1] == ("acknowledged", 1, "anna")
        assert dedup.standing().alert.acknowledged_by == "anna"


async def test_a_mute_window_is_named() -> None:
    night = MuteWindow(name="night", from_="00:00", until="06:00")
    async with Recorded(plain(mute_windows=(night,), mute=("night",))) as dedup:
        await dedup.take(failure(TWO))
        await dedup.barrier()
        assert dedup.reasons() == [("muted", 1, "night")]


async def test_an_upstream_is_named() -> None:
    async with Recorded() as dedup:
        breach = msgspec.structs.replace(
            failure(TWO + MINUTE, "b", asset="mart"), kind="sla_breach", upstream=("glucose_entries",)
        )
        await dedup.take(failure(TWO), breach)
        await dedup.barrier()
        held = [r for r in of(dedup.records, Decided) if r.key == "b#1"]
        assert [(r.reason, r.detail) for r in held] == [("inhibited", "glucose_entries p")]


async def test_what_overflows_is_named() -> None:
    config = plain(rate_limit=RateOption(messages=2, per=Duration("1m")))
    async with Recorded(config) as dedup:
        await dedup.take(*(failure(TWO + n, f"p{n}", asset=f"a{n}") for n in range(4)))
        await dedup.barrier()
        limited = {r.key for r in of(dedup.records, Decided) if r.reason == "rate_limited"}
        assert limited == {a.key for a in dedup.told if a.channels == (NOBODY,)} == {"p2#1", "p3#1"}


async def test_flapping_is_named() -> None:
    async with Recorded() as dedup:
        for n in range(3):
            await dedup.take(failure(TWO + 2 * n * MINUTE), success(TWO + (2 * n + 1) * MINUTE))
        await dedup.barrier()
        assert dedup.reasons()[-1][:2] == ("flapping", 1)
        assert dedup.standing().flapping


async def test_a_group_has_the_failures_of_all() -> None:
    config = plain(group_wait=Duration("5s"))
    async with Recorded(config) as dedup:
        two = [msgspec.structs.replace(failure(TWO + n, f"p{n}", asset=f"a{n}"), run_id="r1") for n in range(2)]
        await dedup.take(*two)
        await dedup.barrier()
        found = of(dedup.records, Occurred)
        assert [(r.key, r.number, r.fingerprint, r.decision) for r in found] == [
            ("p0#1", 1, "p0", "first"),
            ("p0#1", 2, "p1", "grouped"),
        ]


async def test_why_each_channel_is_told() -> None:
    config = plain(
        routes=(
            RouteOption(when='asset == "a"', channels=("slack/finance",), continue_=True),
            RouteOption(channels=("email",)),
        ),
        owners={"team:sales": ("slack/sales",)},
    )
    by_owner = plain(owners={"team:sales": ("slack/sales",)})
    cases = [
        (config, {}, {"slack/finance": 'route 1 (asset == "a")', "email": "route 2"}),
        (by_owner, {"owners": ("team:sales",)}, {"slack/sales": "owner team:sales"}),
        (
            by_owner,
            {"channels": ("pagerduty",), "said_by": {"channels": "metadata alert_channels of the asset (enrichment)"}},
            {"pagerduty": "metadata alert_channels of the asset (enrichment)"},
        ),
    ]
    for options, changes, why in cases:
        async with Recorded(options) as dedup:
            await dedup.take(msgspec.structs.replace(failure(TWO, asset="a"), **changes))
            [routed] = of(await dedup.barrier(), Routed)
            assert dict(routed.channels) == why


async def test_a_severity_by_a_route_says_so() -> None:
    async with Recorded(plain(routes=(RouteOption(severity="CRITICAL"),))) as dedup:
        await dedup.take(failure(TWO))
        await dedup.barrier()
        alert = dedup.standing().alert
        assert (alert.severity, alert.said_by) == ("CRITICAL", {"severity": "route 1 of dedup"})


async def test_an_error_less_finding_is_recorded_by_its_summary() -> None:
    async with Recorded() as dedup:
        await dedup.take(msgspec.structs.replace(failure(TWO), error=None, summary="3 of 10 rows"))
        [found] = of(await dedup.barrier(), Occurred)
        assert (found.message, found.error_type) == ("3 of 10 rows", "")
