"""`trace_operation`: user code's own spans, nested in Jaeger under the span that the daemon makes for the step.

The daemon's spans do not exist yet while the step runs. Their ids are derived from run, step and attempt, so the parent
can be named before it is there. Sent by whatever OpenTelemetry SDK the user has configured; without one, a no-op.
"""

import functools
import inspect
import traceback
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextvars import Token
from types import TracebackType
from typing import NamedTuple, ParamSpec, TypeVar, cast

from opentelemetry import context as context_api
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, Status, StatusCode, TraceFlags

from dagster_dagtel.flushing import flush as flush_spans
from dagster_dagtel.step import Step, current_step
from dagster_dagtel.values import Attribute, attribute, clean, text

P = ParamSpec("P")
R = TypeVar("R")

_STEP = context_api.create_key("dagtel-step")
_MAX_STACK = 32_768


def trace_operation(
    operation_name: str, attributes: Mapping[str, object] | None = None, *, flush: bool = True
) -> "Operation":
    """A span around a block of code, or around each call of a function.

    As a context manager it yields the OpenTelemetry span; as a decorator it takes functions, coroutine functions and
    both kinds of generator functions, and stands below `@asset`, `@op` or `@asset_check`. An operation within another
    is its child; the first one of a step is a child of the step's span; outside a step it is a plain span.
    An exception is recorded on the span, which then has the status ERROR, and goes on.

    `attributes` may hold any values; what OpenTelemetry cannot carry becomes text. When the outermost operation of a
    step ends, the SDK is asked to send what it holds, for at most 5 s, because a step's process may end without;
    `flush=False` leaves that to you.
    """
    return Operation(operation_name, attributes, flush)


class _Entered(NamedTuple):
    span: Span
    token: Token[Context]
    outermost: bool


class Operation:
    """What `trace_operation` gives. May be entered again once it was left, or within itself; not shared by threads."""

    def __init__(self, name: str, attributes: Mapping[str, object] | None, flush: bool) -> None:
        self._name = name
        self._attributes = attributes
        self._flush = flush
        self._entered: list[_Entered] = []

    def __enter__(self) -> Span:
        step = current_step()
        context, outermost = _surroundings(step)
        span = trace.get_tracer("dagster_dagtel").start_span(
            self._name, context, attributes=_attributes(self._attributes, step if outermost else None)
        )
        token = context_api.attach(trace.set_span_in_context(span, context))
        self._entered.append(_Entered(span, token, outermost))
        return span

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        span, token, outermost = self._entered.pop()
        if error is not None and not isinstance(error, GeneratorExit):  # a generator that is merely closed is well
            _record(span, error)
        span.end()
        # An async generator is resumed in another copy of the context, and an abandoned one is closed anywhere:
        # there the token is not ours to give back, and the SDK would log an error about it.
        if trace.get_current_span() is span:
            context_api.detach(token)
        if outermost and self._flush:
            flush_spans()

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate `function`. Raises TypeError for what is none, such as an asset: the order is then wrong."""
        if not inspect.isroutine(function):
            raise TypeError(
                f"@trace_operation({self._name!r}) takes a function, not {type(function).__name__}: "
                "put it below @asset, @op or @asset_check"
            )
        if inspect.isasyncgenfunction(function):
            wrapper: object = self._around_async_generator(function)
        elif inspect.isgeneratorfunction(function):
            wrapper = self._around_generator(function)
        elif inspect.iscoroutinefunction(function):
            wrapper = self._around_coroutine(function)
        else:
            wrapper = self._around_function(function)
        return cast(Callable[P, R], functools.wraps(function)(wrapper))  # type: ignore[arg-type]  # one of four kinds

    def _again(self) -> "Operation":
        return Operation(self._name, self._attributes, self._flush)

    def _around_function(self, function: Callable[..., R]) -> Callable[..., R]:
        def call(*args: object, **kwargs: object) -> R:
            with self._again():
                return function(*args, **kwargs)

        return call

    def _around_coroutine(self, function: Callable[..., object]) -> Callable[..., object]:
        async def call(*args: object, **kwargs: object) -> object:
            with self._again():
                return await function(*args, **kwargs)  # type: ignore[misc]  # a coroutine function, checked above

        return call

    def _around_generator(self, function: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> Iterator[object]:
            with self._again():
                return (yield from function(*args, **kwargs))  # type: ignore[misc,no-any-return]  # a generator function

        return call

    def _around_async_generator(self, function: Callable[..., object]) -> Callable[..., object]:
        async def call(*args: object, **kwargs: object) -> AsyncIterator[object]:
            with self._again():
                async for item in function(*args, **kwargs):  # type: ignore[attr-defined]  # an async generator
                    yield item

        return call


def _surroundings(step: Step | None) -> tuple[Context, bool]:
    """The context whose span becomes the parent, and whether this operation is the outermost of its step.

    The context remembers the step that it belongs to: a generator that was left suspended by a failure keeps its span
    current, and the next step of the same process must not nest under it.
    """
    current = context_api.get_current()
    if step is None:
        return current, False
    owner = context_api.get_value(_STEP, current)
    if owner == step:
        return current, False
    if owner is not None or not trace.get_current_span(current).get_span_context().is_valid:
        parent = SpanContext(step.trace_id, step.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
        current = trace.set_span_in_context(NonRecordingSpan(parent), current)
    return context_api.set_value(_STEP, step, current), True


def _attributes(given: Mapping[str, object] | None, step: Step | None) -> dict[str, Attribute]:
    named: dict[str, Attribute] = {}
    if step is not None:
        named = {
            "cicd.pipeline.run.id": step.run_id,
            "cicd.pipeline.task.name": step.key,
            "dagster.step.attempt": step.attempt,
        }
    for key, value in (given or {}).items():
        carried = attribute(value)
        if carried is not None:
            named[clean(str(key))] = carried
    return named


def _record(span: Span, error: BaseException) -> None:
    # Not the SDK's `record_exception`: that one raises when `str(error)` does, and would hide the user's error.
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    stack = "".join(traceback.format_exception(error))
    span.add_event(
        "exception",
        {
            "exception.type": name,
            "exception.message": text(error),
            "exception.stacktrace": clean(stack, _MAX_STACK),
        },
    )
    span.set_status(Status(StatusCode.ERROR, f"{kind.__name__}: {text(error)}"))
