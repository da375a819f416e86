"""What becomes a span, where it hangs, and that each goes out once."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import ended_runs
from connectors import spans as module
from connectors.ended_runs import EndedRuns
from connectors.spans import SPEC, Spans, SpansConfig
from pipeline import names
from pipeline.batch import Batch
from pipeline.events import Event
from pipeline.facts import ErrorInfo, RunFacts
from pipeline.lineage import AssetFacts, Catalog
from pipeline.outcomes import (
    AssetMaterialized,
    AssetObserved,
    CheckEvaluated,
    InnerEnded,
    Outcome,
    RunEnded,
    StepEnded,
)
from pipeline.runtime.tables import Row
from pipeline.signals import Span, SpanLink
from pipeline.testing.context import FakeContext, MemoryState
from pipeline.trace_ids import run_span_id, step_span_id, trace_id

pytestmark = pytest.mark.anyio

RUN = "0af76519-16cd-43dd-8448-eb211c80319c"
PARENT = "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"
ERROR = ErrorInfo("TimeoutError", "after 30s", stack="Traceback …\nTimeoutError: after 30s")


def event(
    *outcomes: Outcome,
    step: str = "load",
    attempt: int = 1,
    run: RunFacts | None = None,
    catalog: Catalog | None = None,
    at: int = 100,
) -> Event:
    told = Event(b"{}", "LOG", RUN, at, 20, "daily", step, "", attempt=attempt, outcomes=outcomes, now_ns=at)
    told.run, told.catalog = run, catalog
    return told


def step_ended(
    attempt: int = 1, status: str = "success", error: ErrorInfo | None = None, step: str = "load"
) -> StepEnded:
    return StepEnded(RUN, "daily", step, attempt, status, 90, 50, "COMPUTE", ("raw/orders",), None, error)  # type: ignore[arg-type]


def run_ended(status: str = "success", late: bool = False, **more: object) -> RunEnded:
    return RunEnded(RUN, "daily", status, 200, 30, 10, 20, late=late, **more)  # type: ignore[arg-type]


def made(asset: str = "raw/orders", attempt: int = 1, at: int = 80) -> AssetMaterialized:
    metadata: dict[str, object] = {"dagster/row_count": 42}
    return AssetMaterialized(RUN, "daily", "load", attempt, asset, "2026-03-01", at, 30, True, metadata, {})  # type: ignore[arg-type]


def inner(step: str = "load", attempt: int = 1, name: str = "resources", error: ErrorInfo | None = None) -> InnerEnded:
    return InnerEnded(RUN, "daily", step, attempt, name, "resource", 60, 55, error)


def open_connector(state: MemoryState | None = None, config: SpansConfig | None = None) -> Spans:
    context = FakeContext(state=state)
    runs = context.state.table("runs", str, module.OpenRun, version=1)
    return Spans(config or SpansConfig(), runs, EndedRuns(context.state, module.MAX_ENDED))


async def spans_of(*events: Event, config: SpansConfig | None = None) -> list[Span]:
    async with SPEC.build(config or SpansConfig(), FakeContext()) as connector:
        return list(await connector.process(Batch(events, "s", 0)))


def by_name(spans: Iterable[Span]) -> dict[str, Span]:
    return {span.name: span for span in spans}


async def test_a_run_is_a_trace_of_a_root_with_its_step_attempts_below_and_their_inside_below_these() -> None:
    spans = await spans_of(event(inner()), event(step_ended()), event(run_ended(), step="", attempt=0))

    root, step, inside = (by_name(spans)[name] for name in ("RUN daily", "load", "resources"))
    assert {span.trace_id for span in spans} == {trace_id(RUN)}
    assert (root.span_id, root.parent_id) == (run_span_id(RUN), "")
    assert (step.span_id, step.parent_id) == (step_span_id(RUN, "load", 1), root.span_id)
    assert inside.parent_id == step.span_id
    assert (root.kind, step.kind, inside.kind) == (2, 1, 1)


async def test_the_root_covers_the_run_from_its_queueing_and_says_how_it_ended() -> None:
    facts = RunFacts({"team": "sales", ".dagster/hidden": "x"}, "shop", "2026-03-01", "bf1")
    config = SpansConfig(run_url="http://dagster:3000/runs/{run_id}")
    (root,) = await spans_of(event(run_ended(), run=facts), config=config)

    assert (root.start_ns, root.end_ns, root.ok, root.error) == (10, 200, True, None)
    assert root.attributes == {
        names.PIPELINE_NAME: "daily",
        names.PIPELINE_RUN_ID: RUN,
        names.RUN_STATUS: "success",
        names.PIPELINE_RESULT: "success",
        names.PIPELINE_RUN_URL: f"http://dagster:3000/runs/{RUN}",
        names.PARTITION: "2026-03-01",
        names.BACKFILL: "bf1",
        "dagster.run.tags.team": "sales",
    }
    assert [(e.name, e.at_ns) for e in root.events] == [("dagster.run.starting", 20), ("dagster.run.started", 30)]


async def test_run_tags_can_be_left_out() -> None:
    (root,) = await spans_of(event(run_ended(), run=RunFacts({"a": "b"})), config=SpansConfig(run_tags=False))
    assert not [name for name in root.attributes if name.startswith(names.RUN_TAG)]


async def test_the_resource_says_service_deployment_instance_and_code_location() -> None:
    config = SpansConfig(service_namespace="data", deployment="prod", instance="eu-1")
    (root,) = await spans_of(event(run_ended(), run=RunFacts(code_location="shop")), config=config)
    assert root.resource == (
        ("dagster.code_location", "shop"),
        ("deployment.environment.name", "prod"),
        ("service.instance.id", "eu-1"),
        ("service.name", "dagster"),
        ("service.namespace", "data"),
    )


async def test_only_step_attempts_carry_the_task_run_id() -> None:
    spans = await spans_of(event(inner()), event(step_ended()), event(run_ended(), step="", attempt=0))
    assert [s.attributes[names.TASK_RUN_ID] for s in spans if names.TASK_RUN_ID in s.attributes] == ["load#1"]


async def test_a_retry_that_failed_before_it_began_has_a_span_and_is_no_attempt() -> None:
    never = msgspec.structs.replace(step_ended(2, "failure"), begun=False)
    first, second = await spans_of(event(step_ended(1, "retry")), event(never, attempt=2))
    assert first.attributes[names.TASK_RUN_ID] == "load#1"
    assert names.TASK_RUN_ID not in second.attributes
    assert second.links[0].span_id == first.span_id


async def test_a_retry_is_linked_to_the_attempt_before_it_and_its_failure_stays_visible() -> None:
    first, second = await spans_of(event(step_ended(1, "retry", ERROR)), event(step_ended(2, "success"), attempt=2))
    assert first.attributes[names.TASK_RUN_RESULT] == "failure"
    assert first.error == "TimeoutError: after 30s"
    assert first.links == ()
    assert second.links == (
        SpanLink(trace_id(RUN), step_span_id(RUN, "load", 1), {"dagster.link.type": "previous_attempt"}),
    )


async def test_an_error_is_an_exception_event_with_type_message_and_stack() -> None:
    (step,) = await spans_of(event(step_ended(1, "failure", ERROR)))
    (told,) = step.events
    assert (told.name, told.at_ns) == ("exception", 90)
    assert told.attributes == {
        "exception.type": "TimeoutError",
        "exception.message": "after 30s",
        "exception.stacktrace": ERROR.stack,
    }
    assert step.attributes["error.type"] == "TimeoutError"
    assert not step.ok


async def test_a_re_executed_run_is_linked_to_the_root_of_its_parent_run() -> None:
    (root,) = await spans_of(event(run_ended(), run=RunFacts(parent_run_id=PARENT)))
    assert root.links == (SpanLink(trace_id(PARENT), run_span_id(PARENT), {"dagster.link.type": "parent_run"}),)


@pytest.mark.parametrize(
    ("status", "result", "in_error"),
    [
        ("success", "success", False),
        ("failure", "failure", True),
        ("canceled", "cancellation", False),
        ("unfinished", None, False),
    ],
)
async def test_the_root_is_in_error_only_if_the_run_failed(status: str, result: str | None, in_error: bool) -> None:
    (root,) = await spans_of(event(run_ended(status, error=ERROR if status != "success" else None)))
    assert (root.error is not None) == in_error
    assert root.attributes.get(names.PIPELINE_RESULT) == result


async def test_a_run_that_the_system_failed_has_the_result_that_the_conventions_keep_for_it() -> None:
    (root,) = await spans_of(event(run_ended("failure", reason="START_TIMEOUT")))
    assert root.attributes[names.PIPELINE_RESULT] == "timeout"
    assert root.error == "START_TIMEOUT"


async def test_the_stack_stands_on_the_step_that_raised_it_and_not_again_on_the_root() -> None:
    (root,) = await spans_of(event(run_ended("failure", error=ERROR, raised=True)))
    assert "exception.stacktrace" not in root.events[-1].attributes
    assert root.events[-1].attributes["exception.type"] == "TimeoutError"


async def test_materializations_observations_and_checks_are_events_of_the_attempt_that_made_them() -> None:
    check = CheckEvaluated(RUN, "daily", "load", "raw/orders", "no_nulls", False, "WARN", True, None, 85, "two", {})
    seen = AssetObserved(RUN, "daily", "raw/web", None, 86, {}, {})
    catalog = Catalog({"raw/orders": AssetFacts("raw/orders", group="raw", owners=("team:x",), kinds=("dlt",))})
    (step,) = await spans_of(
        event(made(), catalog=catalog),
        event(check),
        event(seen),
        event(made(attempt=2), attempt=2),
        event(step_ended()),
    )
    assert [(e.name, e.at_ns) for e in step.events] == [
        ("dagster.asset.materialization", 80),
        ("dagster.asset.check", 85),
        ("dagster.asset.observation", 86),
    ]
    assert step.events[0].attributes == {
        "dagster.asset.key": "raw/orders",
        "dagster.partition": "2026-03-01",
        "dagster.rows": 42,
        "dagster.asset.group": "raw",
        "dagster.asset.owners": ("team:x",),
        "dagster.asset.kinds": ("dlt",),
    }
    assert step.events[1].attributes["dagster.check.passed"] is False


async def test_span_events_are_bounded_and_the_rest_is_counted() -> None:
    (step,) = await spans_of(*(event(made(f"a{n}")) for n in range(130)), event(step_ended()))
    assert len(step.events) == 128
    assert step.attributes[names.EVENTS_DROPPED] == 2


async def test_what_is_inside_an_attempt_that_never_ends_hangs_on_the_root() -> None:
    spans = await spans_of(
        event(inner("never", 1)), event(made(attempt=3), attempt=3), event(run_ended("failure"), step="", attempt=0)
    )
    root, inside = by_name(spans)["RUN daily"], by_name(spans)["resources"]
    assert inside.parent_id == root.span_id
    assert "dagster.asset.materialization" in [e.name for e in root.events]


async def test_what_ends_after_its_attempt_or_its_run_hangs_on_the_root_too() -> None:
    spans = await spans_of(event(step_ended()), event(inner()), event(run_ended()), event(inner(name="late"), at=300))
    root = by_name(spans)["RUN daily"].span_id
    assert [s.parent_id for s in spans if s.name in ("resources", "late")] == [root, root]


async def test_a_late_end_gives_no_second_root() -> None:
    spans = await spans_of(event(run_ended("unfinished")), event(run_ended("success", late=True)), event(run_ended()))
    assert [s.name for s in spans] == ["RUN daily"]


async def test_equal_inner_spans_keep_ids_of_their_own() -> None:
    spans = await spans_of(event(inner()), event(inner()), event(step_ended()))
    assert len({s.span_id for s in spans}) == 3


async def test_what_has_no_run_has_no_span() -> None:
    outcome = AssetMaterialized("", "", "", 0, "raw/x", None, 1, None, False, {}, {})
    assert await spans_of(event(outcome, step="", attempt=0)) == []


async def test_a_time_that_runs_backwards_gives_no_negative_span() -> None:
    (step,) = await spans_of(event(StepEnded(RUN, "daily", "load", 1, "success", 40, 50)))
    assert step.start_ns <= step.end_ns


async def test_what_waits_survives_a_crash() -> None:
    state = MemoryState()
    before = open_connector(state)
    await before.process(Batch([event(made()), event(inner(error=ERROR))], "s", 0))
    state.checkpoint()

    after = open_connector(state.restart())
    spans = await after.process(Batch([event(step_ended())], "s", 0))

    assert [s.name for s in spans] == ["load", "resources"]
    assert [e.name for e in spans[0].events] == ["dagster.asset.materialization"]


async def test_ended_runs_leave_nothing_behind_but_a_bounded_number_of_tombstones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_ENDED", 16)
    state = MemoryState()
    connector = open_connector(state)
    for n in range(100):
        run = f"run-{n}"
        ended = RunEnded(run, "daily", "success", n, n)
        await connector.process(Batch([event(inner()), event(ended, at=n)], "s", 0))
        await connector.process(Batch([event(RunEnded(RUN, "daily", "success", n, n), at=n)], "s", 0))
    assert len(state.tables["runs"]) == 0
    assert len(state.tables["ended"]) <= 16


async def test_runs_that_ended_long_ago_lie_together_and_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ended_runs, "_APART", 4)
    monkeypatch.setattr(ended_runs, "TOGETHER", 2)
    state = MemoryState()
    runs = EndedRuns(state, 13)
    for n in range(30):
        runs.add(f"run-{n:02}", 1000 - n if n < 3 else n)
        if n == 20:
            state.checkpoint()
            state = state.restart()
            runs = EndedRuns(state, 13)
    known = [n for n in range(30) if f"run-{n:02}" in runs]
    assert known == [0, 1, 2, *range(33 - len(known), 30)]  # the first ended last
    assert 10 <= len(known) == len(runs) <= 12
    assert len(state.tables["ended"]) <= 6
    assert len(state.tables["ended_before"]) == 3


async def test_tombstones_of_an_older_version_are_packed_at_the_next_end() -> None:
    state = MemoryState()
    for n in range(5000):
        key = msgspec.msgpack.encode(f"run-{n}")
        state.stored["ended", key] = Row("spans", "ended", key, 1, msgspec.msgpack.encode(n))
    runs = EndedRuns(state, 20_000)
    assert len(runs) == 5000
    runs.add("new", 5000)
    assert len(runs) == 5001
    assert all(f"run-{n}" in runs for n in range(5000))
    assert len(state.tables["ended"]) == 1280


async def test_a_call_that_is_undone_leaves_no_trace() -> None:
    state = MemoryState()
    connector = open_connector(state)
    await connector.process(Batch([event(made("kept"))], "s", 0))
    state.checkpoint()
    table = state.tables["runs"]
    table.begin()
    await connector.process(Batch([event(made("undone"))], "s", 0))
    table.undo()
    (step,) = await connector.process(Batch([event(step_ended())], "s", 0))
    assert [e.attributes["dagster.asset.key"] for e in step.events] == ["kept"]


outcomes = st.one_of(
    st.builds(
        step_ended, st.integers(1, 3), st.sampled_from(["success", "retry", "failure"]), step=st.sampled_from("ab")
    ),
    st.builds(inner, st.sampled_from(["a", "b", ""]), st.integers(0, 3), st.sampled_from(["resources", "io"])),
    st.builds(made, st.just("raw/x"), st.integers(1, 3)),
)


@given(st.lists(outcomes, max_size=20), st.integers(1, 5))
@settings(deadline=None)
async def test_every_parent_exists_and_batch_boundaries_change_nothing(told: list[Outcome], size: int) -> None:
    seen: set[tuple[str, int]] = set()
    unique = [
        o
        for o in told
        if not isinstance(o, StepEnded) or not ((o.step, o.attempt) in seen or seen.add((o.step, o.attempt)))
    ]
    events = [event(o) for o in (*unique, run_ended())]

    async def run(batches: list[list[Event]]) -> list[Span]:
        connector = open_connector()
        return [span for batch in batches for span in await connector.process(Batch(batch, "s", 0))]

    spans = await run([events])
    ids = [span.span_id for span in spans]
    assert len(ids) == len(set(ids))
    assert all(span.parent_id in ids for span in spans if span.parent_id)
    assert [span.name for span in spans if not span.parent_id] == ["RUN daily"]
    assert await run([events[i : i + size] for i in range(0, len(events), size)]) == spans


def test_a_run_url_without_its_placeholder_is_refused() -> None:
    with pytest.raises(ValueError, match="run_id"):
        SpansConfig(run_url="http://dagster:3000/runs/")
