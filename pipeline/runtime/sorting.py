"""What flows where a component gives several signals: each pipeline that it feeds gets the items of its own."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from pipeline.components import AnySpec, ConnectorSpec, ReceiverSpec, given_by
from pipeline.events import Event
from pipeline.runtime.stage import Sink
from pipeline.signals import Alert, Edges, LogRecord, Sample, Signal, Span

ITEMS: Final[dict[Signal, tuple[type, ...]]] = {
    Signal.EVENTS: (Event,),
    Signal.TRACES: (Span,),
    Signal.METRICS: (Sample,),
    Signal.LOGS: (LogRecord,),
    Signal.ALERTS: (Alert, Edges),
}
"""What flows in a pipeline of each signal."""


class Only:
    """Lets the items of one signal through."""

    def __init__(self, signal: Signal, sink: Sink) -> None:
        self._types, self._sink = ITEMS[signal], sink

    async def push(self, items: Sequence[Any], now_ns: int) -> None:
        own = [item for item in items if isinstance(item, self._types)]
        if own:
            await self._sink.push(own, now_ns)


def of_signal(signal: Signal, givers: Iterable[AnySpec], sinks: Sequence[Sink]) -> Sequence[Sink]:
    """The sinks of a pipeline of `signal`, guarded where one that feeds it gives other signals too."""
    if any(isinstance(giver, ReceiverSpec | ConnectorSpec) and len(given_by(giver)) > 1 for giver in givers):
        return [Only(signal, sink) for sink in sinks]
    return sinks
