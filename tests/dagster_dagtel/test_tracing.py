"""`trace_operation` outside Dagster: plain OpenTelemetry spans, in every form."""

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from dagster_dagtel import flush, trace_operation, tracing
from dagster_dagtel.step import Step


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(trace, "get_tracer", lambda name: provider.get_tracer(name))
    return exporter


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_it_yields_a_span_and_nests(sent: InMemorySpanExporter) -> None:
    with trace_operation("outer", {"table": "raw.x", "skip": None}) as span, trace_operation("inner"):
        span.set_attribute("rows", 2)
    spans = by_name(sent)
    assert dict(spans["outer"].attributes or {}) == {"table": "raw.x", "rows": 2}
    assert spans["outer"].parent is None
    assert spans["inner"].parent == spans["outer"].context


def test_an_exception_is_recorded_and_goes_on(sent: InMemorySpanExporter) -> None:
    with pytest.raises(TimeoutError), trace_operation("fetch"):
        raise TimeoutError("after 30s")
    (span,) = sent.get_finished_spans()
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "TimeoutError: after 30s")
    recorded = dict(span.events[0].attributes or {})
    assert (recorded["exception.type"], recorded["exception.message"]) == ("TimeoutError", "after 30s")
    assert "in test_an_exception_is_recorded_and_goes_on" in str(recorded["exception.stacktrace"])


def test_an_exception_that_cannot_be_printed_is_not_replaced_by_ours(sent: InMemorySpanExporter) -> None:
    class Broken(ValueError):
        def __str__(self) -> str:
            raise RuntimeError("no")

    with pytest.raises(Broken), trace_operation("x"):
        raise Broken
    assert sent.get_finished_spans()[0].status.description == "Broken: <unprintable Broken>"


def test_it_decorates_functions_of_all_kinds(sent: InMemorySpanExporter) -> None:
    @trace_operation("function")
    def function(a: int, *, b: int = 2) -> int:
        return a + b

    @trace_operation("coroutine")
    async def coroutine() -> str:
        await asyncio.sleep(0)
        return "done"

    @trace_operation("generator")
    def generator() -> Iterator[int]:
        with trace_operation("within"):
            yield 1
        return 3

    @trace_operation("async_generator")
    async def async_generator() -> AsyncIterator[int]:
        yield 1
        yield 2

    async def collect() -> list[int]:
        return [item async for item in async_generator()]

    assert function(1) == 3
    assert asyncio.run(coroutine()) == "done"
    assert list(generator()) == [1]
    assert asyncio.run(collect()) == [1, 2]
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert list(inspect.signature(function).parameters) == ["a", "b"]
    spans = by_name(sent)
    assert set(spans) == {"function", "coroutine", "generator", "within", "async_generator"}
    assert spans["within"].parent == spans["generator"].context


def test_a_recursive_function_has_a_span_a_call(sent: InMemorySpanExporter) -> None:
    @trace_operation("down")
    def down(n: int) -> int:
        return 0 if n == 0 else 1 + down(n - 1)

    assert down(2) == 2
    inner, middle, outer = sent.get_finished_spans()
    assert (inner.parent, middle.parent, outer.parent) == (middle.context, outer.context, None)


def test_a_generator_that_is_closed_early_is_no_error(sent: InMemorySpanExporter) -> None:
    @trace_operation("pages")
    def pages() -> Iterator[int]:
        yield 1
        yield 2

    reading = pages()
    next(reading)
    del reading
    assert sent.get_finished_spans()[0].status.status_code is StatusCode.UNSET
    assert not trace.get_current_span().get_span_context().is_valid


def test_above_the_asset_decorator_it_says_where_it_belongs() -> None:
    with pytest.raises(TypeError, match=r"put it below @asset, @op or @asset_check"):
        trace_operation("x")(object())  # type: ignore[arg-type]


def test_the_next_step_does_not_nest_under_a_span_that_the_last_one_left_open(
    sent: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Step("run", "first", 1), Step("run", "second", 1)
    monkeypatch.setattr(tracing, "current_step", lambda: first)
    left_open = trace_operation("left_open", flush=False)
    left_open.__enter__()
    monkeypatch.setattr(tracing, "current_step", lambda: second)
    with trace_operation("next", flush=False):
        pass
    left_open.__exit__(None, None, None)
    parent = by_name(sent)["next"].parent
    assert parent is not None
    assert (parent.span_id, parent.trace_id) == (second.span_id, second.trace_id)


def test_a_span_of_the_users_own_tracer_stays_the_parent(
    sent: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "current_step", lambda: Step("run", "first", 1))
    with trace.get_tracer("mine").start_as_current_span("own"), trace_operation("within", flush=False):
        pass
    spans = by_name(sent)
    assert spans["within"].parent == spans["own"].context


def test_without_an_sdk_it_is_a_no_op() -> None:
    with trace_operation("x", {"a": 1}) as span:
        span.set_attribute("b", 2)
    assert not span.is_recording()
    assert flush()


class StuckProvider:
    """An SDK whose collector does not answer."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.calls = 0

    def force_flush(self) -> bool:
        self.calls += 1
        return self.let_go.wait(30)


def test_a_collector_that_hangs_holds_a_step_up_for_the_timeout_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = StuckProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    before = time.monotonic()
    assert not flush(timeout_s=0.05)
    assert not flush(timeout_s=60.0)  # the first one still hangs: not joined by a second, and not waited for
    assert time.monotonic() - before < 30
    assert provider.calls == 1
    provider.let_go.set()
    for thread in threading.enumerate():
        if thread.name == "dagtel-flush":
            thread.join()
    assert flush()
