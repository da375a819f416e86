"""What the metrics connector counts, when a series begins and ends, and that a crash changes no figure."""

import json
import math
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.metric_labels import label_value, labels_of
from connectors.metric_readings import PassRateLabels, number, pass_rate, schema_of
from connectors.metrics import SPEC, Metrics, MetricsConfig
from pipeline.batch import WHOLE, Batch
from pipeline.clock import DAY, HOUR, SECOND
from pipeline.events import Event
from pipeline.facts import Json, Metadata
from pipeline.lineage import AssetFacts, Catalog
from pipeline.names_metrics import METRICS
from pipeline.options import Duration
from pipeline.outcomes import (
    AssetFailed,
    AssetGone,
    AssetMaterialized,
    AssetObserved,
    AssetPlanned,
    AssetSkipped,
    CheckEvaluated,
    Outcome,
    RunEnded,
    RunPhase,
    RunStatus,
    StepEnded,
    StepStatus,
)
from pipeline.signals import HistogramValue, Sample
from pipeline.testing.context import FakeContext, MemoryState
from processors.run_ledger import SPEC as LEDGER
from processors.run_ledger import RunLedgerConfig
from receivers.dagster_wire import decode

pytestmark = pytest.mark.anyio

T0 = 1_700_000_000 * SECOND


def event(*outcomes: Outcome, now: int = T0, level: int = 20, catalog: Catalog | None = None) -> Event:
    return Event(
        b"{}", "LOG", "r1", now, level, "job", "step", "", now_ns=now, outcomes=tuple(outcomes), catalog=catalog
    )


def made(
    asset: str = "raw/orders",
    at: int = T0,
    metadata: Metadata | None = None,
    execution: bool = True,
    duration_ns: int | None = 2 * SECOND,
) -> AssetMaterialized:
    return AssetMaterialized("r1", "job", "step", 1, asset, None, at, duration_ns, execution, metadata or {}, {})


def failed(asset: str = "raw/orders", at: int = T0) -> AssetFailed:
    return AssetFailed("r1", "job", "step", 1, asset, None, at, 3 * SECOND, None)


def checked(
    passed: bool = True,
    at: int = T0,
    severity: str = "ERROR",
    rows: int | None = None,
    metadata: Metadata | None = None,
) -> CheckEvaluated:
    return CheckEvaluated(
        "r1", "job", "step", "raw/orders", "not_null", passed, severity, False, None, at, None,
        metadata or {}, rows,
    )  # fmt: skip


def ended(
    status: RunStatus, at: int = T0 + 60 * SECOND, starting: int | None = None, phase: RunPhase = "ended"
) -> RunEnded:
    return RunEnded("r1", "daily", status, at, T0, enqueued_ns=T0 - 9 * SECOND, starting_ns=starting, phase=phase)


class Bench:
    """A connector on state that outlives it, and what its flushes published."""

    def __init__(self, **options: object) -> None:
        self.config = msgspec.convert(options, MetricsConfig, dec_hook=lambda kind, value: kind(value))
        self.state = MemoryState("metrics")
        self.published: dict[tuple[str, tuple[str, ...]], float | HistogramValue] = {}

    async def open(self) -> "Bench":
        self._context = SPEC.build(self.config, FakeContext("metrics", state=self.state))
        self.metrics = cast("Metrics", await self._context.__aenter__())
        return self

    async def feed(self, *events: Event) -> None:
        for table in self.state.tables.values():
            table.begin()
        assert await self.metrics.process(Batch(events, WHOLE, events[-1].now_ns)) == ()

    async def flush(self, now: int = T0) -> list[Sample]:
        samples = list(await self.metrics.flush(now))
        for sample in samples:
            key = sample.name, tuple(value for _, value in sample.labels)
            if sample.value is None:
                self.published.pop(key, None)
            else:
                self.published[key] = sample.value
        self.state.checkpoint()
        return samples

    async def crash(self) -> None:
        self.state = self.state.restart()
        self.published.clear()
        await self.open()

    def value(self, name: str, *labels: str) -> float | HistogramValue | None:
        return self.published.get((name, labels))

    def names(self) -> set[str]:
        return {name for name, _ in self.published}


async def figures(*events: Event, **options: object) -> Bench:
    bench = await Bench(**options).open()
    await bench.feed(*events)
    await bench.flush()
    return bench


# --- what counts ---


async def test_a_materialization_counts_as_execution_and_success_with_its_duration() -> None:
    bench = await figures(event(made()))
    assert bench.value("asset_executions_total", "raw/orders") == 1
    assert bench.value("asset_execution_failures_total", "raw/orders") == 0
    assert bench.value("asset_materializations_total", "raw/orders") == 1
    assert bench.value("asset_last_update_timestamp", "raw/orders") == 1_700_000_000
    took = bench.value("asset_execution_seconds", "raw/orders", "success")
    assert isinstance(took, HistogramValue)
    assert (took.count, took.sum) == (1, 2.0)
    assert dict(zip(took.bounds, took.counts, strict=True))[1.0] == 0
    assert dict(zip(took.bounds, took.counts, strict=True))[5.0] == 1


async def test_the_second_partition_of_a_run_is_a_materialization_but_no_execution() -> None:
    bench = await figures(event(made(), made(execution=False)))
    assert bench.value("asset_executions_total", "raw/orders") == 1
    assert bench.value("asset_materializations_total", "raw/orders") == 2


async def test_a_failure_counts_as_execution_and_failure() -> None:
    bench = await figures(event(failed()))
    assert bench.value("asset_executions_total", "raw/orders") == 1
    assert bench.value("asset_execution_failures_total", "raw/orders") == 1
    assert bench.value("asset_materializations_total", "raw/orders") == 0
    took = bench.value("asset_execution_seconds", "raw/orders", "failure")
    assert isinstance(took, HistogramValue)
    assert took.sum == 3.0


async def test_a_planned_asset_begins_at_zero_and_a_skipped_one_counts_nothing() -> None:
    planned = AssetPlanned("r1", "job", "step", "a", None, T0)
    bench = await figures(event(planned), event(AssetSkipped("r1", "job", "a", None, T0)))
    assert bench.value("asset_executions_total", "a") == 0
    assert bench.value("asset_execution_failures_total", "a") == 0


async def test_rows_are_counted_by_operation_and_bytes_by_the_first_label() -> None:
    metadata: Metadata = {
        "dagster/partition_row_count": 5, "dagster/row_count": 100, "rows_fetched": 7, "inserts": 1, "updates": 2,
        "deletes": 3, "size_bytes": 10, "dagster/size_bytes": 99,
    }  # fmt: skip
    bench = await figures(event(made(metadata=metadata)), event(made(metadata={"dagster/row_count": 50})))
    rows = {
        operation: bench.value("asset_rows_processed_total", "raw/orders", operation)
        for operation in ("materialize", "fetch", "insert", "update", "delete")
    }
    assert rows == {"materialize": 55, "fetch": 7, "insert": 1, "update": 2, "delete": 3}
    assert bench.value("asset_bytes_written_total", "raw/orders") == 10


async def test_the_row_count_is_the_last_by_event_time() -> None:
    late = made(at=T0 + 10, metadata={"dagster/row_count": 7})
    early = made(at=T0, metadata={"dagster/row_count": 3})
    bench = await figures(event(late), event(early))
    assert bench.value("asset_row_count", "raw/orders", "raw") == 7
    assert bench.value("asset_last_update_timestamp", "raw/orders") == (T0 + 10) / SECOND
    await bench.feed(event(early))
    await bench.flush()
    assert bench.value("asset_row_count", "raw/orders", "raw") == 7


async def test_a_changed_schema_retires_the_row_count_of_the_old_one() -> None:
    bench = await figures(event(made(metadata={"dagster/row_count": 1, "dagster/table_name": "lake.old.orders"})))
    assert bench.value("asset_row_count", "raw/orders", "old") == 1
    moved = made(at=T0 + 1, metadata={"dagster/row_count": 2, "dagster/table_name": "lake.new.orders"})
    await bench.feed(event(moved))
    retired = [s for s in await bench.flush() if s.value is None]
    assert [s.labels for s in retired] == [(("asset_name", "raw/orders"), ("schema", "old"))]
    assert bench.value("asset_row_count", "raw/orders", "new") == 2
    behind = made(at=T0, metadata={"dagster/row_count": 9, "dagster/table_name": "lake.old.orders"})
    await bench.feed(event(behind))
    await bench.flush()
    assert bench.value("asset_row_count", "raw/orders", "old") is None


async def test_an_event_from_the_far_future_does_not_hold_the_last_update_for_ever() -> None:
    bench = await figures(event(made(at=T0 + 900 * DAY)), event(made(at=T0 + SECOND), now=T0 + SECOND))
    assert bench.value("asset_last_update_timestamp", "raw/orders") == 1_700_000_001


async def test_a_series_that_began_and_ended_between_two_flushes_was_never_told_and_is_not_taken_back() -> None:
    bench = await figures(event(made()))
    old = made(metadata={"dagster/row_count": 1, "dagster/table_name": "lake.old.orders"})
    new = made(at=T0 + 1, metadata={"dagster/row_count": 2, "dagster/table_name": "lake.new.orders"})
    await bench.feed(event(old))
    await bench.feed(event(new))
    assert not [s for s in await bench.flush() if s.value is None]
    assert bench.value("asset_row_count", "raw/orders", "new") == 2
    await bench.feed(event(made(at=T0 + 2, metadata={"dagster/row_count": 3, "dagster/table_name": "lake.old.orders"})))
    await bench.feed(event(made(at=T0 + 3, metadata={"dagster/row_count": 4, "dagster/table_name": "lake.new.orders"})))
    told = {s.labels: s.value for s in await bench.flush() if s.name == "asset_row_count"}
    assert told == {(("asset_name", "raw/orders"), ("schema", "new")): 4}


async def test_checks_are_counted_by_status_and_severity_and_have_one_passed_series() -> None:
    bench = await figures(event(checked(False, severity="WARN")), event(checked(True, at=T0 + 1)))
    assert bench.value("asset_check_evaluations_total", "raw/orders", "not_null", "WARN", "failed") == 1
    assert bench.value("asset_check_evaluations_total", "raw/orders", "not_null", "ERROR", "passed") == 1
    passed = {labels: value for (name, labels), value in bench.published.items() if name == "asset_check_passed"}
    assert passed == {("raw/orders", "not_null", "ERROR"): 1}
    assert bench.value("validation_pass_rate", "raw/orders", "not_null") == 100


async def test_runs_count_by_status_and_an_unfinished_one_by_where_it_was_last_seen() -> None:
    bench = await figures(
        event(ended("success", starting=T0 - SECOND)),
        event(ended("unfinished", phase="started")),
        event(ended("canceled")),
    )
    assert bench.value("dagster_runs_total", "daily", "success") == 1
    assert bench.value("dagster_runs_total", "daily", "canceled") == 1
    assert bench.value("dagster_runs_total", "daily", "started") == 1
    assert bench.value("dagster_run_seconds", "daily", "started") is None
    ran, queued = (
        bench.value("dagster_run_seconds", "daily", "success"),
        bench.value("dagster_run_queue_seconds", "daily"),
    )
    assert isinstance(ran, HistogramValue)
    assert isinstance(queued, HistogramValue)
    assert (ran.sum, queued.sum, queued.count) == (60.0, 8.0, 1)


async def test_an_attempt_that_is_tried_again_is_a_retry_of_its_job() -> None:
    statuses: tuple[StepStatus, ...] = ("retry", "retry", "failure")
    steps = [StepEnded("r1", "daily", "s", n, status, T0, T0) for n, status in enumerate(statuses, 1)]
    bench = await figures(event(*steps))
    assert bench.value("dagster_step_retries_total", "daily") == 2


async def test_every_event_is_a_log_record_of_its_level() -> None:
    bench = await figures(event(level=10), event(level=20), event(level=20), event(level=45), event(level=-3))
    assert {labels[0]: v for (name, labels), v in bench.published.items() if name == "dagster_log_records_total"} == {
        "DEBUG": 2, "INFO": 2, "ERROR": 1,
    }  # fmt: skip


async def test_an_event_that_we_made_is_no_log_record_and_its_outcomes_count() -> None:
    own = event(ended("failure"))
    own.raw = b""
    bench = await figures(own)
    assert "dagster_log_records_total" not in bench.names()
    assert bench.value("dagster_runs_total", "daily", "failure") == 1


async def test_named_numeric_metadata_is_given_also_of_observations() -> None:
    seen = AssetObserved("r1", "job", "raw/orders", None, T0, {"mean": 1.5, "max": "high", "other": 3}, {})
    bench = await figures(event(seen))
    assert bench.value("asset_metadata_value", "raw/orders", "mean") == 1.5
    assert {labels[1] for name, labels in bench.published if name == "asset_metadata_value"} == {"mean"}


async def test_metadata_that_is_no_number_is_ignored() -> None:
    absurd: list[Json] = [math.nan, math.inf, -math.inf, "12", True, None, [1], {"a": 1}, 10**400, 1e300]
    events = [event(made(metadata={"dagster/row_count": value, "size_bytes": value})) for value in absurd]
    bench = await figures(*events)
    assert bench.value("asset_materializations_total", "raw/orders") == len(absurd)
    assert bench.names().isdisjoint({"asset_rows_processed_total", "asset_row_count", "asset_bytes_written_total"})


async def test_a_row_count_below_zero_is_shown_and_counts_nothing() -> None:
    bench = await figures(event(made(metadata={"dagster/row_count": -1, "size_bytes": -1})))
    assert bench.value("asset_row_count", "raw/orders", "raw") == -1
    assert bench.names().isdisjoint({"asset_rows_processed_total", "asset_bytes_written_total"})


async def test_times_that_run_backwards_count_as_zero() -> None:
    bench = await figures(event(made(duration_ns=-5)), event(ended("success", at=T0 - DAY)))
    took, ran = (
        bench.value("asset_execution_seconds", "raw/orders", "success"),
        bench.value("dagster_run_seconds", "daily", "success"),
    )
    assert isinstance(took, HistogramValue)
    assert isinstance(ran, HistogramValue)
    assert (took.sum, ran.sum) == (0, 0)


async def test_the_deployment_is_a_label_of_every_series() -> None:
    bench = await Bench(deployment="prod").open()
    await bench.feed(event(made(), checked(), ended("success")))
    assert all(("deployment", "prod") in sample.labels for sample in await bench.flush())


@pytest.mark.parametrize(
    ("check", "rate"),
    [
        (checked(False, metadata={"failed_count": 1, "total_count": 1000}), 99.9),
        (checked(False, metadata={"rows_failed": 5, "rows_total": 10}), 50.0),
        (checked(False, metadata={"failed_count": 20, "total_count": 10}), 0.0),
        (checked(False, metadata={"failed_count": 0, "total_count": 0}), 0.0),
        (checked(False, rows=200, metadata={"dagster_dbt/failed_row_count": 3}), 98.5),
        (checked(False, metadata={"dagster_dbt/failed_row_count": 3}), 0.0),
        (checked(True, metadata={"pass_rate": 0.998}), 99.8),
        (checked(False, metadata={"pass_rate": 0.5}), 0.5),
        (checked(True, metadata={"pass_rate": 97.5}), 97.5),
        (checked(True, metadata={"pass_rate": 101}), 100.0),
        (checked(True, metadata={"pass_rate": "high"}), 100.0),
        (checked(False), 0.0),
    ],
)
def test_the_pass_rate_comes_from_the_checks_own_rows_where_it_has_them(check: CheckEvaluated, rate: float) -> None:
    config = MetricsConfig()
    labels = PassRateLabels(config.failed_of_total, config.failed_alone, config.pass_rate)
    assert pass_rate(check, labels) == pytest.approx(rate)


def test_the_schema_is_that_of_the_table_name_else_the_keys_prefix() -> None:
    assert schema_of("core/x", {"dagster/table_name": "lake.raw.orders"}) == "raw"
    assert schema_of("core/x", {"dagster/table_name": "orders"}) == "core"
    assert schema_of("core/x", {"dagster/table_name": 7}) == "core"
    assert schema_of("x", {}) == ""


# --- beginning and ending of series ---


def graph(*assets: str, version: int = 1, checks: tuple[str, ...] = ()) -> Catalog:
    return Catalog({a: AssetFacts(a, checks=checks) for a in assets}, version=version)


async def test_assets_of_the_graph_have_their_counters_at_zero() -> None:
    bench = await figures(event(catalog=graph("a", "b")))
    assert [bench.value(f"asset_{n}_total", "b") for n in ("executions", "execution_failures", "materializations")] == [
        0,
        0,
        0,
    ]


async def test_an_asset_that_left_the_graph_ends_after_a_while_unless_it_comes_back() -> None:
    bench = await figures(event(made("a"), made("b"), catalog=graph("a", "b")))
    await bench.feed(event(now=T0 + 1, catalog=graph("a", version=2)))
    assert bench.metrics.due() == T0 + 1 + HOUR
    await bench.feed(event(now=T0 + 2, catalog=graph("a", "b", version=3)))
    await bench.metrics.on_time(T0 + 1 + HOUR)
    await bench.flush()
    assert bench.value("asset_executions_total", "b") == 1
    await bench.feed(event(now=T0 + 2 * HOUR, catalog=graph("a", version=4)))
    await bench.metrics.on_time(T0 + 3 * HOUR)
    await bench.flush()
    assert bench.value("asset_executions_total", "b") is None
    assert bench.value("asset_executions_total", "a") == 1


async def test_a_check_that_left_the_graph_ends_and_its_asset_stays() -> None:
    bench = await figures(event(made(), checked(), catalog=graph("raw/orders", checks=("not_null",))))
    await bench.feed(event(now=T0 + 1, catalog=graph("raw/orders", version=2)))
    await bench.metrics.on_time(T0 + 2 * HOUR)
    await bench.flush()
    assert "validation_pass_rate" not in bench.names()
    assert bench.value("asset_executions_total", "raw/orders") == 1


async def test_an_empty_graph_or_an_older_one_ends_nothing() -> None:
    bench = await figures(event(made("a"), catalog=graph("a", version=5)))
    await bench.feed(event(now=T0 + 1, catalog=Catalog({}, version=6)), event(now=T0 + 1))
    await bench.feed(event(now=T0 + 1, catalog=graph("b", version=4)))
    assert bench.metrics.due() is None


async def test_an_asset_that_no_graph_knows_ends_once_it_was_silent_for_the_retention() -> None:
    bench = await figures(event(made("a"), ended("success")), retention="50d")
    due = bench.metrics.due()
    assert due is not None
    assert T0 + 50 * DAY <= due <= T0 + 51 * DAY
    await bench.feed(event(made("b"), now=T0 + 40 * DAY))
    await bench.metrics.on_time(due)
    samples = await bench.flush()
    assert ("asset_executions_total", (("asset_name", "a"),)) in {
        (s.name, s.labels) for s in samples if s.value is None
    }
    assert {labels[0] for name, labels in bench.published if METRICS[name].owner} == {"b"}
    assert bench.metrics.due() == pytest.approx(T0 + 90 * DAY, abs=DAY)


async def test_a_wiped_asset_loses_its_series_and_begins_anew() -> None:
    bench = await figures(event(made(), made(), checked()))
    await bench.feed(event(made()), event(AssetGone("raw/orders", (), T0)), event(made()))
    samples = await bench.flush()
    assert bench.value("asset_executions_total", "raw/orders") == 1
    assert "validation_pass_rate" not in bench.names()
    assert [s.value for s in samples if s.name == "asset_executions_total"] == [None, 1]


async def test_a_wiped_asset_that_the_graph_still_has_is_there_with_0_at_once() -> None:
    """As after a restart, which learns the graph anew."""
    bench = await figures(event(made("a"), catalog=graph("a", "b")))
    await bench.feed(event(AssetGone("a", (), T0), catalog=graph("a", "b")))
    samples = await bench.flush()
    assert [s.value for s in samples if s.name == "asset_executions_total"] == [None, 0]


async def test_of_a_wiped_asset_the_series_stay_where_the_whole_log_counts() -> None:
    bench = await Bench(wiped="keep").open()
    await bench.feed(event(made()), event(AssetGone("raw/orders", (), T0)), event(made()))
    await bench.flush()
    assert bench.published["asset_executions_total", ("raw/orders",)] == 2


@pytest.mark.parametrize(("another", "failures"), [(made(), 0), (made("other"), 1)])
async def test_failures_can_wait_for_the_runs_end_because_another_step_may_make_the_asset(
    another: AssetMaterialized, failures: int
) -> None:
    bench = await Bench(failures="run").open()
    again = msgspec.structs.replace(another, execution=another.asset == "other")  # the ledger has counted the failure
    await bench.feed(event(failed()))
    await bench.feed(event(again), event(msgspec.structs.replace(ended("failure"), run="r1")))
    late = msgspec.structs.replace(failed("late"), late=True)
    await bench.feed(event(late))
    await bench.flush()
    counted = {key[1][0]: value for key, value in bench.published.items() if key[0] == "asset_execution_failures_total"}
    assert (counted["raw/orders"], counted["late"]) == (failures, 1)
    assert bench.published["asset_executions_total", ("raw/orders",)] == 1
    assert not bench.state.table("held_failures", str, tuple[AssetFailed, ...], version=1)


async def test_wiped_partitions_end_nothing() -> None:
    bench = await figures(event(made()), event(AssetGone("raw/orders", ("2026-01-01",), T0)))
    assert bench.value("asset_executions_total", "raw/orders") == 1


async def test_a_flush_gives_what_changed_and_all_after_a_start() -> None:
    bench = await figures(event(made("a")), event(made("b")))
    await bench.feed(event(made("a"), level=30))
    changed = {(s.name, dict(s.labels).get("asset_name")) for s in await bench.flush()}
    assert ("asset_executions_total", "a") in changed
    assert "b" not in {asset for _, asset in changed}
    assert await bench.flush() == []
    before = dict(bench.published)
    await bench.crash()
    await bench.flush()
    assert bench.published == before


async def test_a_series_says_when_it_began() -> None:
    bench = await figures(event(made("a"), now=T0 - 5))
    await bench.feed(event(made("a"), ended("success"), now=T0 + 7))
    samples = await bench.flush(T0 + 9)
    since = {(s.name, s.since_ns) for s in samples if s.kind != "gauge"}
    assert {("asset_executions_total", T0 - 5), ("dagster_runs_total", T0 + 7)} <= since
    assert {s.at_ns for s in samples} == {T0 + 9}
    await bench.crash()
    assert since <= {(s.name, s.since_ns) for s in await bench.flush(T0 + 20)}


async def test_the_first_sample_of_a_series_says_that_it_begins_and_no_other_does_so() -> None:
    """Also after a crash: what was flushed before it was committed with the series."""

    def begun(samples: list[Sample]) -> set[tuple[str, bool]]:
        return {(dict(s.labels)["asset_name"], s.begins) for s in samples if s.name == "asset_executions_total"}

    bench = await Bench().open()
    await bench.feed(event(made("a")))
    assert begun(await bench.flush()) == {("a", True)}
    await bench.feed(event(made("a")), event(made("b")))
    assert begun(await bench.flush()) == {("a", False), ("b", True)}
    await bench.feed(event(made("c")))
    await bench.crash()
    await bench.feed(event(made("c")))
    assert begun(await bench.flush()) == {("a", False), ("b", False), ("c", True)}
    await bench.feed(event(AssetGone("a", (), T0)), event(made("a")))
    assert ("a", True) in begun(await bench.flush())


async def test_a_series_of_a_partition_that_is_ahead_began_when_it_was_first_given_out() -> None:
    """The whole's time is that of the partition furthest behind, and nothing begins after it was told of."""
    bench = await Bench().open()
    await bench.feed(event(made("a"), ended("success", starting=T0), now=T0 + 50))
    since = {(s.name, s.since_ns) for s in await bench.flush(T0 + 9) if s.kind != "gauge"}
    assert {began for _, began in since} == {T0 + 9}
    await bench.crash()
    assert {(s.name, s.since_ns) for s in await bench.flush(T0 + 60) if s.kind != "gauge"} == since


# --- bounds ---


async def test_what_there_is_no_room_for_goes_to_the_overflow_series() -> None:
    bench = await figures(*(event(made(f"a{n}"), failed(f"a{n}"), checked()) for n in range(9)), max_series=3)
    executions = {labels[0]: v for (name, labels), v in bench.published.items() if name == "asset_executions_total"}
    assert executions == {"raw/orders": 0, "a0": 2, "a1": 2, "__overflow__": 14}
    took = bench.value("asset_execution_seconds", "__overflow__", "failure")
    assert isinstance(took, HistogramValue)
    assert took.count == 8  # two assets take four series, of which three have room
    assert not [labels for name, labels in bench.published if name == "asset_row_count" and "__overflow__" in labels]


async def test_a_crash_does_not_change_what_overflows() -> None:
    bench = await figures(*(event(made(f"a{n}")) for n in range(4)), max_series=3)
    await bench.crash()
    await bench.feed(*(event(made(f"a{n}")) for n in range(5)))
    await bench.flush()
    executions = {labels[0]: v for (name, labels), v in bench.published.items() if name == "asset_executions_total"}
    assert executions == {"a0": 2, "a1": 2, "a2": 2, "__overflow__": 3}


@given(st.text(max_size=2000), st.text(max_size=2000))
def test_label_values_are_short_clean_and_told_apart(one: str, other: str) -> None:
    value = label_value(one)
    assert len(value) <= 1024
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]", value)
    assert label_value(value) == value
    assert (value == label_value(other)) == (one == other)


def test_a_hostile_label_is_cut_with_a_digest() -> None:
    assert label_value("x" * 10_000) == "x" * 1011 + "~" + label_value("x" * 10_000)[-12:]
    assert label_value("a\x1bb").startswith("a\ufffdb~")
    assert label_value("a\nb\tc\u2028d") == "a\nb\tc\u2028d"
    assert label_value("Überblick 市場　表") == "Überblick 市場　表"


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"buckets": ()}, "buckets"),
        ({"buckets": (1.0, 1.0)}, "buckets"),
        ({"buckets": (0.0, 1.0)}, "buckets"),
        ({"max_series": 0}, "max_series"),
        ({"retention": Duration(0)}, "retention"),
    ],
)
def test_options_that_mean_nothing_are_problems(options: dict[str, object], path: str) -> None:
    assert [found for found, _ in MetricsConfig(**options).problems()] == [path]  # type: ignore[arg-type]


async def test_changed_buckets_begin_the_histograms_anew_and_keep_the_counters() -> None:
    bench = await figures(event(made()))
    bench.config = MetricsConfig(buckets=(1.0, 3.0))
    await bench.crash()
    await bench.feed(event(made()))
    await bench.flush()
    took = bench.value("asset_execution_seconds", "raw/orders", "success")
    assert took == HistogramValue((1.0, 3.0), (0, 1), 1, 2.0)
    assert bench.value("asset_executions_total", "raw/orders") == 2


# --- recorded logs ---

DATA = Path(__file__).parent.parent / "data"


def totals(bench: Bench, name: str, **labels: str) -> float:
    """The sum of a metric's series that have these labels."""
    wanted, found = METRICS[name].labels, 0.0
    for (metric, values), value in bench.published.items():
        if metric == name and labels.items() <= dict(zip(sorted(wanted), values, strict=True)).items():
            assert isinstance(value, float)
            found += value
    return found


@pytest.mark.parametrize("version", ["1.7", "1.10", "1.13"])
@pytest.mark.parametrize("size", [1, 250, 10_000])
async def test_the_figures_of_a_recorded_log_are_those_that_dagster_itself_gives(version: str, size: int) -> None:
    truth = json.loads((DATA / f"truth-{version}.json").read_text())
    lines = (DATA / f"dagster-{version}.jsonl").read_bytes().splitlines()
    events = [decode(line, source="log", offset=n) for n, line in enumerate(lines, 1)]
    now = 0
    for one in events:
        now = one.now_ns = max(now, one.at_ns)
    bench = await Bench().open()
    async with LEDGER.build(RunLedgerConfig(), FakeContext("run_ledger", "log")) as ledger:
        for start in range(0, len(events), size):
            batch = await ledger.process(Batch(events[start : start + size], "log", now))
            await bench.feed(*batch.items)
    await bench.flush()
    for asset, of in truth["assets"].items():
        assert totals(bench, "asset_executions_total", asset_name=asset) == of["executions"], asset
        assert totals(bench, "asset_execution_failures_total", asset_name=asset) == of["failures"], asset
        assert totals(bench, "asset_materializations_total", asset_name=asset) == of["materializations"], asset
        if of["row_counts"]:
            assert totals(bench, "asset_row_count", asset_name=asset) == of["last_row_count"], asset
    for key, of in truth["checks"].items():
        asset, check = key.rsplit(":", 1)
        evaluated = partial(totals, bench, "asset_check_evaluations_total", asset_name=asset, check_name=check)
        assert evaluated(status="passed") == of["passed"], key
        assert evaluated(status="failed", severity="WARN") == of["failed_warn"], key
        assert evaluated(status="failed", severity="ERROR") == of["failed_error"], key
    for status, runs in truth["runs"]["by_status"].items():
        assert totals(bench, "dagster_runs_total", status=status.lower()) == runs, status
    for job, runs in truth["runs"]["by_job"].items():
        assert totals(bench, "dagster_runs_total", job_name=job) == runs, job
    retries = sum(of.get("STEP_UP_FOR_RETRY", 0) for of in truth["retries"].values())
    assert totals(bench, "dagster_step_retries_total") == retries
    assert totals(bench, "dagster_log_records_total") == truth["events"]


# --- laws ---

_assets = st.sampled_from(["a", "b", "x/c"])
_times = st.integers(T0, T0 + 100 * SECOND)
_metadata = st.dictionaries(
    st.sampled_from(["dagster/row_count", "size_bytes", "mean", "dagster/table_name", "rows_loaded"]),
    st.one_of(st.integers(-5, 10**9), st.floats(), st.booleans(), st.sampled_from(["l.s.t", "l.u.t"]), st.none()),
    max_size=4,
)
_outcomes = st.one_of(
    st.builds(made, _assets, _times, _metadata, st.booleans(), st.one_of(st.none(), st.integers(-10, 10**14))),
    st.builds(failed, _assets, _times),
    st.builds(lambda p, t, s: checked(p, t, s), st.booleans(), _times, st.sampled_from(["WARN", "ERROR"])),
    st.builds(lambda s: ended(s), st.sampled_from(["success", "failure", "canceled"])),
    st.builds(lambda a: AssetGone(a, (), T0), _assets),
)
_events = st.lists(
    st.builds(lambda o, level: event(*o, level=level), st.lists(_outcomes, max_size=3), st.integers(0, 60)),
    min_size=1,
    max_size=12,
)


async def _in_parts(events: list[Event], cuts: Iterable[int], crash: bool) -> dict[object, object]:
    bench = await Bench().open()
    start = 0
    for end in [*sorted(cuts), len(events)]:
        if events[start:end]:
            await bench.feed(*events[start:end])
            start = end
            if crash:
                await bench.flush()
                await bench.crash()
    await bench.flush()
    return dict(bench.published)


@settings(max_examples=60, deadline=None)
@given(_events, st.lists(st.integers(0, 12), max_size=4), st.booleans())
async def test_figures_do_not_depend_on_batches_or_crashes(events: list[Event], cuts: list[int], crash: bool) -> None:
    assert await _in_parts(events, cuts, crash) == await _in_parts(events, [], False)


@settings(max_examples=60, deadline=None)
@given(_events, st.lists(st.integers(0, 12), max_size=4))
async def test_what_flushes_gave_one_after_another_is_what_a_start_gives(events: list[Event], cuts: list[int]) -> None:
    bench, start = await Bench().open(), 0
    for end in [*sorted(cuts), len(events)]:
        if events[start:end]:
            await bench.feed(*events[start:end])
            start = end
        await bench.flush()
    given = dict(bench.published)
    await bench.crash()
    bench.published.clear()
    await bench.flush()
    assert bench.published == given


_names = st.lists(st.sampled_from(["asset_name", "status", "check_name", "zone"]), max_size=4, unique=True)


@given(_names, st.lists(st.text(), min_size=4, max_size=4), st.sampled_from(["", "prod"]))
def test_labels_are_the_pairs_of_names_and_values_sorted(names: list[str], values: list[str], deployment: str) -> None:
    extra = (("deployment", deployment),) if deployment else ()
    found = labels_of(names, extra)(("metric", *values[: len(names)]))
    assert found == tuple(sorted((*zip(names, values, strict=False), *extra)))


@given(st.one_of(st.floats(), st.integers(), st.booleans(), st.text(), st.none()))
def test_a_number_is_finite_or_none(value: float | str | None) -> None:
    found = number(value)
    assert found is None or math.isfinite(found)


def test_the_page_lists_every_metric_with_its_labels() -> None:
    page = Path("docs/metrics.md").read_text()
    for metric in METRICS.values():
        assert f"`{metric.name}{{{','.join(metric.labels)}}}`" in page
        assert metric.help in page
