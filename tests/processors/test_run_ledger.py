"""What the ledger says of each way in which a run can go."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import pytest
from pytest import MonkeyPatch

from pipeline import outcomes as o
from pipeline.batch import Batch
from pipeline.events import Event, MaterializationFailed
from pipeline.facts import ErrorInfo
from pipeline.options import Duration
from pipeline.outcomes import (
    AssetFailed,
    AssetMaterialized,
    AssetSkipped,
    CheckRaised,
    InnerEnded,
    RunEnded,
    StepEnded,
    StepRaised,
)
from pipeline.runtime.tables import Row
from pipeline.testing.builders import CHECK_FAILED, INTERRUPTED, SECOND, START_NS, Fault, Log
from pipeline.testing.context import FakeContext, MemoryState
from processors.ledger import book
from processors.ledger.states import KeptRun, Tombstone
from processors.run_ledger import SPEC, RunLedger, RunLedgerConfig

pytestmark = pytest.mark.anyio
T = TypeVar("T")
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE


def ledger(context: FakeContext | None = None, **options: object) -> RunLedger:
    return RunLedger(RunLedgerConfig(**options), context or FakeContext(shard="test"))  # type: ignore[arg-type]


async def follow(*logs: Log, by: RunLedger | None = None) -> list[Event]:
    """The logs' events, one log after the other, annotated."""
    events = [event for log in logs for event in log.events()]
    given = await (by or ledger()).process(Batch(events, "test", max((e.now_ns for e in events), default=0)))
    return list(given.items)


def outcomes(events: Sequence[Event], kind: type[T]) -> list[T]:
    return [outcome for event in events for outcome in event.outcomes if isinstance(outcome, kind)]


async def told(log: Log, kind: type[T]) -> list[T]:
    return outcomes(await follow(log), kind)


def short(attempts: Sequence[StepEnded]) -> list[tuple[str, int, str]]:
    return [(a.step, a.attempt, a.status) for a in attempts]


def begun(job: str = "nightly") -> Log:
    return Log(job=job).run_queued().run_starting().run_start()


# --- runs ------------------------------------------------------------------------------------------------------------


async def test_a_run_ends_with_its_terminal_event_and_knows_its_times() -> None:
    log = begun().step_start("a").step_success("a").run_success()
    at = START_NS
    assert await told(log, RunEnded) == [
        RunEnded("run-1", "nightly", "success", at + 5 * SECOND, at + 2 * SECOND, at, at + SECOND)
    ]


async def test_a_terminal_event_without_a_start_ends_a_run_that_began_with_it() -> None:
    (ended,) = await told(Log().run_failure(None, "START_TIMEOUT"), RunEnded)
    assert (ended.status, ended.reason, ended.started_ns, ended.at_ns) == (
        "failure",
        "START_TIMEOUT",
        START_NS,
        START_NS,
    )
    assert not ended.raised


async def test_a_failure_that_a_daemon_reported_has_no_data() -> None:
    (ended,) = await told(begun().add("PIPELINE_FAILURE", None, None, level=40), RunEnded)
    assert (ended.status, ended.error, ended.reason, ended.raised) == ("failure", None, "", False)


async def test_a_run_ends_once_whatever_is_said_of_it_afterwards() -> None:
    log = begun().run_success().marker("ENGINE_EVENT").log("bye").run_success().run_failure()
    assert len(await told(log, RunEnded)) == 1
    zombie = begun().run_canceled().step_start("a").step_success("a").run_success()
    assert [r.status for r in await told(zombie, RunEnded)] == ["canceled"]


async def test_a_run_that_failed_by_a_step_raised_a_failure_of_its_own() -> None:
    (ended,) = await told(begun().step_start("a").step_failure("a").run_failure(Fault()), RunEnded)
    assert ended.raised
    assert ended.error == Fault().info()


async def test_a_failure_of_the_run_itself_was_raised_by_nothing_in_it() -> None:
    log = begun().step_start("a").step_success("a").run_failure(Fault("Lost"), "UNEXPECTED_TERMINATION")
    (ended,) = await told(log, RunEnded)
    assert (ended.raised, ended.reason) == (False, "UNEXPECTED_TERMINATION")


async def test_a_re_executed_run_is_a_run_like_any_other() -> None:
    first = begun().plan("a", "a").step_start("a").step_failure("a").run_failure()
    again = Log("run-2", start_ns=first.now_ns).run_start().plan("a", "a").step_start("a").materialize("a", "a")
    events = await follow(first, again.step_success("a").run_success())
    assert [(r.run, r.status) for r in outcomes(events, RunEnded)] == [("run-1", "failure"), ("run-2", "success")]
    assert [(a.run, a.attempt) for a in outcomes(events, StepEnded)] == [("run-1", 1), ("run-2", 1)]
    assert [(m.run, m.execution) for m in outcomes(events, AssetMaterialized)] == [("run-2", True)]


# --- steps -----------------------------------------------------------------------------------------------------------


async def test_each_attempt_of_a_step_ends_once_and_is_counted() -> None:
    log = (
        begun()
        .step_start("a").step_up_for_retry("a", Fault("Timeout"))
        .step_restarted("a", 2).step_up_for_retry("a")
        .step_restarted("a", 3).step_success("a").run_success()
    )  # fmt: skip
    attempts = await told(log, StepEnded)
    assert short(attempts) == [("a", 1, "retry"), ("a", 2, "retry"), ("a", 3, "success")]
    assert attempts[0].error is not None
    assert attempts[0].error.type == "Timeout"
    assert attempts[2].started_ns == START_NS + 7 * SECOND


async def test_events_know_their_attempt_and_the_assets_of_their_step() -> None:
    log = (
        begun().plan("raw/x", "a").plan("raw/y", "a")
        .marker("STEP_WORKER_STARTING", start="go", step="a").step_start("a").log("one", step="a")
        .step_up_for_retry("a").log("after", step="a")
        .marker("STEP_WORKER_STARTING", start="go", step="a").step_restarted("a").log("two", step="a")
        .log("no step")
    )  # fmt: skip
    events = (await follow(log))[5:]
    assert [e.attempt for e in events] == [1, 1, 1, 1, 1, 2, 2, 2, 0]
    assert {e.assets for e in events[:-1]} == {("raw/x", "raw/y")}
    assert events[-1].assets == ()


async def test_an_attempt_that_fails_before_it_started_has_one_end() -> None:
    log = (
        begun().marker("STEP_WORKER_STARTING", start="go", step="a")
        .marker("RESOURCE_INIT_FAILURE", end="resources", step="a", error=Fault("Refused"))
        .step_failure("a", Fault("Refused"), "FRAMEWORK_ERROR").run_failure(None, "RUN_EXCEPTION")
    )  # fmt: skip
    (attempt,) = await told(log, StepEnded)
    assert (attempt.attempt, attempt.status) == (1, "failure")
    assert attempt.started_ns == START_NS + 3 * SECOND


async def test_a_retry_that_fails_before_it_restarted_is_an_attempt_of_its_own() -> None:
    log = begun().step_start("a").step_up_for_retry("a").step_failure("a", Fault("Refused"))
    assert short(await told(log, StepEnded)) == [("a", 1, "retry"), ("a", 2, "failure")]


async def test_a_process_that_died_fails_its_step() -> None:
    crash = Fault("ChildProcessCrashException", "", "dagster._core.executor.child_process_executor")
    (attempt,) = await told(begun().step_start("a").step_failure("a", crash, "").run_failure(), StepEnded)
    assert attempt.error is not None
    assert (attempt.error.type, attempt.error.message) == ("ChildProcessCrashException", "")


async def test_a_second_failure_of_a_step_that_is_over_says_nothing_new() -> None:
    log = begun().step_start("a").step_success("a").step_failure("a").step_failure("a").run_failure()
    assert short(await told(log, StepEnded)) == [("a", 1, "success")]


async def test_a_skipped_step_has_no_attempt() -> None:
    log = begun().step_skipped("a").not_executed("b", "a").run_success()
    assert await told(log, StepEnded) == []


@pytest.mark.parametrize(
    ("end", "status"),
    [(Log.run_canceled, "canceled"), (Log.run_failure, "unfinished"), (Log.run_success, "unfinished")],
)
async def test_attempts_left_open_end_with_their_run(end: object, status: str) -> None:
    log = begun().step_start("a").step_start("b").step_success("b")
    end(log)  # type: ignore[operator]
    attempts = await told(log, StepEnded)
    assert [(a.step, a.status, a.at_ns) for a in attempts if a.step == "a"] == [("a", status, START_NS + 6 * SECOND)]


async def test_steps_of_several_processes_interleave() -> None:
    log = begun()
    for name in ("x[1]", "x[2]", "x[3]"):
        log.marker("STEP_WORKER_STARTING", start="go", step=name)
    for name in ("x[2]", "x[1]", "x[3]"):
        log.step_start(name)
    log.step_up_for_retry("x[1]").step_success("x[3]").step_restarted("x[1]").step_failure("x[1]").step_success("x[2]")
    assert short(await told(log.run_failure(), StepEnded)) == [
        ("x[1]", 1, "retry"), ("x[3]", 1, "success"), ("x[1]", 2, "failure"), ("x[2]", 1, "success"),
    ]  # fmt: skip


async def test_events_of_a_step_may_come_out_of_order() -> None:
    restart_first = Log().run_start().step_start("a").after(2).step_restarted("a").after(-2).step_up_for_retry("a")
    assert short(await told(restart_first.after(2).step_success("a").run_success(), StepEnded)) == [
        ("a", 1, "retry"), ("a", 2, "success"),
    ]  # fmt: skip
    end_first = Log().run_start().after(5).step_success("a", 4000).after(-5).step_start("a").run_success()
    (attempt,) = await told(end_first, StepEnded)
    assert (attempt.attempt, attempt.at_ns - attempt.started_ns) == (1, 4 * SECOND)


async def test_who_comes_in_midway_takes_the_attempt_from_the_message() -> None:
    log = Log().step_restarted("a", 3).step_success("a")
    assert short(await told(log, StepEnded)) == [("a", 3, "success")]


async def test_an_interrupted_step_says_so() -> None:
    log = begun().plan("x", "a").step_start("a").step_failure("a", INTERRUPTED, "INTERRUPT").run_canceled()
    events = await follow(log)
    assert [(a.status, a.interrupted) for a in outcomes(events, StepEnded)] == [("failure", True)]
    assert [(a.asset, a.interrupted) for a in outcomes(events, AssetFailed)] == [("x", True)]
    assert outcomes(events, RunEnded)[0].status == "canceled"


async def test_a_hook_s_error_fails_nothing() -> None:
    log = begun().step_start("a").step_success("a").hook_errored("a").run_success()
    events = await follow(log)
    assert short(outcomes(events, StepEnded)) == [("a", 1, "success")]
    assert not outcomes(events, RunEnded)[0].raised


# --- assets ----------------------------------------------------------------------------------------------------------


async def test_an_asset_counts_as_executed_once_a_run() -> None:
    log = begun().plan("x", "a", "p1").plan("x", "a", "p2").step_start("a")
    log.materialize("x", "a", "p1").materialize("x", "a", "p2").step_success("a").run_success()
    made = await told(log, AssetMaterialized)
    assert [(m.partition, m.execution, m.duration_ns) for m in made] == [
        ("p1", True, SECOND), ("p2", False, 2 * SECOND),
    ]  # fmt: skip


async def test_what_has_no_run_is_materialized_but_not_executed() -> None:
    events = await follow(Log("").materialize("x", metadata={"dagster/row_count": 3}).observe("y").freshness("z"))
    (made,) = outcomes(events, AssetMaterialized)
    assert (made.run, made.execution, made.duration_ns) == ("", False, None)
    assert [type(outcome) for e in events for outcome in e.outcomes] == [
        o.AssetMaterialized, o.AssetObserved, o.FreshnessState,
    ]  # fmt: skip


async def test_a_wiped_asset_is_gone() -> None:
    assert await told(Log("").wiped("x", "p1"), o.AssetGone) == [o.AssetGone("x", ("p1",), START_NS)]


async def test_an_asset_fails_with_its_step_and_what_stands_behind_it_is_skipped() -> None:
    log = begun().plan("x", "a", "p").plan("y", "b").step_start("a").step_failure("a", Fault("KeyError", "'JPY'"))
    events = await follow(log.not_executed("b", "a").run_failure())
    (failed,) = outcomes(events, AssetFailed)
    assert failed == AssetFailed(
        "run-1", "nightly", "a", 1, "x", "p", START_NS + 6 * SECOND, SECOND, Fault("KeyError", "'JPY'").info()
    )
    assert failed in events[6].outcomes
    assert [s.asset for s in outcomes(events, AssetSkipped)] == ["y"]


async def test_of_a_subset_what_was_made_before_the_error_succeeded() -> None:
    log = begun().plan("x", "multi").plan("y", "multi").plan("z", "multi").step_start("multi")
    events = await follow(log.materialize("x", "multi").step_failure("multi").run_failure())
    assert [m.asset for m in outcomes(events, AssetMaterialized) if m.execution] == ["x"]
    assert [f.asset for f in outcomes(events, AssetFailed)] == ["y", "z"]


def raised(events: Sequence[Event]) -> list[tuple[str, str]]:
    """The event that tells of a step by itself, and the step."""
    return [(e.type, s.step) for e in events for s in e.outcomes if isinstance(s, StepRaised)]


async def test_a_step_that_fails_after_all_its_assets_were_made_is_told_by_itself() -> None:
    log = begun().plan("x", "a").plan("y", "b").step_start("a").step_start("b").materialize("x", "a")
    events = await follow(log.step_failure("b").step_failure("a", Fault("Late")).run_failure(Fault()))
    assert [f.asset for f in outcomes(events, AssetFailed)] == ["y"]
    assert raised(events) == [("STEP_FAILURE", "a")]
    assert outcomes(events, RunEnded)[0].raised


async def test_a_step_that_makes_no_asset_is_told_by_itself_once() -> None:
    log = begun().step_start("a").step_failure("a").step_failure("a").run_failure()
    assert raised(await follow(log)) == [("STEP_FAILURE", "a")]


async def test_a_step_of_a_graph_is_told_at_the_end_when_the_graph_s_asset_was_made_after_all() -> None:
    log = begun().plan("x", "g.last").step_start("g.last").step_start("g.side").step_failure("g.side")
    events = await follow(log.materialize("x", "g.last").step_success("g.last").run_failure())
    assert outcomes(events, AssetFailed) == []
    assert raised(events) == [("PIPELINE_FAILURE", "g.side")]


async def test_a_step_of_a_graph_is_not_told_where_the_graph_s_asset_tells_of_it() -> None:
    log = begun().plan("x", "g.x").plan("y", "g.y").step_start("g.load").step_failure("g.load")
    events = await follow(log.not_executed("g.x", "g.load").not_executed("g.y", "g.load").run_failure())
    assert [f.asset for f in outcomes(events, AssetFailed)] == ["x", "y"]
    assert raised(events) == []


async def test_of_an_asset_s_graph_steps_that_fail_alike_are_told_once_and_others_by_themselves() -> None:
    log = begun().plan("x", "g.last")
    for step in ("g.m[a]", "g.m[b]", "g.m[c]"):
        log.step_start(step)
    log.step_failure("g.m[a]", Fault("Down")).step_failure("g.m[b]", Fault("Down")).step_failure("g.m[c]", Fault("Bug"))
    events = await follow(log.not_executed("g.last", "g.m[a]").run_failure())
    assert [f.error and f.error.type for f in outcomes(events, AssetFailed)] == ["Down"]
    assert raised(events) == [("STEP_FAILURE", "g.m[c]")]


async def test_a_step_whose_graph_s_assets_end_elsewhere_is_told_by_itself() -> None:
    log = begun().plan("x", "g.sub.last").step_start("g.load").step_failure("g.load")
    events = await follow(log.not_executed("g.sub.last", "g.load").run_failure())
    assert [s.asset for s in outcomes(events, AssetSkipped)] == ["x"]
    assert raised(events) == [("STEP_FAILURE", "g.load")]


async def test_what_fails_after_the_run_s_end_is_decided_at_once() -> None:
    log = begun().plan("x", "g.x").plan("y", "g.y").step_start("g.load").step_start("a").run_canceled()
    events = await follow(log.step_failure("g.load", INTERRUPTED, "INTERRUPT").step_failure("a", Fault("Own")))
    assert [(f.asset, f.interrupted) for f in outcomes(events, AssetFailed)] == [("x", True), ("y", True)]
    assert raised(events) == [("STEP_FAILURE", "a")]


async def test_a_retry_that_fails_before_it_begins_is_no_attempt_that_began() -> None:
    log = begun().step_start("a").step_up_for_retry("a").step_failure("a", Fault("Crash")).run_failure()
    assert [(a.attempt, a.status, a.begun) for a in await told(log, StepEnded)] == [
        (1, "retry", True), (2, "failure", False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("log", "phase"),
    [
        (Log().plan("x", "a"), "not_started"),
        (Log().run_queued(), "queued"),
        (Log().run_queued().run_starting(), "starting"),
        (begun().step_start("a"), "started"),
        (begun().add("PIPELINE_CANCELING"), "canceling"),
        (begun().add("RUN_SUSPENDED"), "suspended"),
        (begun().add("RUN_SUSPENDED").add("RUN_RESUMED"), "started"),
    ],
)
async def test_a_run_left_open_says_where_it_was_last_seen(log: Log, phase: str) -> None:
    by = ledger()
    await follow(log, by=by)
    (end,) = outcomes(list(await by.finish(START_NS + HOUR)), RunEnded)
    assert (end.status, end.phase) == ("unfinished", phase)


async def test_a_graph_s_asset_fails_with_the_inner_step_that_failed() -> None:
    log = begun().plan("x", "g.last").step_start("g.first").step_failure("g.first", Fault("Boom"))
    events = await follow(log.not_executed("g.last", "g.first").run_failure())
    (failed,) = outcomes(events, AssetFailed)
    assert (failed.asset, failed.step) == ("x", "g.first")
    assert failed in events[5].outcomes
    (step,) = outcomes(events, StepEnded)
    assert step.assets == ("x",)


async def test_an_asset_of_a_graph_that_may_yet_be_made_is_not_failed_by_its_neighbour() -> None:
    log = begun().plan("x", "g.one").plan("y", "g.two").step_start("g.one").step_failure("g.one")
    log.step_start("g.two").materialize("y", "g.two").step_success("g.two").run_failure()
    events = await follow(log)
    assert [f.asset for f in outcomes(events, AssetFailed)] == ["x"]
    assert [m.execution for m in outcomes(events, AssetMaterialized)] == [True]


async def test_an_asset_of_a_graph_fails_once_it_is_known_not_to_be_made() -> None:
    log = begun().plan("x", "g.one").plan("y", "g.two").step_start("g.load").step_failure("g.load", Fault("Boom"))
    log.not_executed("g.one", "g.load").run_failure()
    events = await follow(log)
    failed = outcomes(events, AssetFailed)
    assert [(f.asset, f.step, f.error and f.error.type) for f in failed] == [
        ("x", "g.load", "Boom"), ("y", "g.load", "Boom"),
    ]  # fmt: skip
    assert failed[0] in events[7].outcomes
    assert failed[1] in events[8].outcomes
    assert outcomes(events, AssetSkipped) == []
    assert outcomes(events, RunEnded)[0].raised


async def test_a_step_of_another_graph_fails_nothing() -> None:
    log = begun().plan("x", "g.inner.last").step_start("g.other").step_failure("g.other").run_failure()
    events = await follow(log)
    assert outcomes(events, AssetFailed) == []
    assert [s.asset for s in outcomes(events, AssetSkipped)] == ["x"]


async def test_an_asset_planned_after_its_step_failed_fails_at_the_run_s_end() -> None:
    log = begun().step_start("a").step_failure("a").plan("x", "a").run_failure()
    assert [f.asset for f in await told(log, AssetFailed)] == ["x"]


async def test_an_asset_only_observed_is_neither_failed_nor_skipped() -> None:
    log = begun().plan("x", "a").step_start("a").observe("x", "a").step_success("a").run_success()
    events = await follow(log)
    assert outcomes(events, AssetSkipped) == outcomes(events, AssetFailed) == []


async def test_an_asset_that_nobody_planned_is_executed_when_it_is_made() -> None:
    log = begun().step_start("op").materialize("x", "op").step_success("op").run_success()
    events = await follow(log)
    assert [m.execution for m in outcomes(events, AssetMaterialized)] == [True]
    assert outcomes(events, StepEnded)[0].assets == ("x",)


async def test_partitions_stand_where_there_is_one() -> None:
    one = begun().plan("x", "a", "p1").step_start("a").step_failure("a").run_failure()
    several = begun().plan("x", "a", "p1").plan("x", "a", "p2").step_start("a").step_failure("a").run_failure()
    of_run = Log().run_queued("p9").run_start().step_start("op").step_success("op").run_success()
    assert [(f.partition) for f in await told(one, AssetFailed)] == ["p1"]
    assert [(f.partition) for f in await told(several, AssetFailed)] == [None]
    assert [(a.partition) for a in await told(of_run, StepEnded)] == ["p9"]


async def test_what_fails_after_the_run_s_end_was_told_still_counts() -> None:
    log = begun().plan("x", "a").step_start("a").run_canceled().step_failure("a", INTERRUPTED, "INTERRUPT")
    events = await follow(log)
    assert short(outcomes(events, StepEnded)) == [("a", 1, "canceled")]
    assert [(f.asset, f.interrupted) for f in outcomes(events, AssetFailed)] == [("x", True)]
    late = begun().plan("x", "a").run_success().materialize("x", "a").materialize("x", "a")
    assert [m.execution for m in await told(late, AssetMaterialized)] == [True, False]


async def test_a_failure_that_dagster_plus_tells_counts_only_where_nothing_told_it_before() -> None:
    data = {"asset_materialization_failure": {"asset_key": {"path": ["x"]}}, "error": None}
    said = MaterializationFailed("x", None, None, "FAILED_TO_MATERIALIZE")
    alone = begun().add("ASSET_FAILED_TO_MATERIALIZE", data, said)
    behind = begun().plan("x", "a").step_start("a").step_failure("a").add("ASSET_FAILED_TO_MATERIALIZE", data, said)
    assert len(await told(alone, AssetFailed)) == 1
    assert len(await told(behind.run_failure(), AssetFailed)) == 1


# --- checks ----------------------------------------------------------------------------------------------------------


async def test_a_check_knows_the_rows_that_the_run_has_made() -> None:
    log = begun().plan("x", "a").step_start("a").materialize("x", "a", metadata={"dagster/row_count": 48211})
    (check,) = await told(log.check("x", "rows", False, "x_rows", "WARN", metadata={"failed": 2}), o.CheckEvaluated)
    assert (check.passed, check.severity, check.rows, check.metadata) == (False, "WARN", 48211, {"failed": 2})


async def test_a_check_that_raises_is_broken() -> None:
    log = begun().plan_check("x", "one", "checks").plan_check("x", "two", "checks").step_start("checks")
    events = await follow(
        log.check("x", "one", True, "checks").step_failure("checks", Fault("TypeError")).run_failure()
    )
    (raised,) = outcomes(events, CheckRaised)
    assert (raised.check, raised.error and raised.error.type) == ("two", "TypeError")
    assert outcomes(events, RunEnded)[0].raised


async def test_an_asset_that_fails_does_not_break_the_checks_of_its_step() -> None:
    log = begun().plan("x", "a").plan_check("x", "one", "a").step_start("a").step_failure("a").run_failure()
    events = await follow(log)
    assert outcomes(events, CheckRaised) == []
    assert [f.asset for f in outcomes(events, AssetFailed)] == ["x"]


async def test_a_failed_blocking_check_fails_its_step_as_the_check() -> None:
    log = begun().plan("x", "a").plan_check("x", "one", "a").plan("y", "b").step_start("a").materialize("x", "a")
    log.check("x", "one", False, "a", blocking=True).step_failure("a", CHECK_FAILED).run_failure()
    events = await follow(log)
    (step,) = outcomes(events, StepEnded)
    assert (step.status, step.failed_check) == ("failure", True)
    assert outcomes(events, AssetFailed) == outcomes(events, CheckRaised) == []
    assert [s.asset for s in outcomes(events, AssetSkipped)] == ["y"]
    assert outcomes(events, RunEnded)[0].raised


# --- inside ----------------------------------------------------------------------------------------------------------


async def test_pairs_of_markers_resources_and_io_take_their_time() -> None:
    log = (
        begun().marker("RESOURCE_INIT_STARTED", start="resources").marker("RESOURCE_INIT_SUCCESS", end="resources")
        .marker("STEP_WORKER_STARTING", start="go", step="a").after(4).marker("STEP_WORKER_STARTED", end="go", step="a")
        .step_start("a").loaded_input("a", "up").step_output("a").handled_output("a").handled_output("a")
        .marker("ENGINE_EVENT", end="never began")
    )  # fmt: skip
    inner = await told(log, InnerEnded)
    assert [(i.kind, i.name, i.step, i.attempt, (i.at_ns - i.started_ns) // SECOND) for i in inner] == [
        ("resource", "resources", "", 0, 1),
        ("marker", "go", "a", 1, 5),
        ("io", "load up", "a", 1, 1),
        ("io", "store result", "a", 1, 1),
    ]


async def test_resources_that_do_not_come_up_carry_their_error() -> None:
    log = begun().marker("RESOURCE_INIT_STARTED", start="resources", step="a")
    log.marker("RESOURCE_INIT_FAILURE", end="resources", step="a", error=Fault("Refused"))
    (inner,) = await told(log, InnerEnded)
    assert isinstance(inner.error, ErrorInfo)
    assert inner.error.type == "Refused"


# --- runs that never end, and bounds ---------------------------------------------------------------------------------


async def test_a_silent_run_is_closed_as_unfinished_and_its_true_end_is_late() -> None:
    by = ledger(run_timeout=Duration("1h"))
    log = begun().plan("x", "a").step_start("a")
    await follow(log, by=by)
    last = START_NS + 4 * SECOND
    assert by.due() == last + HOUR
    assert await by.on_time(last + HOUR - 1) == []
    (carrier,) = await by.on_time(last + HOUR)
    assert (carrier.raw, carrier.type, carrier.run_id, carrier.now_ns) == (b"", "RUN_UNFINISHED", "run-1", last + HOUR)
    assert "nothing heard" in carrier.message
    assert [type(outcome) for outcome in carrier.outcomes] == [StepEnded, AssetSkipped, RunEnded]
    assert [(r.status, r.at_ns, r.late) for r in outcomes([carrier], RunEnded)] == [("unfinished", last, False)]
    assert by.due() is None

    end = Log(start_ns=last + 2 * HOUR).materialize("x", "a").step_success("a").run_success().run_success()
    events = await follow(end, by=by)
    assert [(r.status, r.late, r.started_ns) for r in outcomes(events, RunEnded)] == [
        ("success", True, START_NS + 2 * SECOND)
    ]
    assert outcomes(events, StepEnded) == []
    assert [m.execution for m in outcomes(events, AssetMaterialized)] == [True]


async def test_a_late_end_is_told_once_even_of_a_run_that_is_only_a_tombstone() -> None:
    by = ledger(run_timeout=Duration("1h"), keep_ended=1)
    await follow(begun(), Log("run-2").run_start(), by=by)
    assert len(await by.on_time(START_NS + 9 * HOUR)) == 2
    end = Log(start_ns=START_NS + 10 * HOUR).run_failure().run_failure()
    events = await follow(end, by=by)
    assert [(r.job, r.status, r.late) for r in outcomes(events, RunEnded)] == [("nightly", "failure", True)]


async def test_each_word_of_a_run_puts_off_its_end() -> None:
    by = ledger(run_timeout=Duration("1h"))
    await follow(begun(), by=by)
    await follow(Log(start_ns=START_NS + HOUR).log("still here"), by=by)
    assert by.due() == START_NS + 2 * HOUR
    assert await by.on_time(START_NS + 2 * HOUR - 1) == []


async def test_at_the_end_of_the_input_open_runs_are_unfinished() -> None:
    by = ledger()
    await follow(begun().step_start("a"), Log("run-2").run_start().run_success(), by=by)
    (carrier,) = await by.finish(START_NS + HOUR)
    assert [(r.run, r.status) for r in outcomes([carrier], RunEnded)] == [("run-1", "unfinished")]
    assert short(outcomes([carrier], StepEnded)) == [("a", 1, "unfinished")]
    assert await by.finish(START_NS + HOUR) == []


async def test_a_run_that_was_over_before_we_came_is_not_called_unfinished() -> None:
    by = ledger()
    await follow(Log().marker("ENGINE_EVENT").log("Sensor acted on run status"), by=by)
    assert await by.finish(START_NS + HOUR) == []
    assert by.due() is None


async def test_a_repeat_of_a_whole_run_counts_nothing_twice() -> None:
    log = begun().plan("x", "a").plan("y", "b").step_start("a").step_success("a").materialize("x", "a")
    log.step_start("b").step_failure("b").run_failure()
    for end in (log, begun().plan("x", "a").step_start("a").materialize("x", "a").step_success("a").run_success()):
        by = ledger()
        await follow(end, by=by)
        events = await follow(end, by=by)
        again = [type(outcome) for e in events for outcome in e.outcomes]
        assert not {RunEnded, StepEnded, AssetFailed, AssetSkipped} & set(again)
        assert not any(m.execution for m in outcomes(events, AssetMaterialized))


async def test_more_open_runs_than_allowed_close_the_quietest() -> None:
    by = ledger(max_open_runs=2)
    logs = [Log(f"run-{n}", start_ns=START_NS + n * SECOND).run_start() for n in range(4)]
    events = await follow(*logs, by=by)
    assert [(e.type, e.run_id) for e in events] == [
        ("PIPELINE_START", "run-0"),
        ("PIPELINE_START", "run-1"),
        ("PIPELINE_START", "run-2"),
        ("RUN_UNFINISHED", "run-0"),
        ("PIPELINE_START", "run-3"),
        ("RUN_UNFINISHED", "run-1"),
    ]
    assert [r.run for r in outcomes(events, RunEnded)] == ["run-0", "run-1"]


async def test_what_is_remembered_of_ended_runs_is_bounded() -> None:
    context = FakeContext(shard="test")
    by = ledger(context, tombstones=5, keep_ended=3)
    for n in range(40):
        log = Log(f"run-{n:02}", start_ns=START_NS + n * 60 * SECOND).run_start().step_start("a").step_failure("a")
        await follow(log.run_failure() if n % 2 else log.run_success(), by=by)
    sizes = {name: len(table) for name, table in context.memory.tables.items()}
    assert sizes == {"runs": 0, "recent": 3, "ended": 5, "graves": 0, "steps": 0, "calls": 1}


async def test_tombstones_of_long_ago_lie_together_and_are_known(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr(book, "_APART", 2)
    monkeypatch.setattr(book, "TOGETHER", 3)
    state = MemoryState()
    by = ledger(FakeContext(shard="test", state=state), tombstones=12, keep_ended=1)
    for n in range(40):
        log = Log(f"run-{n:02}", start_ns=START_NS + n * 60 * SECOND).plan("x", "a").run_start().step_start("a")
        await follow(log.step_success("a").run_success(), by=by)
    assert len(state.tables["ended"]) <= 5
    assert len(state.tables["graves"]) == 2
    state.checkpoint()
    state = state.restart()
    by = ledger(FakeContext(shard="test", state=state), tombstones=12, keep_ended=1)
    for n, known in ((39, True), (30, True), (0, False)):
        late = Log(f"run-{n:02}", start_ns=START_NS + 3600 * SECOND)
        found = await follow(late.run_success(), by=by)
        assert outcomes(found, RunEnded) == [] if known else len(outcomes(found, RunEnded)) == 1
    made = Log("run-31", start_ns=START_NS + 3600 * SECOND).step_start("a").materialize("x2", "a").materialize("y", "a")
    for executions in ([True, True], [False, False]):  # of these assets in a run that is over: once
        found = await follow(made, by=by)
        assert [o.execution for o in outcomes(found, AssetMaterialized)] == executions


async def test_a_run_that_failed_is_one_row_with_its_steps_and_goes_on_from_it(monkeypatch: MonkeyPatch) -> None:
    """Or, where they are many, and from version 1, its steps are rows of their own."""
    failed = begun().plan("x", "a").step_start("a").step_start("b").step_success("b").step_failure("a").run_failure()
    late = (
        Log(start_ns=START_NS + MINUTE).step_start("c").step_success("c").materialize("x", "a").marker("ENGINE_EVENT")
    )
    last = Log(start_ns=START_NS + HOUR).step_success("b").step_success("c").step_start("d").step_success("d")
    other = Log("run-2", start_ns=START_NS + 2 * HOUR).run_start().run_failure()
    together, apart = FakeContext(shard="test"), FakeContext(shard="test")
    await follow(failed, by=ledger(together))
    with monkeypatch.context() as patched:
        patched.setattr(book, "_FEW", 1)
        await follow(failed, by=ledger(apart))
    for context in (together, apart):
        context.memory.checkpoint()
    now, many, first = together.memory.restart(), apart.memory.restart(), apart.memory.restart()
    (row,) = [row for row in now.stored.values() if row.table == "recent"]
    kept = msgspec.msgpack.decode(msgspec.msgpack.decode(row.value or b"", type=bytes), type=KeptRun)
    assert list(kept.steps) == kept.run.steps == ["a", "b"]
    first.stored["recent", row.key] = Row(row.owner, "recent", row.key, 1, msgspec.msgpack.encode(kept.run))

    def rows(memory: MemoryState) -> dict[str, int]:
        memory.checkpoint()
        counted = Counter(row.table for row in memory.stored.values())
        return {table: counted[table] for table in ("recent", "steps", "ended")}

    found = []
    for memory, steps in ((now, 0), (many, 2), (first, 2)):
        assert Counter(row.table for row in memory.stored.values())["steps"] == steps
        by = ledger(FakeContext(shard="test", state=memory), keep_ended=1)
        events = await follow(late, by=by)
        assert rows(memory) == {"recent": 1, "steps": steps and 3, "ended": 0}
        again = memory.restart()
        by = ledger(FakeContext(shard="test", state=again), keep_ended=1)
        events += await follow(last, by=by)
        assert rows(again) == {"recent": 1, "steps": steps and 4, "ended": 0}
        events += await follow(other, by=by)
        assert rows(again) == {"recent": 1, "steps": 0, "ended": 1}
        tombstones = [row.value for row in again.stored.values() if row.table == "ended"]
        found.append(([e.outcomes for e in events], tombstones))
    assert found[0] == found[1] == found[2]
    told = [type(outcome).__name__ for given in found[0][0] for outcome in given]
    assert told == ["StepEnded", "AssetMaterialized", "StepEnded", "RunEnded"]


@pytest.mark.parametrize("few", [1, 256])
async def test_what_a_call_that_is_undone_did_to_a_run_that_failed_is_undone(
    few: int, monkeypatch: MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "_FEW", few)
    context = FakeContext(shard="test")
    by = ledger(context)
    tables = context.memory.tables

    def stored() -> dict[str, dict[object, bytes]]:
        return {
            name: {key: msgspec.msgpack.encode(value) for key, value in table.items()}
            for name, table in tables.items()
            if name != "calls"
        }

    await follow(begun().step_start("a").step_start("b"), by=by)
    late = Log(start_ns=START_NS + MINUTE).step_success("b").step_start("c").step_success("c")
    for log in (Log(start_ns=START_NS + 5 * SECOND).step_failure("a").run_failure(), late):
        before = stored()
        for table in tables.values():
            table.begin()
        first = await follow(log, by=by)
        after = stored()
        for table in tables.values():
            table.undo()
        assert stored() == before != after
        again = await follow(log, by=by)
        assert [e.outcomes for e in again] == [e.outcomes for e in first]
        assert stored() == after


async def test_state_follows_when_the_runtime_undoes_a_call() -> None:
    context = FakeContext(shard="test")
    by = ledger(context, run_timeout=Duration("1h"), keep_ended=1)
    await follow(begun(), by=by)
    for table in context.memory.tables.values():
        table.begin()
    await follow(Log().step_start("a").run_failure(), Log("run-2").run_start(), by=by)
    for table in context.memory.tables.values():
        table.undo()
    assert by.due() == START_NS + 2 * SECOND + HOUR
    events = await follow(Log(start_ns=START_NS + 3 * SECOND).step_start("a").run_failure(), by=by)
    assert short(outcomes(events, StepEnded)) == [("a", 1, "unfinished")]
    assert [r.run for r in outcomes(events, RunEnded)] == ["run-1"]
    assert by.due() is None


async def test_it_is_built_by_its_spec_from_a_configuration() -> None:
    async with SPEC.build(SPEC.config(), FakeContext(shard="test")) as built:
        assert isinstance(built, RunLedger)
        assert built.lead_ns == 24 * HOUR


@pytest.mark.parametrize("wrong", [{"tombstones": 0}, {"keep_ended": 0}, {"max_open_runs": 0}, {"run_timeout": 0.0}])
async def test_limits_that_would_forget_everything_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RunLedgerConfig(**wrong)  # type: ignore[arg-type]


async def test_a_run_of_thousands_of_steps_and_checks_stays_cheap() -> None:
    log = Log().run_start()
    for n in range(1500):
        log.plan(f"models/m{n}", "dbt").plan_check(f"models/m{n}", "unique", "dbt")
    log.step_start("dbt")
    for n in range(1500):
        log.materialize(f"models/m{n}", "dbt").check(f"models/m{n}", "unique", True, "dbt")
    events = await follow(log.step_failure("dbt").run_failure())
    assert sum(m.execution for m in outcomes(events, AssetMaterialized)) == 1500
    assert outcomes(events, AssetFailed) == outcomes(events, CheckRaised) == []


# --- state of a version before ---------------------------------------------------------------------------------------


async def test_tombstones_of_version_1_are_gone_on_with() -> None:
    context = FakeContext(shard="test")
    old: dict[str, object] = {"status": "unfinished", "job": "nightly", "ended_ns": 30, "started_ns": 10}
    for run, more in (("short", {}), ("long", {"starting_ns": 5, "raised": True, "counted": b"abcd"})):
        key = msgspec.msgpack.encode(run)
        value = msgspec.msgpack.encode({**old, **more})
        context.memory.stored["ended", key] = Row("run_ledger", "ended", key, 1, value)
    by = ledger(context)
    assert dict(by._book.ended.items()) == {
        "short": Tombstone("unfinished", "nightly", 30, 10),
        "long": Tombstone("unfinished", "nightly", 30, 10, starting_ns=5, raised=True, counted=b"abcd"),
    }
    context.memory.checkpoint()
    again = ledger(FakeContext(shard="test", state=context.memory.restart()))
    assert dict(again._book.ended.items()) == dict(by._book.ended.items())
