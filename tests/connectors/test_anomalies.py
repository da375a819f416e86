"""What is slow, odd or stuck, measured by its own past."""

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.anomalies import SPEC, AnomaliesConfig, SlowOption, WatchOption
from connectors.anomaly_runs import StuckOption
from connectors.baseline import Baseline, BaselineOption, learned, usual
from pipeline.clock import HOUR, MINUTE, SECOND
from pipeline.events import Event, LogFields
from pipeline.facts import Metadata
from pipeline.lineage import AssetFacts, Catalog
from pipeline.options import Duration
from pipeline.outcomes import AssetGone, AssetMaterialized, AssetObserved, Outcome, RunEnded, RunStatus
from pipeline.signals import Alert
from pipeline.testing.rig import Rig, rig

pytestmark = pytest.mark.anyio

START = 1_705_284_000 * SECOND


def at(minutes: float) -> int:
    return START + round(minutes * MINUTE)


def event(
    minutes: float, *outcomes: Outcome, type: str = "LOG", run: str = "r1", job: str = "job", **more: Any
) -> Event:
    now = at(minutes)
    return Event(b"{}", type, run, now, 20, job, "", "", now_ns=now, outcomes=outcomes, **more)


def made(minutes: float, ms: float = 500, rows: int | None = None, run: str = "r1", **more: Any) -> Event:
    metadata: Metadata = {} if rows is None else {"dagster/row_count": rows}
    partition, asset = more.pop("partition", None), more.pop("asset", "orders")
    took = round(ms * 1e6)
    outcome = AssetMaterialized(run, "job", "s", 1, asset, partition, at(minutes), took, True, metadata, {})
    return event(minutes, outcome, run=run, **more)


def ended(
    minutes: float, status: RunStatus = "success", took_s: float = 60, run: str = "r1", job: str = "job"
) -> Event:
    outcome = RunEnded(run, job, status, at(minutes), at(minutes) - round(took_s * SECOND), raised=True)
    return event(minutes, outcome, type="PIPELINE_SUCCESS", run=run, job=job)


def phase(minutes: float, type: str, run: str = "r1", job: str = "job") -> Event:
    return event(minutes, type=f"PIPELINE_{type}", run=run, job=job)


class Life:
    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    async def see(self, *events: Event) -> None:
        for each in events:
            await self.until((each.now_ns - START) / MINUTE)
            await self.rig.push([each])

    async def until(self, minutes: float) -> None:
        if at(minutes) > self.rig.now_ns:
            await self.rig.wait(at(minutes) - self.rig.now_ns)

    def told(self) -> list[tuple[float, str, str, str]]:
        return [
            (round((a.now_ns - START) / MINUTE, 2), a.state, a.kind, a.severity)
            for a in self.rig.given
            if isinstance(a, Alert)
        ]

    def said(self) -> list[str]:
        return [a.summary for a in self.rig.given if isinstance(a, Alert) and a.state == "failing"]


@asynccontextmanager
async def life(config: AnomaliesConfig | None = None, restart_after: Iterable[Event] = ()) -> AsyncIterator[Life]:
    """A life; with events to see first, then a crash after the checkpoint."""
    config = config or AnomaliesConfig()
    async with rig(SPEC, config) as first:
        if not restart_after:
            yield Life(first)
            return
        await Life(first).see(*restart_after)
        await first.barrier()
        async with rig(SPEC, config, first.memory.restart()) as second:
            second.now_ns = first.now_ns
            yield Life(second)


USUAL = [made(minutes, 500 + (minutes % 3) * 20, rows=1000 + minutes) for minutes in range(10)]

# --- baselines -------------------------------------------------------------------------------------------------------

OPTION = BaselineOption()


def test_nothing_is_usual_while_too_little_is_known() -> None:
    assert usual([1.0] * 4, OPTION) is None
    assert usual([1.0] * 5, OPTION) is not None


def test_one_outlier_moves_the_range_hardly_at_all() -> None:
    without = usual([100, 101, 99, 100, 102, 98, 100], OPTION)
    with_one = usual([100, 101, 99, 100, 102, 98, 100_000], OPTION)
    assert without is not None
    assert with_one is not None
    assert abs(with_one.high - without.high) < 5
    assert with_one.odd(100_000)
    assert not with_one.odd(104)


def test_what_never_varies_has_the_tolerance() -> None:
    found = usual([1000] * 20, OPTION)
    assert found is not None
    assert (found.low, found.high) == (900, 1100)


def test_the_sides_of_the_range() -> None:
    found = usual([100] * 5, OPTION)
    assert found is not None
    assert (found.odd(50, "above"), found.odd(50, "below"), found.odd(500, "below")) == (False, True, False)


@given(st.lists(st.floats(0, 1e9), min_size=5, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_the_past_makes_no_difference(values: list[float], random: Any) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)
    assert usual(values, OPTION) == usual(shuffled, OPTION)


def test_no_more_than_the_history_is_remembered() -> None:
    row = Baseline()
    for value in range(50):
        row = learned(row, value, False, OPTION)
    assert row.values == tuple(range(30, 50))


@pytest.mark.parametrize("options", [{"at_least": 2}, {"history": 4}, {"deviations": 0}, {"tolerance": -1}])
def test_baselines_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        BaselineOption(**options)


# --- slow ------------------------------------------------------------------------------------------------------------


async def test_a_success_much_slower_than_usual_is_told_with_both_figures_and_over_with_the_next() -> None:
    async with life(None, USUAL) as it:
        await it.see(made(20, 1240), made(21, 510))
        assert it.told() == [(20, "failing", "slow_run", "WARNING"), (21, "recovered", "slow_run", "INFO")]
        assert it.said() == ["1.24 s against 520 ms, the median of the last 10."]


async def test_the_recovery_is_told_after_a_restart() -> None:
    async with life(None, [*USUAL, made(20, 1240)]) as it:
        await it.see(made(21, 510))
        assert it.told() == [(21, "recovered", "slow_run", "INFO")]


async def test_what_stays_slow_becomes_usual() -> None:
    async with life() as it:
        await it.see(*USUAL, *(made(20 + n, 5000) for n in range(30)))
        assert it.told()[-1][1] == "recovered"
        assert it.told()[-1][0] < 45


async def test_a_little_slower_and_short_things_are_not_slow() -> None:
    async with life(None, [made(n, 10) for n in range(10)]) as it:
        await it.see(made(20, 90))
        assert it.told() == []
    async with life(None, USUAL) as it:
        await it.see(made(20, 900))
        assert it.told() == []


async def test_slow_can_be_switched_off() -> None:
    async with life(AnomaliesConfig(slow=SlowOption(enabled=False)), USUAL) as it:
        await it.see(made(20, 99_000), ended(21, took_s=9999))
        assert it.told() == []


async def test_owners_and_partition_are_named() -> None:
    catalog = Catalog({"orders": AssetFacts("orders", owners=("team:data",))})
    async with life(None, USUAL) as it:
        await it.see(made(20, 5000, partition="2024-01-15", catalog=catalog))
        assert it.rig.given[0].owners == ("team:data",)
        assert it.said() == ["5 s against 520 ms, the median of the last 10 (partition 2024-01-15)."]


RUNS = [each for n in range(6) for each in (phase(n * 10, "START", f"a{n}"), ended(n * 10 + 1, run=f"a{n}"))]


async def test_a_run_much_slower_than_its_job_is_told_by_its_job() -> None:
    async with life(None, RUNS) as it:
        await it.see(phase(100, "START", "slow"), ended(105, took_s=300, run="slow"), ended(120, run="next"))
        assert it.told() == [(105, "failing", "slow_run", "WARNING"), (120, "recovered", "slow_run", "INFO")]
        assert (it.rig.given[0].job, it.rig.given[0].asset) == ("job", "")


async def test_a_run_whose_asset_was_slow_is_told_once_as_the_asset() -> None:
    async with life(None, [*USUAL, *RUNS]) as it:
        await it.see(phase(100, "START", "s"), made(101, 99_000, run="s"), ended(105, took_s=300, run="s"))
        assert [(kind, a.asset) for (_, _, kind, _), a in zip(it.told(), it.rig.given, strict=True)] == [
            ("slow_run", "orders")
        ]


async def test_jobs_that_dagster_makes_for_a_selection_have_no_usual_duration() -> None:
    async with life() as it:
        await it.see(*(ended(n, run=f"r{n}", job="__ASSET_JOB") for n in range(10)))
        await it.see(ended(100, took_s=9999, run="x", job="__ASSET_JOB"))
        assert it.told() == []


# --- rows ------------------------------------------------------------------------------------------------------------


async def test_a_row_count_out_of_its_range_is_told_with_the_range() -> None:
    async with life(None, USUAL) as it:
        await it.see(made(20, rows=17), made(21, rows=1010))
        assert it.told() == [
            (20, "failing", "row_count_anomaly", "WARNING"),
            (21, "recovered", "row_count_anomaly", "INFO"),
        ]
        said = "17 rows against 1,004 rows, the median of the last 10. Usual is 904 rows to 1,105 rows."
        assert it.said() == [said]


async def test_a_table_that_grows_steadily_is_not_odd() -> None:
    async with life() as it:
        await it.see(*(made(n, rows=10_000 + 300 * n) for n in range(100)))
        assert it.told() == []


async def test_what_is_no_number_is_no_row_count() -> None:
    odd: list[Any] = [True, "many", float("nan"), 10**30, None]
    async with life(None, USUAL) as it:
        for n, value in enumerate(odd):
            outcome = AssetMaterialized(
                "r", "j", "s", 1, "orders", None, 0, None, True, {"dagster/row_count": value}, {}
            )
            await it.see(event(20 + n, outcome))
        assert it.told() == []
        assert not it.rig.dead


async def test_a_wiped_asset_has_no_past() -> None:
    async with life(None, [*USUAL, made(20, rows=17)]) as it:
        await it.see(event(21, AssetGone("orders", (), at(21))), made(22, 99_000, rows=9))
        assert it.told() == [(21, "recovered", "row_count_anomaly", "INFO")]


# --- other figures ---------------------------------------------------------------------------------------------------


def logged(minutes: float, ms: float, assets: Sequence[str] = ()) -> Event:
    return event(minutes, detail=LogFields({"response_time_ms": ms}), assets=tuple(assets))


WATCHED = AnomaliesConfig(watch=(WatchOption(field="response_time_ms", unit="ms"),))


async def test_a_watched_field_of_log_records_is_told_softly() -> None:
    async with life(WATCHED, [logged(n, 150) for n in range(10)]) as it:
        await it.see(logged(20, 180), logged(21, 151))
        assert it.told() == [(20, "failing", "metric_anomaly", "INFO"), (21, "recovered", "metric_anomaly", "INFO")]
        assert it.said() == ["180 ms against 150 ms, the median of the last 10."]


async def test_a_watched_field_of_observations_is_the_assets() -> None:
    def seen(minutes: float, ms: int) -> Event:
        return event(minutes, AssetObserved("", "", "api", None, at(minutes), {"response_time_ms": ms}, {}))

    only = AnomaliesConfig(watch=(WatchOption(field="response_time_ms", asset="api*"),))
    async with life(only, [seen(n, 150) for n in range(10)]) as it:
        await it.see(logged(19, 9999), seen(20, 900))
        assert [a.asset for a in it.rig.given] == ["api"]


# --- runs that do not get on -----------------------------------------------------------------------------------------


async def test_a_run_that_never_leaves_the_queue_is_told_and_over_when_it_does() -> None:
    async with life(None, [phase(0, "ENQUEUED")]) as it:
        await it.see(phase(45, "STARTING"))
        assert it.told() == [(30, "failing", "run_stuck", "WARNING"), (45, "recovered", "run_stuck", "INFO")]
        assert it.said() == ["It is in the queue for 30 min (since 2024-01-15 02:00 UTC)."]


async def test_a_run_whose_worker_never_comes_is_told() -> None:
    async with life(None, [phase(0, "ENQUEUED"), phase(1, "STARTING")]) as it:
        await it.until(20)
        assert it.told() == [(11, "failing", "run_stuck", "ERROR")]
        assert it.rig.given[0].title == "Run Does Not Start"


async def test_a_run_that_never_ends_is_told_by_the_limit() -> None:
    async with life(None, [phase(0, "START")]) as it:
        await it.until(25 * 60)
        assert it.told() == [(24 * 60, "failing", "run_stuck", "ERROR")]
        await it.see(ended(26 * 60, took_s=26 * 3600))
        assert it.told()[-1] == (26 * 60, "recovered", "run_stuck", "INFO")


async def test_a_run_much_longer_than_its_jobs_usual_is_told_long_before_the_limit_and_not_as_slow_too() -> None:
    async with life(None, RUNS) as it:
        await it.see(phase(100, "START", "long"), ended(130, took_s=1800, run="long"))
        assert it.told() == [(111, "failing", "run_stuck", "ERROR"), (130, "recovered", "run_stuck", "INFO")]
        assert it.said() == ["It is running for 11 min (since 2024-01-15 03:40 UTC); its job usually takes 1 min."]


async def test_a_run_that_gets_on_in_time_is_never_told() -> None:
    async with life() as it:
        await it.see(phase(0, "ENQUEUED"), phase(10, "STARTING"), phase(11, "START"), ended(20, "failure"))
        await it.until(48 * 60)
        assert it.told() == []
        assert it.rig.state()["runs"] == {}


async def test_two_stuck_runs_of_a_job_are_one_problem_and_over_with_the_last() -> None:
    async with life(None, [phase(0, "ENQUEUED", "a"), phase(1, "ENQUEUED", "b")]) as it:
        await it.see(phase(40, "STARTING", "a"), phase(41, "STARTING", "b"))
        assert [(minutes, state) for minutes, state, _, _ in it.told()] == [
            (30, "failing"),
            (31, "failing"),
            (41, "recovered"),
        ]
        assert len({a.fingerprint for a in it.rig.given}) == 1


async def test_a_run_of_which_nothing_more_is_heard_is_told_until_its_job_succeeds() -> None:
    never = AnomaliesConfig(stuck=StuckOption(running=Duration(0), factor=0))
    async with life(never, [phase(0, "START"), ended(24 * 60, "unfinished")]) as it:
        await it.see(ended(25 * 60, run="r2"))
        assert it.told() == [(25 * 60, "recovered", "run_stuck", "INFO")]
    async with life(never) as it:
        await it.see(phase(0, "START"), ended(24 * 60, "unfinished"))
        assert it.told() == [(24 * 60, "failing", "run_stuck", "ERROR")]
        assert "did not end" in it.said()[0]


async def test_events_out_of_order_do_not_take_a_run_back() -> None:
    async with life() as it:
        await it.see(phase(0, "START"), phase(1, "ENQUEUED"))
        await it.until(60)
        assert it.told() == []


async def test_runs_beyond_the_bound_are_not_watched() -> None:
    async with life(AnomaliesConfig(stuck=StuckOption(max_runs=1))) as it:
        await it.see(phase(0, "ENQUEUED", "a"), phase(0, "ENQUEUED", "b"))
        await it.until(HOUR / MINUTE)
        assert len(it.told()) == 1


async def test_baselines_beyond_the_bound_are_not_kept() -> None:
    async with life(AnomaliesConfig(max_baselines=1)) as it:
        await it.see(*(made(n, asset=f"a{n}") for n in range(5)))
        assert len(it.rig.state()["baselines"]) == 1
