"""Items of any signal → JSON lines, for files and whoever reads them. docs/telemetry.md shows a line of each."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from exporters import otlp_json
from exporters.log_lines import json_lines, rfc3339
from exporters.valid_text import valid_items
from pipeline.alert_json import alert_json
from pipeline.events import Event
from pipeline.signals import Alert, Edges, HistogramValue, LogRecord, Sample, Span

T = TypeVar("T")
Item = Event | Span | LogRecord | Sample | Alert

_encode: Final = msgspec.json.Encoder().encode


class _Sample(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    name: str
    kind: str
    labels: dict[str, str]
    value: float | HistogramValue | None
    time: str = ""


def without_edges(items: Iterable[T | Edges]) -> list[T]:
    """What people are told of; edges are for `lineage_impact`, and a pipeline without one has them at its end."""
    return [item for item in items if not isinstance(item, Edges)]


def encode_lines(items: Sequence[Item]) -> bytes:
    """Items of one signal as lines, the last one ended too; spans share one OTLP/JSON request, that is one line."""
    if not items:
        return b""
    encode = _ENCODERS[type(items[0])]
    try:
        return encode(items)
    except UnicodeEncodeError:
        return encode(valid_items(items))


def _spans(spans: Sequence[Span]) -> bytes:
    return otlp_json.trace_request(spans) + b"\n"


def _records(records: Sequence[LogRecord]) -> bytes:
    pairs = zip(records, json_lines(records), strict=True)
    return "".join(f'{{"time":"{rfc3339(r.at_ns)}",{_place(r.code_location)}{line[1:]}\n' for r, line in pairs).encode()


@lru_cache(maxsize=1024)
def _place(code_location: str) -> str:
    """Loki has a label for it, a file only the line."""
    return f'"code_location":{_encode(code_location).decode()},' if code_location else ""


def _alerts(alerts: Iterable[Alert]) -> bytes:
    return b"".join(alert_json(alert) + b"\n" for alert in alerts)


def _samples(samples: Iterable[Sample]) -> bytes:
    return b"".join(_encode(_sample(sample)) + b"\n" for sample in samples)


def _events(events: Iterable[Event]) -> bytes:
    """The bytes as they were read; the ledger's own events have none. Only what is spread over lines is made one."""
    raws = (event.raw for event in events if event.raw)
    return b"".join((msgspec.json.format(raw, indent=-1) if b"\n" in raw else raw) + b"\n" for raw in raws)


def _sample(sample: Sample) -> _Sample:
    time = rfc3339(sample.at_ns) if sample.at_ns else ""
    return _Sample(sample.name, sample.kind, dict(sample.labels), sample.value, time)


# The item type is erased here (`Any`): the key is the type that its function takes.
_ENCODERS: Final[dict[type, Callable[[Sequence[Any]], bytes]]] = {
    Span: _spans,
    LogRecord: _records,
    Alert: _alerts,
    Sample: _samples,
    Event: _events,
}
