"""What was promised of assets, and when it is not kept: found on domain time, from state alone."""

import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connectors.freshness import SPEC, FreshnessConfig
from connectors.sla import SlaOption
from pipeline.clock import DAY, HOUR, MINUTE, SECOND
from pipeline.events import Event
from pipeline.facts import Metadata
from pipeline.lineage import AssetFacts, Catalog, Freshness
from pipeline.names_metrics import GAUGES
from pipeline.options import Duration
from pipeline.outcomes import (
    AssetFailed,
    AssetGone,
    AssetMaterialized,
    AssetObserved,
    AssetPlanned,
    FreshnessState,
    Outcome,
)
from pipeline.signals import Alert, HistogramValue, Links, Sample
from pipeline.testing.broken import Broken
from pipeline.testing.rig import Rig, rig
from processors.dedup import SPEC as DEDUP

pytestmark = pytest.mark.anyio

START = 1_705_284_000 * SECOND  # 2024-01-15 02:00 UTC
TWO_HOURS = {"orders": SlaOption(freshness=Duration("2h"))}


def at(hours: float) -> int:
    return START + round(hours * HOUR)


def event(hours: float, *outcomes: Outcome, catalog: Catalog | None = None) -> Event:
    now = at(hours)
    return Event(b"{}", "LOG", "r1", now, 20, "job", "", "", now_ns=now, outcomes=outcomes, catalog=catalog)


def made(hours: float, asset: str = "orders", partition: str | None = None, execution: bool = True) -> Event:
    outcome = AssetMaterialized("r1", "job", "s", 1, asset, partition, at(hours), None, execution, {}, {})
    return event(hours, outcome)


def failed(hours: float, asset: str = "orders", interrupted: bool = False) -> Event:
    return event(hours, AssetFailed("r1", "job", "s", 1, asset, None, at(hours), None, None, interrupted))


def graph(version: int, *assets: AssetFacts) -> Catalog:
    return Catalog({facts.key: facts for facts in assets}, version=version)


def with_policy(fail_h: float = 2, warn_h: float | None = None, key: str = "orders") -> AssetFacts:
    policy = Freshness(fail_s=round(fail_h * 3600), warn_s=None if warn_h is None else round(warn_h * 3600))
    return AssetFacts(key, owners=("team:data",), freshness=policy)


class Life:
    """The connector, restarted from its tables at will; the findings so far by hour."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    async def see(self, *events: Event) -> None:
        for each in events:
            await self.until((each.now_ns - START) / HOUR)
            await self.rig.push([each])

    async def until(self, hours: float) -> None:
        """Domain time goes on to `hours` (and past what is due then)."""
        if at(hours) > self.rig.now_ns:
            await self.rig.wait(at(hours) - self.rig.now_ns)

    def findings(self) -> list[Alert]:
        return [item for item in self.rig.given if isinstance(item, Alert)]

    def told(self) -> list[tuple[float, str, str]]:
        return [(round((a.now_ns - START) / HOUR, 2), a.state, a.severity) for a in self.findings()]


@asynccontextmanager
async def life(config: FreshnessConfig, restart_after: Iterable[Event] = ()) -> AsyncIterator[Life]:
    """A life; with events to see first, then a crash after the checkpoint."""
    async with rig(SPEC, config) as first:
        if not restart_after:
            yield Life(first)
            return
        await Life(first).see(*restart_after)
        await first.barrier()
        async with rig(SPEC, config, first.memory.restart()) as second:
            second.now_ns = first.now_ns
            yield Life(second)


def config(sla: dict[str, SlaOption] = TWO_HOURS, **options: object) -> FreshnessConfig:
    return FreshnessConfig(sla=sla, **options)  # type: ignore[arg-type]


# --- freshness -------------------------------------------------------------------------------------------------------


async def test_a_breach_is_told_at_its_target_worse_at_twice_and_over_with_the_next_update() -> None:
    async with life(config()) as it:
        await it.see(made(0), made(1))
        await it.see(made(6))
        assert it.told() == [(3, "failing", "WARNING"), (5, "failing", "CRITICAL"), (6, "recovered", "INFO")]
        first, second, over = it.findings()
        assert {first.fingerprint, second.fingerprint, over.fingerprint} == {first.fingerprint}
        assert first.fingerprint.startswith("v1:")
        assert (first.kind, first.title, first.asset) == ("sla_breach", "Freshness SLA Breached", "orders")
        assert first.summary == "Last updated 2 h ago (2024-01-15 03:00 UTC); its SLA allows 2 h."


async def test_it_is_found_after_a_restart_in_the_middle() -> None:
    async with life(config(), [made(0), made(1)]) as it:
        await it.until(3.01)
        assert it.told() == [(3, "failing", "WARNING")]
    async with life(config(), [made(0), event(3)]) as it:  # it was told before the crash
        await it.see(made(3.5))
        assert it.told() == [(3.5, "recovered", "INFO")]


async def test_an_asset_that_is_never_made_is_late_since_it_is_watched() -> None:
    async with life(config()) as it:
        await it.see(event(0))
        await it.until(2.1)
        (alert,) = it.findings()
        assert alert.summary == "No update seen since 2024-01-15 02:00 UTC (2 h); its SLA allows 2 h."


async def test_an_asset_that_a_pattern_names_is_watched_once_it_is_planned() -> None:
    async with life(config({"raw/*": SlaOption(freshness=Duration("2h"))})) as it:
        await it.see(event(0, AssetPlanned("r1", "job", "s", "raw/a", None, at(0))))
        await it.until(2.1)
        assert [a.asset for a in it.findings()] == ["raw/a"]


async def test_a_policy_of_dagsters_is_kept_watch_over_with_the_facts_of_its_asset() -> None:
    catalog = graph(1, with_policy(2, 1), AssetFacts("quiet"))
    async with life(config({}), [event(0, catalog=catalog), made(0.5)]) as it:
        await it.until(6)
        assert it.told() == [(1.5, "failing", "WARNING"), (2.5, "failing", "ERROR"), (4.5, "failing", "CRITICAL")]
        assert it.findings()[0].owners == ("team:data",), "known from state, no graph was seen since the restart"
        assert it.findings()[1].summary.endswith("its freshness policy allows 2 h.")


async def test_policies_can_be_left_alone() -> None:
    async with life(config({}, policies=False)) as it:
        await it.see(event(0, catalog=graph(1, with_policy())), made(0))
        await it.until(9)
        assert it.told() == []


async def test_a_policy_that_is_taken_away_ends_and_one_whose_asset_left_the_graph_a_while_later() -> None:
    before = [event(0, catalog=graph(1, with_policy(), with_policy(key="b"))), made(0), made(0, "b"), event(2.5)]
    async with life(config({}), before) as it:
        without = AssetFacts("orders")
        await it.see(event(3, catalog=graph(2, without)))
        await it.until(9)
        assert [(a.asset, *told) for a, told in zip(it.findings(), it.told(), strict=True)] == [
            ("orders", 3.02, "recovered", "INFO"),
            ("b", 4, "recovered", "INFO"),
        ]


async def test_an_asset_that_is_back_in_the_graph_keeps_its_policy() -> None:
    before = [event(0, catalog=graph(1, with_policy(), AssetFacts("x"))), made(1)]
    async with life(config({}), before) as it:
        await it.see(event(1.1, catalog=graph(2, AssetFacts("x"))))
        await it.see(event(1.5, catalog=graph(3, with_policy(), AssetFacts("x"))))
        await it.until(3.1)
        assert it.told() == [(3, "failing", "WARNING")]


async def test_a_policy_that_cannot_be_read_stops_nothing() -> None:
    odd = AssetFacts("odd", freshness=Freshness(deadline_cron="at nine"))
    async with life(config({})) as it:
        await it.see(event(0, catalog=graph(1, odd, with_policy())), made(0))
        await it.until(2.1)
        assert [a.asset for a in it.findings()] == ["orders"]
        assert not it.rig.dead


async def test_dagsters_own_word_and_ours_are_one_breach() -> None:
    said = event(2.005, FreshnessState("orders", "FAIL", "PASS", at(2.005)))
    async with life(config({}), [event(0, catalog=graph(1, with_policy())), made(0)]) as it:
        await it.see(said, made(3), event(3.1, FreshnessState("orders", "PASS", "FAIL", at(3.1))))
        assert it.told() == [(2, "failing", "WARNING"), (3, "recovered", "INFO")]


async def test_dagsters_word_is_enough_without_a_graph() -> None:
    async with life(config({})) as it:
        await it.see(made(0), event(2, FreshnessState("orders", "FAIL", "PASS", at(2))))
        assert it.told() == [(2, "failing", "WARNING")]
        assert it.findings()[0].summary == "Last updated 2 h ago (2024-01-15 02:00 UTC). Dagster calls it late."


async def test_a_missed_deadline_is_a_breach() -> None:
    nightly = AssetFacts("orders", freshness=Freshness(deadline_cron="0 9 * * *", lower_bound_s=3600, timezone="UTC"))
    async with life(config({}), [event(0, catalog=graph(1, nightly)), made(5)]) as it:  # 07:00
        await it.until(8)
        assert it.told() == [(7, "failing", "WARNING")]
        assert "the deadline `0 9 * * *` (UTC) was missed" in it.findings()[0].summary


async def test_each_partition_can_have_to_be_fresh_by_itself() -> None:
    each = {"orders": SlaOption(freshness=Duration("2h"), partitions="each")}
    before = [made(0, partition="de"), made(0.5, partition="fr"), made(1, partition="de")]
    async with life(config(each), before) as it:
        await it.until(3.2)
        await it.see(made(3.5, partition="fr"))
        told = [(a.partition, *told) for a, told in zip(it.findings(), it.told(), strict=True)]
        assert told == [
            ("fr", 2.5, "failing", "WARNING"),
            ("de", 3, "failing", "WARNING"),
            ("fr", 3.5, "recovered", "INFO"),
        ]


async def test_otherwise_an_update_of_any_partition_will_do() -> None:
    async with life(config(critical_after=0)) as it:
        await it.see(made(0, partition="de"), made(1, partition="fr"), made(2.9, partition="it"))
        await it.until(4.8)
        assert it.told() == []


async def test_a_wiped_asset_ends_its_sla_until_it_is_made_again() -> None:
    gone = event(3, AssetGone("orders", (), at(3)))
    async with life(config(), [made(0), event(2.5), gone]) as it:
        await it.until(30)
        assert it.told() == []
        await it.see(made(30))
        await it.until(33)
        assert it.told() == [(32, "failing", "WARNING")]
    async with life(config()) as it:
        await it.see(made(0), event(2.5), gone)
        assert it.told() == [(2, "failing", "WARNING"), (3, "recovered", "INFO")]


async def test_a_wiped_partition_ends_its_own() -> None:
    each = {"orders": SlaOption(freshness=Duration("2h"), partitions="each")}
    async with life(config(each), [made(0, partition="de"), made(0, partition="fr")]) as it:
        await it.see(event(1, AssetGone("orders", ("de",), at(1))))
        await it.until(3)
        assert [a.partition for a in it.findings()] == ["fr"]


async def test_without_its_partitions_an_asset_speaks_for_itself_again() -> None:
    each = {"orders": SlaOption(freshness=Duration("2h"), partitions="each")}
    async with rig(SPEC, config(each)) as first:
        it = Life(first)
        await it.see(
            made(0, partition="de"), made(0, partition="fr"), event(1, AssetGone("orders", ("de", "fr"), at(1)))
        )
        await first.barrier()
        async with rig(SPEC, config(each), first.memory.restart()) as second:
            second.now_ns = first.now_ns
            other = Life(second)
            for each_life in (it, other):
                await each_life.rig.barrier()
                await each_life.until(3)
                assert [(a.asset, a.partition) for a in each_life.findings()] == [("orders", None)]


async def test_an_external_asset_is_updated_when_its_observation_says_so() -> None:
    metadata: Metadata = {"dagster/last_updated_timestamp": at(1) / SECOND}
    seen = event(1.5, AssetObserved("", "", "orders", None, at(1.5), metadata, {}))
    async with life(config(), [made(0), seen]) as it:
        await it.until(3.1)
        assert it.told() == [(3, "failing", "WARNING")]


async def test_a_changed_target_holds_after_a_restart() -> None:
    async with rig(SPEC, config()) as first:
        await Life(first).see(made(0), event(2.5))
        await first.barrier()
        longer = config({"orders": SlaOption(freshness=Duration("9h"))})
        async with rig(SPEC, longer, first.memory.restart()) as second:
            second.now_ns = first.now_ns
            await second.barrier()
            it = Life(second)
            await it.until(10)
            assert it.told() == [(2.52, "recovered", "INFO"), (9, "failing", "WARNING")]


async def test_what_lasts_is_found_again_so_that_it_escalates() -> None:
    async with life(config(critical_after=0, again=Duration("6h"))) as it:
        await it.see(made(0))
        await it.until(15)
        assert [hours for hours, _, _ in it.told()] == [2, 8, 14]


async def test_assets_beyond_the_bound_are_not_watched() -> None:
    async with life(config({"*": SlaOption(freshness=Duration("2h"))}, max_assets=1)) as it:
        await it.see(made(0, "a"), made(0, "b"))
        await it.until(2.1)
        assert [a.asset for a in it.findings()] == ["a"]


async def test_a_dashboards_link_names_the_asset() -> None:
    async with life(config(dashboard_url="https://d.example/assets/{asset}")) as it:
        await it.see(made(0))
        await it.until(2.1)
        assert it.findings()[0].links == Links(dashboard="https://d.example/assets/orders")


async def test_with_dedup_behind_it_a_breach_is_one_problem_from_firing_to_resolved() -> None:
    async with life(config()) as it, rig(DEDUP, DEDUP.config()) as dedup:
        await it.see(made(0), made(3))
        await dedup.push(it.findings())
        await dedup.wait(HOUR)
        states = [a.state for a in dedup.given if isinstance(a, Alert)]
        assert states[0] == "firing"
        assert states[-1] == "resolved"


# --- availability ----------------------------------------------------------------------------------------------------

AVAILABLE = {"orders": SlaOption(availability="99.9%")}


def runs(log: str, first_h: float = 0.0) -> list[Event]:
    """An execution every five minutes."""
    times = [first_h + place / 12 for place in range(len(log))]
    return [failed(hours) if outcome == "x" else made(hours) for hours, outcome in zip(times, log, strict=True)]


async def test_availability_is_breached_when_the_budget_burns_and_well_when_it_no_longer_does() -> None:
    async with life(config(AVAILABLE), runs("." * 288)) as it:
        await it.see(*runs("xx", 24), *runs("." * 96, 24 + 2 / 12))
        first, *_, over = it.findings()
        assert (first.kind, first.state, first.severity) == ("availability_breach", "failing", "CRITICAL")
        assert first.title == "Availability SLA Breached"
        said = "2 of 290 executions in the last 30 d failed: availability 99.31% against 99.9%"
        assert first.summary.startswith(said)
        assert (over.kind, over.state, over.fingerprint) == ("availability_breach", "recovered", first.fingerprint)


async def test_a_breach_of_availability_ends_by_the_passing_of_time_too() -> None:
    async with life(config(AVAILABLE), [*runs("." * 288), *runs("xx.", 24)]) as it:
        await it.until(24 + 8)
        assert [a.state for a in it.findings()] == ["recovered"]


async def test_what_somebody_stopped_is_no_failure() -> None:
    async with life(config(AVAILABLE)) as it:
        await it.see(made(0), *(failed(1 + n / 10, interrupted=True) for n in range(5)))
        assert it.told() == []


async def test_a_wiped_assets_budget_begins_anew() -> None:
    before = [*runs("." * 20), *runs("xx", 2), event(2.5, AssetGone("orders", (), at(2.5)))]
    async with life(config(AVAILABLE), before) as it:
        await it.see(failed(3))
        assert it.told() == []


# --- figures ---------------------------------------------------------------------------------------------------------


def figures(it: Life) -> dict[tuple[str, str], float | None]:
    """The last value of each series, by name and asset."""
    return {
        (item.name, dict(item.labels)["asset_name"]): item.value
        for item in it.rig.given
        if isinstance(item, Sample) and not isinstance(item.value, HistogramValue)
    }


async def test_the_figures_of_an_sla() -> None:
    sla = {"orders": SlaOption(freshness=Duration("2h"), availability="99%")}
    async with life(config(sla), [made(0), failed(0.5), made(1), made(1, "other")]) as it:
        await it.until(3.5)
        await it.rig.barrier()
        assert figures(it) == {
            ("asset_freshness_seconds", "orders"): 2.5 * 3600,
            ("asset_freshness_seconds", "other"): 2.5 * 3600,
            ("asset_sla_freshness_target_seconds", "orders"): 7200.0,
            ("asset_sla_freshness_breached", "orders"): 1.0,
            ("asset_sla_availability_target_ratio", "orders"): 0.99,
            ("asset_sla_availability_ratio", "orders"): pytest.approx(2 / 3),
            ("asset_sla_error_budget_remaining_ratio", "orders"): pytest.approx(1 - 100 / 3),
        }


async def test_ages_are_given_now_and_then_and_no_more_often() -> None:
    async with life(config({}, every=Duration("15s")), [made(0)]) as it:
        await it.rig.barrier()
        it.rig.taken()
        for _ in range(60):
            it.rig.now_ns += SECOND
            await it.rig.barrier()
        ages = [item.value for item in it.rig.taken()]
        assert len(ages) == 4
        assert {b - a for a, b in itertools.pairwise(ages)} == {15.0}


async def test_the_series_of_a_wiped_asset_end() -> None:
    async with life(config(), [made(0)]) as it:
        await it.rig.barrier()
        await it.see(event(1, AssetGone("orders", (), at(1))))
        it.rig.taken()
        await it.rig.barrier()
        assert figures(it) == {
            ("asset_freshness_seconds", "orders"): None,
            ("asset_sla_freshness_target_seconds", "orders"): None,
            ("asset_sla_freshness_breached", "orders"): None,
        }


async def test_an_asset_that_only_a_raising_call_has_named_has_no_figures() -> None:
    broken = AssetGone("other", Broken(), at(0))  # type: ignore[arg-type]
    named = event(0, *made(0, "other").outcomes, broken)
    async with life(config({"o*": SlaOption(availability="99%")})) as it:
        await it.see(made(0), named)
        await it.rig.barrier()
        assert [item is named for item in it.rig.dead] == [True]
        assert {asset for _, asset in figures(it)} == {"orders"}


async def test_series_carry_the_deployment_and_their_help() -> None:
    async with life(config(deployment="prod"), [made(0)]) as it:
        await it.rig.barrier()
        (sample, *_) = [item for item in it.rig.given if isinstance(item, Sample)]
        assert sample.labels == (("asset_name", "orders"), ("deployment", "prod"))
        assert sample.help == GAUGES[sample.name].help


async def test_a_quiet_asset_costs_no_row_of_a_checkpoint() -> None:
    async with life(config(), [made(0)]) as it:
        before = it.rig.state()
        await it.until(1.9)
        await it.rig.barrier()
        assert it.rig.state() == before


async def test_days_pass_without_anything_to_say() -> None:
    async with life(config({"*": SlaOption(freshness=Duration("7h"))})) as it:
        await it.see(*(made(hours) for hours in range(0, 24 * 7, 6)))
        assert it.told() == []
        assert it.rig.now_ns - START < 7 * DAY + MINUTE


def test_the_page_about_metrics_names_every_gauge() -> None:
    page = Path("docs/metrics.md").read_text()
    for gauge in GAUGES.values():
        assert f"| `{gauge.name}{{{','.join(gauge.labels)}}}` | gauge | {gauge.help} |".replace("{}", "") in page
