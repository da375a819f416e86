"""One record an event, what it says, and which questions of a log query it answers."""

import pytest

from connectors import slow
from connectors.logs import SPEC, LogsConfig
from connectors.slow import Baselines, SlowConfig
from pipeline.batch import Batch
from pipeline.clock import SECOND
from pipeline.events import (
    CheckResult,
    Detail,
    Event,
    FreshnessChanged,
    LogFields,
    Marker,
    MaterializationFailed,
    MaterializationPlanned,
    Materialized,
    RetryScheduled,
    RunFailed,
    StepFailed,
    StepSucceeded,
)
from pipeline.facts import ErrorInfo, Metadata, RunFacts
from pipeline.log_levels import log_level
from pipeline.options import Duration
from pipeline.outcomes import AssetFailed, AssetGone, AssetMaterialized, Outcome, RunEnded, StepEnded
from pipeline.signals import LogRecord
from pipeline.testing.context import FakeContext, MemoryState
from pipeline.trace_ids import run_span_id, step_span_id, trace_id

pytestmark = pytest.mark.anyio

RUN = "0af76519-16cd-43dd-8448-eb211c80319c"
ERROR = ErrorInfo("TimeoutError", "after 30s", stack="Traceback …")
MS = 1_000_000


def event(
    kind: str = "LOG",
    message: str = "hello",
    *outcomes: Outcome,
    detail: Detail | None = None,
    level: int = 10,
    step: str = "load",
    attempt: int = 1,
    assets: tuple[str, ...] = (),
    raw: bytes = b"{}",
    offset: int = 7,
    run: RunFacts | None = None,
    run_id: str = RUN,
    headers: tuple[tuple[str, bytes], ...] = (),
) -> Event:
    job = "daily" if run_id else ""
    told = Event(raw, kind, run_id, 5 * SECOND, level, job, step, message, "COMPUTE", detail, "events/3", offset)
    told.attempt, told.assets, told.outcomes, told.run, told.headers = attempt, assets, outcomes, run, headers
    return told


def made(ms: float = 152, asset: str = "raw/orders", execution: bool = True) -> AssetMaterialized:
    return AssetMaterialized(RUN, "daily", "load", 1, asset, None, 1, int(ms * MS), execution, {}, {})


def materialization(ms: float = 152, description: str | None = None) -> Event:
    detail = Materialized("raw/orders", "2026-03-01", {}, {}, description)
    return event("ASSET_MATERIALIZATION", "Materialized value raw orders.", made(ms), detail=detail)


def not_made(asset: str) -> AssetFailed:
    return AssetFailed(RUN, "daily", "load", 1, asset, None, 6 * SECOND, 900 * MS, ERROR)


def failure(*assets: str) -> Event:
    ended = StepEnded(RUN, "daily", "load", 1, "failure", 900 * MS, 0, error=ERROR)
    outcomes = (ended, *(not_made(a) for a in assets))
    return event("STEP_FAILURE", "load failed.", *outcomes, detail=StepFailed(ERROR), level=40, assets=assets)


async def records_of(*events: Event, config: LogsConfig | None = None) -> list[LogRecord]:
    async with SPEC.build(config or LogsConfig(), FakeContext()) as connector:
        return list(await connector.process(Batch(events, "s", 0)))


async def record_of(told: Event) -> LogRecord:
    (record,) = await records_of(told)
    return record


async def test_an_event_is_a_record_with_its_run_its_step_and_the_span_of_its_attempt() -> None:
    record = await record_of(event(level=20, run=RunFacts(code_location="shop", partition="2026-03-01")))
    assert record == LogRecord(
        at_ns=5 * SECOND,
        level="INFO",
        event="LOG",
        message="hello",
        event_id=f"{RUN}:7",
        run_id=RUN,
        job_name="daily",
        step_key="load",
        partition="2026-03-01",
        trace_id=trace_id(RUN),
        span_id=step_span_id(RUN, "load", 1),
        dagster_level=20,
        code_location="shop",
    )


async def test_what_the_ledger_makes_up_is_no_record() -> None:
    assert await records_of(event(raw=b"")) == []


async def test_a_record_outside_a_step_or_of_one_that_never_began_leads_to_the_runs_span() -> None:
    vain = "Dependencies for step load failed: ['x']. Not executing."
    skipped = "Skipping step load due to skipped dependencies: ['x.result']."
    planned = event("ASSET_MATERIALIZATION_PLANNED", detail=MaterializationPlanned("a"))
    for told in (event(step="", attempt=0), event("STEP_SKIPPED"), event("LOG", vain), event("LOG", skipped), planned):
        assert (await record_of(told)).span_id == run_span_id(RUN)


async def test_a_record_without_a_run_has_no_trace() -> None:
    record = await record_of(event(run_id="", step="", attempt=0))
    assert (record.trace_id, record.span_id, record.event_id) == ("", "", "events/3:7")


async def test_equal_events_have_ids_of_their_own_and_a_record_read_again_has_the_same() -> None:
    first, second = await records_of(event(offset=1), event(offset=2))
    assert first.event_id != second.event_id
    assert await record_of(event(offset=1)) == first


async def test_an_event_that_was_sent_twice_keeps_the_id_of_its_storage() -> None:
    headers = (("dagtel-storage-id", b"42"), ("dagtel-instance", b"eu"))
    ids = {r.event_id for r in await records_of(event(offset=1, headers=headers), event(offset=9, headers=headers))}
    assert ids == {f"{RUN}:42"}


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("STEP_START", "started"),
        ("STEP_SUCCESS", "success"),
        ("STEP_FAILURE", "failure"),
        ("STEP_UP_FOR_RETRY", "retry"),
        ("STEP_RESTARTED", "started"),
        ("STEP_SKIPPED", "skipped"),
        ("PIPELINE_ENQUEUED", "queued"),
        ("PIPELINE_START", "started"),
        ("PIPELINE_SUCCESS", "success"),
        ("PIPELINE_FAILURE", "failure"),
        ("PIPELINE_CANCELED", "canceled"),
        ("SOMETHING_NEW", ""),
        ("LOG", ""),
    ],
)
async def test_the_status_says_what_the_event_means(kind: str, status: str) -> None:
    assert (await record_of(event(kind))).status == status


async def test_a_success_is_a_materialization_of_one_asset_with_its_duration() -> None:
    record = await record_of(materialization(152))
    assert (record.asset_name, record.partition, record.status) == ("raw/orders", "2026-03-01", "success")
    assert (record.message, record.duration_ms, record.slow) == ("Succeeded in 152ms", 152.0, False)


async def test_what_user_code_said_of_a_materialization_is_kept() -> None:
    assert (await record_of(materialization(1240, "merged"))).message == "Succeeded in 1,240ms: merged"


async def test_a_materialization_without_a_known_start_keeps_dagsters_message() -> None:
    detail = Materialized("raw/orders", None, {}, {})
    record = await record_of(event("ASSET_MATERIALIZATION", "Materialized value raw orders.", detail=detail))
    assert (record.message, record.duration_ms, record.status) == ("Materialized value raw orders.", None, "success")


async def test_an_assets_successes_are_its_materializations_each_once() -> None:
    ended = StepEnded(RUN, "daily", "load", 1, "success", 2, 1)
    records = await records_of(
        event("STEP_START", assets=("raw/orders",)),
        materialization(),
        event("ASSET_CHECK_EVALUATION", detail=check(True), assets=("raw/orders",)),
        event("STEP_SUCCESS", "done", ended, detail=StepSucceeded(12.5), assets=("raw/orders",)),
    )
    answer = [r.event for r in records if r.asset_name == "raw/orders" and r.status == "success"]
    assert answer == ["ASSET_MATERIALIZATION"]
    assert records[-1].duration_ms == 12.5
    assert records[0].asset_name == "raw/orders"


async def test_a_failing_step_of_one_asset_names_it_on_its_own_record() -> None:
    record = await record_of(failure("raw/orders"))
    assert (record.asset_name, record.status, record.level, record.derived) == ("raw/orders", "failure", "ERROR", False)
    assert (record.error_type, record.error_message, record.error_stack) == ("TimeoutError", "after 30s", "Traceback …")
    assert record.duration_ms == 900.0


async def test_a_failing_step_of_several_assets_adds_a_derived_record_for_each() -> None:
    own, *derived = await records_of(failure("a", "b"))
    assert (own.asset_name, own.status, own.derived) == ("", "failure", False)
    assert [(r.asset_name, r.status, r.derived, r.level) for r in derived] == [
        ("a", "failure", True, "ERROR"),
        ("b", "failure", True, "ERROR"),
    ]
    assert len({r.event_id for r in (own, *derived)}) == 3
    assert derived[0].span_id == own.span_id
    assert derived[0].error_stack == ""


async def test_an_asset_whose_failure_is_known_later_gets_its_record_then() -> None:
    later = event("PIPELINE_FAILURE", "run failed", not_made("a"), step="", attempt=0, level=40)
    own, derived = await records_of(later)
    assert (own.asset_name, own.event) == ("", "PIPELINE_FAILURE")
    assert (derived.asset_name, derived.event, derived.step_key) == ("a", "STEP_FAILURE", "load")
    assert derived.message == 'a was not made: step "load" failed.'


async def test_a_failure_that_the_ledger_found_without_an_event_is_a_derived_record() -> None:
    (derived,) = await records_of(event("LOG", "", not_made("a"), raw=b""))
    assert (derived.derived, derived.asset_name, derived.status) == (True, "a", "failure")


async def test_a_failure_that_dagster_itself_tells_is_not_told_twice() -> None:
    detail = MaterializationFailed("a", None, ERROR, "FAILED_TO_MATERIALIZE")
    (counted,) = await records_of(event("ASSET_FAILED_TO_MATERIALIZE", "", not_made("a"), detail=detail))
    (repeated,) = await records_of(event("ASSET_FAILED_TO_MATERIALIZE", "", detail=detail))
    assert (counted.asset_name, counted.status) == ("a", "failure")
    assert repeated.status != "failure"


async def test_a_hook_is_no_success_of_the_asset() -> None:
    record = await record_of(event("HOOK_COMPLETED", assets=("a",)))
    assert (record.asset_name, record.status) == ("a", "")


def check(passed: bool, severity: str = "ERROR") -> CheckResult:
    return CheckResult("raw/orders", "no_nulls", passed, severity, False, None, None, {})


async def test_a_check_says_passed_or_failed_and_its_name() -> None:
    record = await record_of(event("ASSET_CHECK_EVALUATION", detail=check(False, "WARN")))
    assert (record.asset_name, record.status, record.level) == ("raw/orders", "failed", "WARNING")
    assert record.extra == {"check_name": "no_nulls", "check_severity": "WARN"}


@pytest.mark.parametrize(
    ("told", "level"),
    [
        (event("STEP_UP_FOR_RETRY", detail=RetryScheduled(ERROR)), "WARNING"),
        (event("ASSET_CHECK_EVALUATION", detail=check(True)), "INFO"),
        (event("ASSET_CHECK_EVALUATION", detail=check(False, "WARN")), "WARNING"),
        (event("ASSET_CHECK_EVALUATION", detail=check(False, "ERROR")), "ERROR"),
        (event("LOG", "Dependencies for step x failed: ['y']. Not executing.", level=40), "INFO"),
        (event("LOG", "it broke", level=40), "ERROR"),
        (event("LOG", "on fire", level=50), "CRITICAL"),
        (event("LOG", "odd", level=25), "INFO"),
        (event("LOG", "odder", level=-3), "DEBUG"),
        (event("LOG", "oddest", level=10**9), "CRITICAL"),
        (event("STEP_START"), "INFO"),
        (event("ASSET_MATERIALIZATION"), "INFO"),
        (event("STEP_OUTPUT"), "DEBUG"),
        (event("STEP_FAILURE", level=40), "ERROR"),
        (event("PIPELINE_CANCELED", level=40), "WARNING"),
    ],
)
async def test_the_level_is_what_the_event_means_and_dagsters_own_stands_beside_it(told: Event, level: str) -> None:
    assert log_level(told) == level
    record = await record_of(told)
    assert (record.level, record.dagster_level) == (level, told.level)


async def test_a_step_that_waited_in_vain_is_skipped() -> None:
    message = "Dependencies for step x were not executed: ['y']. Not executing."
    assert (await record_of(event("LOG", message, level=40, step=""))).status == "skipped"


async def test_fields_of_a_structured_log_travel_as_extra_fields() -> None:
    fields = LogFields({"rows_returned": 487, "level": "x"}, ERROR)
    record = await record_of(event("LOG", "api_fetch_success", detail=fields, level=20, assets=("a",)))
    assert record.extra == {"rows_returned": 487, "level": "x"}
    assert (record.asset_name, record.error_type) == ("a", "TimeoutError")


async def test_what_user_code_says_of_a_handled_error_stands_where_dagster_says_nothing() -> None:
    said: Metadata = {
        "asset_name": "dlt_glucose_entries", "error_type": "TimeoutError", "error_message": "no answer",
        "error_stack": "Traceback …", "partition": "2024-01-15", "duration_ms": 12,
    }  # fmt: skip
    record = await record_of(event(detail=LogFields(said)))
    assert (record.asset_name, record.error_type, record.error_message, record.error_stack) == (
        "dlt_glucose_entries", "TimeoutError", "no answer", "Traceback …"
    )  # fmt: skip
    assert (record.partition, record.duration_ms, record.status) == ("2024-01-15", 12, "")
    record = await record_of(event(detail=LogFields(said, ERROR), assets=("raw/orders",)))
    assert (record.asset_name, record.error_type) == ("raw/orders", ERROR.type)
    odd: Metadata = {"error_type": 5, "asset_name": None, "duration_ms": True, "partition": []}
    record = await record_of(event(detail=LogFields(odd)))
    assert (record.asset_name, record.error_type, record.partition, record.duration_ms) == ("", "", None, None)


async def test_a_run_failure_that_repeats_its_steps_error_does_not_repeat_the_stack() -> None:
    ended = RunEnded(RUN, "daily", "failure", 9 * MS, 4 * MS)
    told = event("PIPELINE_FAILURE", "failed", ended, detail=RunFailed(ERROR, "STEP_FAILURE", True), step="", attempt=0)
    record = await record_of(told)
    assert (record.error_type, record.error_stack, record.duration_ms) == ("TimeoutError", "", 5.0)


async def test_a_runs_success_says_how_long_it_took() -> None:
    ended = RunEnded(RUN, "daily", "success", 9 * MS, 4 * MS)
    assert (await record_of(event("PIPELINE_SUCCESS", "done", ended, step="", attempt=0))).duration_ms == 5.0


async def test_an_engine_marker_that_failed_shows_its_error_and_leaves_the_asset_to_the_steps_failure() -> None:
    told = event("RESOURCE_INIT_FAILURE", detail=Marker("", "resources", ERROR), level=40, assets=("a",))
    record = await record_of(told)
    assert (record.status, record.asset_name, record.error_type) == ("failure", "", "TimeoutError")


async def test_a_freshness_change_says_what_changed() -> None:
    detail = FreshnessChanged("raw/orders", "FAIL", "PASS", 1)
    record = await record_of(event("FRESHNESS_STATE_CHANGE", "", detail=detail, run_id="", step=""))
    assert (record.asset_name, record.message) == ("raw/orders", "Freshness of raw/orders: PASS → FAIL")


async def test_a_success_far_above_the_usual_is_slow() -> None:
    usual = [materialization(ms) for ms in (150, 145, 168, 156, 152)]
    *_, record = await records_of(*usual, materialization(1240))
    assert (record.slow, record.message) == (True, "Succeeded in 1,240ms (slow)")


async def test_nothing_is_slow_before_enough_is_known_or_by_a_few_milliseconds() -> None:
    few = await records_of(*(materialization(150) for _ in range(4)), materialization(1240))
    quick = await records_of(*(materialization(1) for _ in range(9)), materialization(20))
    assert not any(r.slow for r in (*few, *quick))


async def test_what_stays_slow_becomes_usual() -> None:
    config = LogsConfig(slow=SlowConfig(history=5))
    records = await records_of(
        *(materialization(150) for _ in range(5)), *(materialization(1240) for _ in range(9)), config=config
    )
    assert [r.slow for r in records] == [False] * 5 + [True] * 3 + [False] * 6


async def test_what_is_usual_survives_a_crash_and_is_forgotten_with_the_asset() -> None:
    state = MemoryState()
    table = state.table("baselines", str, tuple[float, ...], version=1)
    before = Baselines(SlowConfig(), table)
    for _ in range(5):
        before.learn(made(150))
    state.checkpoint()

    again = state.restart().table("baselines", str, tuple[float, ...], version=1)
    assert Baselines(SlowConfig(), again).is_slow(made(1240))

    async with SPEC.build(LogsConfig(), FakeContext(state=(memory := state.restart()))) as connector:
        gone = event("ASSET_WIPED", "", AssetGone("raw/orders", (), 1), run_id="", step="")
        await connector.process(Batch([gone], "s", 0))
    assert len(memory.tables["baselines"]) == 0


def test_baselines_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "MAX_ASSETS", 3)
    table = MemoryState().table("baselines", str, tuple[float, ...], version=1)
    baselines = Baselines(SlowConfig(history=4, at_least=2), table)
    for n in range(50):
        baselines.learn(made(n, asset=f"a{n % 5}"))
    assert sorted(table.items()) == [(f"a{k}", tuple(float(n * MS) for n in range(k + 30, 50, 5))) for k in range(3)]


@pytest.mark.parametrize("bad", [{"factor": 0.5}, {"at_least": 0}, {"at_least": 30, "history": 20}])
def test_a_baseline_that_could_never_work_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"factor|history"):
        SlowConfig(**bad)  # type: ignore[arg-type]


async def test_slowness_can_be_switched_off() -> None:
    config = LogsConfig(slow=SlowConfig(factor=0, excess=Duration(0)))
    records = await records_of(*(materialization(1) for _ in range(9)), materialization(9999), config=config)
    assert not any(r.slow for r in records)
