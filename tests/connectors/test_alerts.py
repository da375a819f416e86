"""What fails becomes a finding, what is well again ends it, and nothing else is said."""

from collections.abc import Sequence
from typing import TypeVar

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.alerts import SPEC, AlertsConfig, Item
from pipeline.batch import WHOLE, Batch
from pipeline.clock import HOUR, MINUTE
from pipeline.components import Connector
from pipeline.events import Event
from pipeline.facts import ErrorInfo, Json, RunFacts
from pipeline.fingerprint import fingerprint
from pipeline.lineage import AssetFacts, Catalog
from pipeline.outcomes import (
    AssetFailed,
    AssetMaterialized,
    AssetPlanned,
    AssetSkipped,
    CheckEvaluated,
    CheckRaised,
    Outcome,
    RunEnded,
    RunStatus,
    StepEnded,
    StepRaised,
    StepStatus,
)
from pipeline.signals import Alert, Edges, Links
from pipeline.testing.context import FakeContext, MemoryState

pytestmark = pytest.mark.anyio

ERROR = ErrorInfo("TimeoutError", "no answer after 30s", file="load.py", line=45, stack="Traceback …")
T = TypeVar("T", bound=msgspec.Struct)
START = 1_700_000_000_000_000_000


def at(minutes: float) -> int:
    return START + round(minutes * MINUTE)


def event(minutes: float, *outcomes: Outcome, run: RunFacts | None = None, catalog: Catalog | None = None) -> Event:
    return Event(
        raw=b"", type="STEP_FAILURE", run_id="r1", at_ns=at(minutes), level=40, job="nightly", step_key="s",
        message="", now_ns=at(minutes), outcomes=outcomes, run=run, catalog=catalog,
    )  # fmt: skip


def failed(
    asset: str = "raw/orders",
    partition: str | None = None,
    error: ErrorInfo = ERROR,
    interrupted: bool = False,
    failed_check: bool = False,
    run: str = "r1",
    minutes: float = 0,
) -> AssetFailed:
    return AssetFailed(
        run,
        "nightly",
        "s",
        1,
        asset,
        partition,
        at(minutes),
        None,
        error,
        interrupted=interrupted,
        failed_check=failed_check,
    )


def made(
    asset: str = "raw/orders", partition: str | None = None, tags: Sequence[str] = (), minutes: float = 5
) -> AssetMaterialized:
    return AssetMaterialized(
        "r2", "nightly", "s", 1, asset, partition, at(minutes), None, True, {}, dict.fromkeys(tags, "1")
    )


def step(
    status: StepStatus = "failure", interrupted: bool = False, failed_check: bool = False, assets: Sequence[str] = ()
) -> StepEnded:
    return StepEnded(
        "r1", "nightly", "s", 1, status, at(0), at(0), assets=tuple(assets), error=ERROR, interrupted=interrupted,
        failed_check=failed_check,
    )  # fmt: skip


def run_ended(status: RunStatus = "failure", raised: bool = False, reason: str = "", run: str = "r1") -> RunEnded:
    return RunEnded(run, "nightly", status, at(1), at(0), reason=reason, raised=raised)


def check(
    passed: bool, severity: str = "ERROR", partition: str | None = None, description: str | None = None
) -> CheckEvaluated:
    return CheckEvaluated(
        "r1", "nightly", "s", "raw/orders", "unique", passed, severity, False, partition, at(0), description, {}
    )  # fmt: skip


def raised(interrupted: bool = False) -> StepRaised:
    return StepRaised("r1", "nightly", "s", 1, at(0), None, ERROR, interrupted)


def when(minutes: float, outcome: T) -> T:
    """The outcome of another time."""
    return msgspec.structs.replace(outcome, at_ns=at(minutes))


class Alerts:
    """The connector under test; every call is followed by a checkpoint, as a restart would find it."""

    def __init__(self, config: AlertsConfig | None = None) -> None:
        self.config, self.state = config or AlertsConfig(), MemoryState()
        self.connector: Connector[Event, Item] | None = None

    async def __call__(self, *events: Event) -> list[Item]:
        if self.connector is None:
            manager = SPEC.build(self.config, FakeContext(state=self.state))
            self.connector = await manager.__aenter__()
        given = list(await self.connector.process(Batch(events, WHOLE, events[-1].now_ns)))
        self.state.checkpoint()
        return given

    async def alerts(self, *events: Event) -> list[Alert]:
        return [item for item in await self(*events) if isinstance(item, Alert)]

    def restart(self) -> None:
        self.state, self.connector = self.state.restart(), None


def told(alerts: Sequence[Alert]) -> list[tuple[str, str, str]]:
    return [(a.state, a.kind, a.check or a.asset or a.step_key or a.job) for a in alerts]


async def test_a_failed_asset_is_told_with_its_place_its_error_and_no_stack() -> None:
    (alert,) = await Alerts().alerts(event(3, failed(partition="2024-01-15")))
    assert alert == Alert(
        kind="asset_failure",
        state="failing",
        severity="ERROR",
        fingerprint=alert.fingerprint,
        now_ns=at(3),
        first_ns=at(0),
        last_ns=at(0),
        title="Asset Materialization Failed",
        asset="raw/orders",
        partition="2024-01-15",
        run_id="r1",
        job="nightly",
        step_key="s",
        error=msgspec.structs.replace(ERROR, stack=""),
        parts=alert.parts,
    )
    assert alert.parts is not None
    assert fingerprint(alert.parts) == alert.fingerprint
    assert alert.fingerprint.startswith("v1:")


async def test_an_asset_is_well_once_it_is_made_and_then_nothing_more_is_said() -> None:
    alerts = Alerts()
    (finding,) = await alerts.alerts(event(0, failed()))
    (over,) = await alerts.alerts(event(5, made()))
    assert (over.state, over.kind, over.fingerprint, over.asset, over.now_ns) == (
        "recovered", "asset_failure", finding.fingerprint, "raw/orders", at(5)
    )  # fmt: skip
    assert await alerts(event(6, made())) == []


async def test_a_success_where_nothing_was_wrong_is_not_worth_a_word() -> None:
    assert await Alerts()(event(0, made(), check(True), step("success"), run_ended("success"))) == []


async def test_each_partition_that_failed_has_to_succeed() -> None:
    alerts = Alerts()
    await alerts(event(0, failed(partition="a")), event(1, failed(partition="b")), event(2, failed(partition="a")))
    assert [a.partition for a in await alerts.alerts(event(3, made(partition="a")))] == ["a"]
    assert await alerts(event(4, made(partition="a"), made(partition="c"))) == []
    alerts.restart()
    assert [a.partition for a in await alerts.alerts(event(5, made(partition="b")))] == ["b"]


async def test_two_errors_of_one_partition_end_together() -> None:
    alerts = Alerts()
    other = ErrorInfo("KeyError", "JPY")
    await alerts(event(0, failed()), event(1, failed(error=other)))
    assert len({a.fingerprint for a in await alerts.alerts(event(2, made()))}) == 2


async def test_a_success_without_a_partition_heals_all_and_a_failure_without_one_is_healed_by_any() -> None:
    alerts = Alerts()
    await alerts(event(0, failed(partition="a"), failed(partition="b"), failed("other", "a")))
    assert [a.partition for a in await alerts.alerts(event(1, made()))] == ["a", "b"]
    await alerts(event(2, failed(minutes=2)))
    assert [a.partition for a in await alerts.alerts(event(3, made(partition="z")))] == [None]


async def test_with_resolve_asset_any_success_heals_all_partitions() -> None:
    alerts = Alerts(AlertsConfig(resolve="asset"))
    await alerts(event(0, failed(partition="a"), failed(partition="b")))
    assert [a.partition for a in await alerts.alerts(event(1, made(partition="z")))] == ["a", "b"]


@pytest.mark.parametrize(("severity", "expected"), [("WARN", "WARNING"), ("ERROR", "ERROR")])
async def test_a_failed_check_is_told_by_its_severity_until_it_passes(severity: str, expected: str) -> None:
    alerts = Alerts()
    (alert,) = await alerts.alerts(event(0, check(False, severity, description="3 duplicates")))
    assert (alert.kind, alert.severity, alert.check, alert.summary) == (
        "check_failure", expected, "unique", "3 duplicates"
    )  # fmt: skip
    (again,) = await alerts.alerts(event(1, check(False, severity, description="no owner for 4 rows")))
    assert again.fingerprint == alert.fingerprint
    assert told(await alerts.alerts(event(2, made()))) == []
    assert told(await alerts.alerts(event(3, check(True)))) == [("recovered", "check_failure", "unique")]


async def test_a_failed_blocking_check_is_told_once_as_the_check() -> None:
    alerts = await Alerts().alerts(
        event(0, check(False)),
        event(1, failed(failed_check=True), step(failed_check=True)),
        event(2, run_ended(raised=True)),
    )
    assert told(alerts) == [("failing", "check_failure", "unique")]


async def test_a_check_that_raised_is_told_with_its_error_and_not_as_a_step() -> None:
    broken = CheckRaised("r1", "nightly", "s", 1, "raw/orders", "unique", at(0), ERROR)
    alerts = Alerts()
    (alert,) = await alerts.alerts(event(0, step(), broken), event(1, run_ended(raised=True)))
    assert (alert.kind, alert.check, alert.severity, alert.error and alert.error.type) == (
        "check_failure", "unique", "ERROR", "TimeoutError"
    )  # fmt: skip
    assert told(await alerts.alerts(event(2, check(True)))) == [("recovered", "check_failure", "unique")]


async def test_a_step_with_which_no_asset_fails_is_a_run_failure_with_its_step_until_that_step_succeeds() -> None:
    alerts = Alerts()
    found = await alerts.alerts(event(0, step(), raised()), event(1, run_ended(raised=True)))
    assert [(a.kind, a.step_key, a.job, a.title) for a in found] == [("run_failure", "s", "nightly", "Step Failed")]
    assert told(await alerts.alerts(event(2, step("success")))) == [("recovered", "run_failure", "s")]


async def test_a_step_that_makes_assets_is_told_as_its_assets() -> None:
    found = await Alerts().alerts(event(0, step(assets=["a", "b"]), failed("b")), event(1, run_ended(raised=True)))
    assert told(found) == [("failing", "asset_failure", "b")]


def missing(asset: str, partition: str | None = None, run: str = "r1", step: str = "dbt") -> AssetFailed:
    """One of the assets of a step that makes several."""
    return msgspec.structs.replace(failed(asset, partition, run=run), step=step, several=True)


async def test_what_one_failure_of_a_step_takes_along_is_one_finding_of_the_step() -> None:
    alerts = Alerts()
    together = [missing("dbt/stg"), missing("dbt/m1"), missing("dbt/m2")]
    (alert,) = await alerts.alerts(event(0, step(), *together), event(1, run_ended(raised=True)))
    assert (alert.asset, alert.assets, alert.step_key) == ("dbt/stg", ("dbt/stg", "dbt/m1", "dbt/m2"), "dbt")
    alerts.restart()
    (again,) = await alerts.alerts(event(2, missing("dbt/m2", run="r2")))
    assert (again.asset, again.assets, again.fingerprint) == ("dbt/m2", ("dbt/m2",), alert.fingerprint)
    (other,) = await alerts.alerts(event(3, missing("dbt/m2", run="r3", step="other")))
    assert other.fingerprint != alert.fingerprint


async def test_each_asset_of_a_step_is_well_by_itself() -> None:
    alerts = Alerts()
    (alert,) = await alerts.alerts(event(0, missing("dbt/stg"), missing("dbt/m1")))
    alerts.restart()
    well = await alerts.alerts(event(1, made("dbt/m1")), event(2, made("dbt/m1")), event(3, made("dbt/stg")))
    assert [(a.state, a.asset, a.fingerprint) for a in well] == [
        ("recovered", "dbt/m1", alert.fingerprint), ("recovered", "dbt/stg", alert.fingerprint)
    ]  # fmt: skip


async def test_partitions_steps_and_interruptions_are_not_told_together() -> None:
    apart = [missing("a", "p1"), missing("b", "p2"), missing("c", "p2", step="other"), missing("d", "p2", run="r7")]
    found = await Alerts().alerts(event(0, *apart))
    assert [a.assets for a in found] == [("a",), ("b",), ("c",), ("d",)]
    waiting = msgspec.structs.replace(missing("b"), interrupted=True)
    assert [a.assets for a in await Alerts().alerts(event(0, missing("a"), waiting))] == [("a",)]


async def test_of_several_assets_the_worst_severity_and_all_owners_and_channels_hold() -> None:
    def catalog(**facts: AssetFacts) -> Catalog:
        return Catalog(dict(facts))

    minor = AssetFacts("a", owners=("team:a",), metadata={"alert_severity_override": "INFO", "alert_channels": "slack"})
    major = AssetFacts("b", group="marts", metadata={"alert_severity_override": "CRITICAL", "alert_channels": "email"})
    (alert,) = await Alerts().alerts(event(0, missing("a"), missing("b"), catalog=catalog(a=minor, b=major)))
    assert (alert.severity, alert.owners, alert.channels) == ("CRITICAL", ("team:a", "marts"), ("slack", "email"))
    (alert,) = await Alerts().alerts(event(0, missing("a"), missing("b"), catalog=catalog(a=minor)))
    assert alert.severity == "ERROR"


async def test_a_retry_is_no_failure() -> None:
    assert await Alerts()(event(0, step("retry"))) == []


async def test_a_run_that_failed_by_itself_is_told_until_the_job_succeeds() -> None:
    alerts = Alerts()
    found = await alerts.alerts(event(0, run_ended(reason="START_TIMEOUT")))
    assert [(a.kind, a.job, a.title, a.summary) for a in found] == [
        ("run_failure", "nightly", "Run Failed", "The run did not start in time")
    ]
    assert await alerts(event(1, run_ended("failure", raised=True))) == []
    assert told(await alerts.alerts(event(2, run_ended("success")))) == [("recovered", "run_failure", "nightly")]


async def test_a_run_of_a_selection_is_told_as_what_it_was_to_make_until_that_is_made() -> None:
    """Every selection is a run of `__ASSET_JOB`: another's success says nothing of this one."""
    alerts = Alerts()
    worker = ErrorInfo("DagsterRunWorkerError", "the worker died")

    def died(minutes: float, *assets: str) -> Event:
        ended = RunEnded(
            "r1", "__ASSET_JOB", "failure", at(minutes), at(0), error=worker, reason="UNEXPECTED_TERMINATION"
        )
        return event(minutes, *(AssetSkipped("r1", "__ASSET_JOB", a, "day1", at(minutes)) for a in assets), ended)

    (orders,) = await alerts.alerts(died(1, "raw/orders", "raw/users", "raw/items"))
    assert (orders.kind, orders.asset, orders.partition, orders.job) == (
        "run_failure", "raw/orders", "day1", "__ASSET_JOB"
    )  # fmt: skip
    assert orders.summary == "The run worker ended unexpectedly. 2 more of its assets were not made"
    (again,) = await alerts.alerts(died(2, "raw/orders"))
    assert again.fingerprint == orders.fingerprint
    (users,) = await alerts.alerts(died(3, "raw/users"))
    assert users.fingerprint != orders.fingerprint
    other = RunEnded("r2", "__ASSET_JOB", "success", at(4), at(4))
    assert await alerts.alerts(event(4, other)) == []
    assert told(await alerts.alerts(event(5, made("raw/orders", "day1"), other))) == [
        ("recovered", "run_failure", "raw/orders")
    ]


async def test_a_run_of_a_selection_that_planned_nothing_is_told_as_its_job() -> None:
    alerts = Alerts()
    ended = RunEnded("r1", "__ASSET_JOB", "failure", at(1), at(0), reason="START_TIMEOUT")
    assert told(await alerts.alerts(event(1, ended))) == [("failing", "run_failure", "__ASSET_JOB")]


@pytest.mark.parametrize(
    ("description", "metadata", "rows", "said"),
    [
        (None, {"rows_failed": 2, "rows_total": 48211}, None, "Check unique did not pass (2 of 48,211 rows failed)"),
        ("twice", {"failed_count": 1, "total_count": 9}, None, "twice (1 of 9 rows failed)"),
        (None, {"dagster_dbt/failed_row_count": 3}, 1000, "Check unique did not pass (3 of 1,000 rows failed)"),
        ("no owner", {"rows_failed": 1}, None, "no owner (1 row failed)"),
        (None, {"rows_failed": 7}, 5, "Check unique did not pass (7 rows failed)"),
        (None, {"rows_failed": "many", "rows_total": 9}, None, "Check unique did not pass"),
        (None, {"rows_failed": float("nan")}, None, "Check unique did not pass"),
        (None, {"rows_failed": 0, "rows_total": 9}, None, "Check unique did not pass"),
        ("x" * 9000, {"rows_failed": 2, "rows_total": 9}, None, "x" * 3979 + " (2 of 9 rows failed)"),
    ],
)
async def test_a_failed_check_says_how_many_rows(
    description: str | None, metadata: dict[str, Json], rows: int | None, said: str
) -> None:
    outcome = msgspec.structs.replace(check(False, description=description), metadata=metadata, rows=rows)
    (alert,) = await Alerts().alerts(event(0, outcome))
    assert alert.summary == said


async def test_of_a_run_that_failed_without_a_reason_dagsters_word_is_told() -> None:
    outside = msgspec.structs.replace(event(0, run_ended()), message="This run has been marked as failed from outside.")
    (alert,) = await Alerts().alerts(outside)
    assert alert.summary == "This run has been marked as failed from outside."
    assert [a.summary for a in await Alerts().alerts(event(0, run_ended()))] == ["The run failed"]


@pytest.mark.parametrize("status", ["canceled", "success"])
async def test_of_a_cancelled_run_nothing_is_told(status: RunStatus) -> None:
    alerts = Alerts()
    assert await alerts(event(0, failed(interrupted=True), step(interrupted=True), raised(interrupted=True))) == []
    alerts.restart()
    assert await alerts(event(1, run_ended(status))) == []
    assert await alerts(event(2, run_ended("failure", raised=True))) == []


@pytest.mark.parametrize(("status", "said"), [("canceled", 0), ("failure", 1)])
async def test_what_is_said_after_the_runs_end_goes_with_it(status: RunStatus, said: int) -> None:
    alerts = Alerts()
    await alerts(event(0, run_ended(status, raised=True)))
    alerts.restart()
    assert len(await alerts(event(1, failed(interrupted=True)))) == said
    assert "waiting" not in {key[0] for key in alerts.state.stored}


async def test_only_the_latest_ended_runs_are_remembered() -> None:
    alerts = Alerts()
    await alerts(*(event(n, run_ended("canceled", run=f"{n}")) for n in range(1001)))
    assert len(alerts.state.stored) == 501


@pytest.mark.parametrize("status", ["failure", "unfinished"])
async def test_what_was_interrupted_is_told_once_the_run_has_failed(status: RunStatus) -> None:
    alerts = Alerts()
    await alerts(event(0, failed(interrupted=True)))
    alerts.restart()
    (alert,) = await alerts.alerts(event(60, run_ended(status)))
    assert (alert.kind, alert.first_ns, alert.now_ns) == ("asset_failure", at(0), at(60))


async def test_beyond_the_limit_an_interrupted_failure_is_told_at_once() -> None:
    alerts = Alerts(AlertsConfig(max_waiting=1))
    found = await alerts.alerts(event(0, failed(interrupted=True)), event(1, failed(interrupted=True, run="r9")))
    assert [a.run_id for a in found] == ["r9"]


CATALOG = Catalog(
    {
        "raw/orders": AssetFacts(
            "raw/orders",
            group="raw",
            owners=("team:data",),
            code_location="shop",
            metadata={"alert_severity_override": "critical", "alert_channels": '["slack", "pagerduty"]'},
        ),
        "raw/other": AssetFacts("raw/other", group="raw", metadata={"alert_channels": "slack, email"}),
        "raw/odd": AssetFacts("raw/odd", metadata={"alert_severity_override": "purple", "alert_channels": "[slack]"}),
    }
)


async def test_metadata_of_the_asset_decides_severity_and_channels_and_owners_come_from_the_catalog() -> None:
    found = await Alerts().alerts(
        event(0, failed(), failed("raw/other"), failed("raw/odd"), failed("new"), check(False, "WARN"), catalog=CATALOG)
    )
    assert [(a.severity, a.channels, a.owners, a.group) for a in found] == [
        ("CRITICAL", ("slack", "pagerduty"), ("team:data",), "raw"),
        ("ERROR", ("slack", "email"), ("raw",), "raw"),
        ("ERROR", ("slack",), (), ""),
        ("ERROR", (), (), ""),
        ("WARNING", ("slack", "pagerduty"), ("team:data",), "raw"),
    ]
    assert found[0].code_location == "shop"


async def test_links_are_filled_and_quoted() -> None:
    config = AlertsConfig(
        run_url="https://d/runs/{run_id}", trace_url="https://j/trace/{trace_id}", dashboard_url="https://d/a/{asset}"
    )
    alerts = Alerts(config)
    (alert,) = await alerts.alerts(event(0, failed("raw/a b?<>", run="6f1de2a6-8f5e-4d4e-9a51-0d2a3a1f5b77")))
    assert alert.links == Links(
        run="https://d/runs/6f1de2a6-8f5e-4d4e-9a51-0d2a3a1f5b77",
        trace="https://j/trace/6f1de2a68f5e4d4e9a510d2a3a1f5b77",
        dashboard="https://d/a/raw/a%20b%3F%3C%3E",
    )
    (run,) = await alerts.alerts(event(1, run_ended()))
    assert run.links.dashboard == ""


@pytest.mark.parametrize("url", ["javascript:alert(1)", "https://x/{secret}", "https://x/{", "https://x/{0.real}"])
async def test_a_broken_url_template_is_named(url: str) -> None:
    assert [path for path, _ in AlertsConfig(run_url=url).problems()] == ["run_url"]


async def test_an_unknown_mask_is_named() -> None:
    assert list(AlertsConfig(masks_without=("url", "nmbr")).problems()) == [
        ("masks_without", "there is no mask 'nmbr'")
    ]


async def test_files_are_told_without_the_folders_that_are_to_be_left_out() -> None:
    alerts = Alerts(AlertsConfig(strip_prefixes=("/opt", "/opt/app/")))
    (alert,) = await alerts.alerts(event(0, failed(error=ErrorInfo("E", "m", file="/opt/app/shop/load.py"))))
    assert alert.error == ErrorInfo("E", "m", file="shop/load.py")


async def test_the_runs_own_tags_travel_along_and_dagsters_stay_behind() -> None:
    own = {"team": "data", **{f"t{n:02}": "v" * 999 for n in range(19)}, "zz": "x"}
    tags = {"dagster/partition": "x", ".dagster/grpc_info": "{}", **own}
    (alert,) = await Alerts().alerts(event(0, failed(), run=RunFacts(tags=tags)))
    assert alert.tags == {f"t{n:02}": "v" * 200 for n in range(19)} | {"team": "data"}


async def test_the_backfill_travels_along() -> None:
    (alert,) = await Alerts().alerts(event(0, failed(), run=RunFacts(backfill="b1", code_location="shop")))
    assert (alert.tags, alert.code_location) == ({"dagster/backfill": "b1"}, "shop")


async def test_of_a_backfill_it_is_known_how_many_partitions_it_has_planned() -> None:
    alerts = Alerts()

    def planned(number: int, asset: str = "raw/orders", parent: str = "") -> Event:
        facts = RunFacts(backfill="bf", parent_run_id=parent)
        return event(number, AssetPlanned(f"r{number}", "nightly", "s", asset, f"p{number}", at(number)), run=facts)

    await alerts(*(planned(number) for number in range(1000)), planned(1000, "raw/users"), planned(7, parent="r7"))
    alerts.restart()
    (alert,) = await alerts.alerts(event(1001, failed(partition="p7"), run=RunFacts(backfill="bf")))
    assert alert.planned == 1000
    (other,) = await alerts.alerts(event(1002, failed(partition="p7"), run=RunFacts(backfill="another")))
    assert other.planned == 0


async def test_only_the_latest_backfills_are_counted() -> None:
    alerts = Alerts()
    for number in range(1001):
        outcome = AssetPlanned("r", "nightly", "s", "raw/orders", "p", at(number))
        await alerts(*(event(number, outcome, run=RunFacts(backfill=f"bf{number}")) for _ in range(2)))
    (old,) = await alerts.alerts(event(2000, failed(partition="p"), run=RunFacts(backfill="bf1")))
    (new,) = await alerts.alerts(event(2000, failed(partition="q"), run=RunFacts(backfill="bf999")))
    assert (old.planned, new.planned) == (0, 2)


async def test_new_edges_are_told_once() -> None:
    alerts = Alerts()
    tags = ["dagster/input_data_version/raw/a", "dagster/input_event_pointer/raw/a", "dagster/code_version"]
    assert await alerts(event(0, made("b", tags=tags))) == [Edges("b", ("raw/a",), at(0))]
    assert await alerts(event(1, made("b", tags=tags))) == []
    lineage = made("b")
    lineage.metadata["dagster/column_lineage"] = {
        "x": [{"asset_key": "raw/c", "column_name": "y"}, {"asset_key": "b", "column_name": "x"}, "odd"], "z": None
    }  # fmt: skip
    assert await alerts(event(2, lineage)) == [Edges("b", ("raw/a", "raw/c"), at(2))]


async def test_a_planned_asset_is_heard_of_once() -> None:
    planned = AssetPlanned("r1", "nightly", "s", "b", None, at(0))
    alerts = Alerts()
    assert await alerts(event(0, planned, planned)) == [Edges("b", (), at(0))]
    assert await alerts(event(1, made("b", tags=["dagster/input_data_version/a"]))) == [Edges("b", ("a",), at(1))]


async def test_after_a_start_all_edges_are_told_at_the_first_flush() -> None:
    alerts = Alerts()
    await alerts(event(0, made("b", tags=["dagster/input_data_version/a"])))
    alerts.restart()
    await alerts(event(1))
    connector = alerts.connector
    assert await connector.flush(at(2)) == [Edges("b", ("a",), at(2))]  # type: ignore[union-attr]  # Flushes
    assert await connector.flush(at(3)) == ()  # type: ignore[union-attr]  # Flushes


async def test_edges_can_be_left_alone() -> None:
    alerts = Alerts(AlertsConfig(learn_edges=False))
    assert await alerts(event(0, made("b", tags=["dagster/input_data_version/a"]))) == []


async def test_beyond_the_limit_failures_are_still_told() -> None:
    alerts = Alerts(AlertsConfig(max_open=1))
    found = await alerts.alerts(event(0, failed("a"), failed("b"), failed("a")))
    assert told(found) == [("failing", "asset_failure", "a"), ("failing", "asset_failure", "b"), *told(found)[:1]]
    assert told(await alerts.alerts(event(1, made("a"), made("b")))) == [("recovered", "asset_failure", "a")]


async def test_a_success_ends_only_what_failed_before_it() -> None:
    alerts = Alerts()
    (finding,) = await alerts.alerts(event(9, failed(minutes=8)))
    assert await alerts(event(9, made(minutes=7))) == []
    alerts.restart()
    (over,) = await alerts.alerts(event(9, made(minutes=8)))
    assert (over.state, over.fingerprint, over.last_ns) == ("recovered", finding.fingerprint, at(8))


async def test_of_two_failures_the_later_has_to_be_outlived() -> None:
    alerts = Alerts()
    await alerts(event(9, failed(minutes=8)), event(9, failed(minutes=3)))
    assert await alerts(event(9, made(minutes=5))) == []
    assert told(await alerts.alerts(event(9, made(minutes=9)))) == [("recovered", "asset_failure", "raw/orders")]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_failure_that_is_read_after_a_later_success_is_over_at_once(restarted: bool) -> None:
    alerts = Alerts()
    success = event(9, *(when(5, o) for o in (made(), check(True), step("success"), run_ended("success"))))
    failure = event(9, *(when(4, o) for o in (failed(), check(False), raised(), run_ended())))
    if restarted:
        await alerts(success)
        alerts.restart()
        found = await alerts.alerts(failure)
    else:
        found = await alerts.alerts(success, failure)
    assert told(found) == [
        (state, kind, name)
        for kind, name in (
            ("asset_failure", "raw/orders"), ("check_failure", "unique"), ("run_failure", "s"),
            ("run_failure", "nightly"),
        )
        for state in ("failing", "recovered")
    ]  # fmt: skip
    assert found[1].last_ns == at(5)
    assert (
        await alerts(event(10, *(when(10, o) for o in (made(), check(True), step("success"), run_ended("success")))))
        == []
    )


async def test_of_what_a_step_took_along_only_what_was_made_since_is_over() -> None:
    alerts = Alerts()
    await alerts(event(9, made("b", minutes=5)))
    found = await alerts.alerts(event(9, missing("a"), missing("b"), missing("c")))
    assert [(a.state, a.asset) for a in found] == [("failing", "a"), ("recovered", "b")]
    assert found[1].fingerprint == found[0].fingerprint


async def test_a_clock_that_is_ahead_does_not_outlive_successes() -> None:
    alerts = Alerts()
    await alerts(event(1, failed(minutes=600)))
    assert told(await alerts.alerts(event(2, made(minutes=2)))) == [("recovered", "asset_failure", "raw/orders")]
    await alerts(event(3, made(minutes=600)))
    assert told(await alerts.alerts(event(4, failed(minutes=4)))) == [("failing", "asset_failure", "raw/orders")]


RUNS = st.lists(
    st.tuples(st.sampled_from(("a", "b")), st.sampled_from((None, "p", "q")), st.booleans()), min_size=1, max_size=12
)


@given(RUNS, st.lists(st.integers(0, 2), min_size=12, max_size=12), st.permutations(range(3)), st.booleans())
def test_in_whatever_order_partitions_are_read_the_same_assets_fail_in_the_end(
    runs: list[tuple[str, str | None, bool]], parts: list[int], order: list[int], whole: bool
) -> None:
    """Each run in one partition of the input, partitions one after the other."""

    def event_of(minute: int) -> Event:
        asset, partition, well = runs[minute]
        outcome = made(asset, partition, minutes=minute) if well else failed(asset, partition, minutes=minute)
        return event(100, outcome)

    def left(minutes: Sequence[int]) -> object:
        alerts = Alerts(AlertsConfig(resolve="asset" if whole else "partition"))
        for minute in minutes:
            anyio.run(alerts, event_of(minute))
        return {key: row.value for key, row in alerts.state.stored.items() if key[0] == "failing_subjects"}

    minutes = range(len(runs))
    assert left([m for part in order for m in minutes if parts[m] == part]) == left(minutes)


async def test_once_all_is_well_state_holds_only_since_when() -> None:
    alerts = Alerts()
    await alerts(event(0, failed(partition="a"), step(), raised()), event(HOUR / MINUTE, check(False)))
    await alerts(event(1, made(partition="a"), step("success"), run_ended("success"), check(True)))
    assert {table for table, _ in alerts.state.stored} == {"succeeded"}
