"""Spans and log records → OTLP requests as JSON.

Source: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding: ids are hex, 64-bit integers are texts, enums
are numbers, field names are lowerCamelCase. Straight from Structs, so a span is encoded once and no dict is made.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from exporters.otlp_logs import log_attributes, log_resource, severity
from pipeline import names, signals
from pipeline.native import HAS_NATIVE, native
from pipeline.signals import Attribute, Labels, LogRecord, Span, SpanEvent, SpanLink

OK, ERROR = 1, 2
INT64: Final = range(-(2**63), 2**63)
_LAST: Final = 2**64 - 1


class _Text(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    string_value: str


class _Bool(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    bool_value: bool


class _Int(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    int_value: str


class _Double(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    double_value: float | str


class _Values(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    values: tuple[_Text, ...]


class _Array(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    array_value: _Values


_Value = _Text | _Bool | _Int | _Double | _Array


class _KeyValue(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    key: str
    value: _Value


_Pair = _KeyValue | msgspec.Raw
"""An attribute, or one that is encoded already."""
_SHORT: Final = 100  # characters of a value that is worth keeping encoded


class _Resource(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    attributes: list[_Pair]


class _Scope(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    name: str


class _Event(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    time_unix_nano: str
    name: str
    attributes: list[_Pair] = []


class _Link(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    trace_id: str
    span_id: str
    attributes: list[_Pair] = []


class _Status(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    code: int
    message: str = ""


class _Span(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    trace_id: str
    span_id: str
    name: str
    kind: int
    start_time_unix_nano: str
    end_time_unix_nano: str
    attributes: list[_Pair] = []
    parent_span_id: str = ""
    events: list[_Event] = []
    links: list[_Link] = []
    status: _Status | None = None


class _ScopeSpans(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    scope: _Scope
    spans: list[_Span]


class _ResourceSpans(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource: _Resource
    scope_spans: tuple[_ScopeSpans]


class _TraceRequest(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_spans: list[_ResourceSpans]


class _Record(msgspec.Struct, frozen=True, gc=False, omit_defaults=True, rename="camel"):
    time_unix_nano: str
    severity_number: int
    severity_text: str
    body: _Text
    attributes: list[_Pair] = []
    trace_id: str = ""
    span_id: str = ""


class _ScopeLogs(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    scope: _Scope
    log_records: list[_Record]


class _ResourceLogs(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource: _Resource
    scope_logs: tuple[_ScopeLogs]


class _LogsRequest(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    resource_logs: list[_ResourceLogs]


_SCOPE: Final = _Scope(names.SCOPE)
_encode: Final = msgspec.json.Encoder().encode
_twin: Final = native.OtlpSpans(signals, names.SCOPE) if HAS_NATIVE else None


def trace_request(spans: Sequence[Span]) -> bytes:
    """An ExportTraceServiceRequest. Raises UnicodeEncodeError for text with lone surrogates."""
    if _twin is not None and (body := _twin.request(spans)) is not None:
        return body
    by_resource: dict[Labels, list[_Span]] = {}
    for span in spans:
        by_resource.setdefault(span.resource, []).append(_span(span))
    groups = [_ResourceSpans(_resource(r), (_ScopeSpans(_SCOPE, group),)) for r, group in by_resource.items()]
    return _encode(_TraceRequest(groups))


def logs_request(records: Sequence[LogRecord], resource: Labels) -> bytes:
    """An ExportLogsServiceRequest. Raises UnicodeEncodeError for text with lone surrogates."""
    by_location: dict[str, list[_Record]] = {}
    for record in records:
        by_location.setdefault(record.code_location, []).append(_record(record))
    groups = [
        _ResourceLogs(_resource(log_resource(resource, location)), (_ScopeLogs(_SCOPE, group),))
        for location, group in by_location.items()
    ]
    return _encode(_LogsRequest(groups))


def unix_nano(at_ns: int) -> int:
    """The time as fixed64 can hold it."""
    return min(max(0, at_ns), _LAST)


def _span(span: Span) -> _Span:
    return _Span(
        span.trace_id,
        span.span_id,
        span.name,
        span.kind,
        str(unix_nano(span.start_ns)),
        str(unix_nano(span.end_ns)),
        _attributes(span.attributes),
        span.parent_id,
        [_event(event) for event in span.events],
        [_link(link) for link in span.links],
        _status(span),
    )


def _status(span: Span) -> _Status | None:
    if span.error is not None:
        return _Status(ERROR, span.error)
    return _Status(OK) if span.ok else None


def _event(event: SpanEvent) -> _Event:
    return _Event(str(unix_nano(event.at_ns)), event.name, _attributes(event.attributes))


def _link(link: SpanLink) -> _Link:
    return _Link(link.trace_id, link.span_id, _attributes(link.attributes))


def _record(record: LogRecord) -> _Record:
    number = severity(record.level)
    attributes: list[_Pair] = [_KeyValue(key, _value(value)) for key, value in log_attributes(record)]
    return _Record(
        str(unix_nano(record.at_ns)),
        number,
        record.level,
        _Text(record.message),
        attributes,
        record.trace_id,
        record.span_id,
    )


def _resource(labels: Iterable[tuple[str, str]]) -> _Resource:
    return _Resource([_KeyValue(key, _Text(value)) for key, value in labels])


def _attributes(attributes: Mapping[str, Attribute]) -> list[_Pair]:
    return [
        _short(key, value) if isinstance(value, str) and len(value) <= _SHORT else _KeyValue(key, _value(value))
        for key, value in attributes.items()
    ]


@lru_cache(maxsize=2048)  # jobs, steps and states come again and again: 9 % of a request; run ids would fill any size
def _short(key: str, value: str) -> msgspec.Raw:
    return msgspec.Raw(_encode(_KeyValue(key, _Text(value))))


def _value(value: Attribute) -> _Value:
    if isinstance(value, str):
        return _Text(value)
    if isinstance(value, bool):
        return _Bool(value)
    if isinstance(value, int):
        return _Int(str(value)) if value in INT64 else _Text(str(value))
    if isinstance(value, float):
        return _Double(value if math.isfinite(value) else _not_finite(value))
    return _Array(_Values(tuple(_Text(item) for item in value)))


def _not_finite(value: float) -> str:
    """As proto3's JSON mapping writes them."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
