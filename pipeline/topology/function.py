"""A plain function `event → event | None` as a processor of events, without options."""

import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from pipeline.batch import Batch
from pipeline.components import Context, Processor, ProcessorSpec
from pipeline.events import Event
from pipeline.signals import Signal

EventFunction = Callable[[Event], Event | None]
"""None drops the event. What it raises makes a dead letter of the event."""


class FunctionProcessor:
    """Calls the function on each event of a batch."""

    def __init__(self, function: EventFunction) -> None:
        self.function = function

    async def process(self, batch: Batch[Event], /) -> Batch[Event]:
        return batch.carrying([kept for event in batch.items if (kept := self.function(event)) is not None])


def adapted(name: str, function: Callable[..., object]) -> ProcessorSpec[msgspec.Struct]:
    """A processor type of this name; its documentation is the function's docstring.

    Raises TypeError when it is a coroutine function or does not take one event.
    """
    if inspect.iscoroutinefunction(function):
        raise TypeError("a coroutine function; write `def`, or a ProcessorSpec")
    try:
        inspect.signature(function).bind(object())
    except (TypeError, ValueError) as error:
        raise TypeError(f"it does not take one event: {error}") from error
    options = msgspec.defstruct(
        "Options", [], namespace={"__doc__": inspect.getdoc(function) or ""}, frozen=True, forbid_unknown_fields=True
    )

    def build(config: msgspec.Struct, context: Context) -> AbstractAsyncContextManager[Processor[Event]]:
        return _built(function)  # type: ignore[arg-type]  # an entry point is untyped

    return ProcessorSpec(name, options, build, takes=frozenset({Signal.EVENTS}))


@asynccontextmanager
async def _built(function: EventFunction) -> AsyncIterator[Processor[Event]]:
    yield FunctionProcessor(function)
