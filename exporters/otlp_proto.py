"""Spans and log records → OTLP requests as protobuf, by the official messages (`opentelemetry-proto`)."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord as ProtoRecord
from opentelemetry.proto.logs.v1.logs_pb2 import ResourceLogs, ScopeLogs, SeverityNumber
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Status
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from exporters.otlp_json import ERROR, INT64, OK, unix_nano
from exporters.otlp_logs import log_attributes, log_resource, severity
from pipeline import names
from pipeline.signals import Attribute, Labels, LogRecord, Span, SpanEvent, SpanLink


def trace_request(spans: Sequence[Span]) -> bytes:
    """An ExportTraceServiceRequest. Raises UnicodeEncodeError for text with lone surrogates."""
    by_resource: dict[Labels, list[ProtoSpan]] = {}
    for span in spans:
        by_resource.setdefault(span.resource, []).append(_span(span))
    scope = InstrumentationScope(name=names.SCOPE)
    groups = [
        ResourceSpans(resource=_resource(r), scope_spans=[ScopeSpans(scope=scope, spans=group)])
        for r, group in by_resource.items()
    ]
    body: bytes = ExportTraceServiceRequest(resource_spans=groups).SerializeToString(deterministic=True)
    return body


def logs_request(records: Sequence[LogRecord], resource: Labels) -> bytes:
    """An ExportLogsServiceRequest. Raises UnicodeEncodeError for text with lone surrogates."""
    by_location: dict[str, list[ProtoRecord]] = {}
    for record in records:
        by_location.setdefault(record.code_location, []).append(_record(record))
    scope = InstrumentationScope(name=names.SCOPE)
    groups = [
        ResourceLogs(
            resource=_resource(log_resource(resource, location)),
            scope_logs=[ScopeLogs(scope=scope, log_records=group)],
        )
        for location, group in by_location.items()
    ]
    body: bytes = ExportLogsServiceRequest(resource_logs=groups).SerializeToString(deterministic=True)
    return body


def rejected(body: bytes, traces: bool) -> tuple[int, str]:
    """How many items a protobuf answer says were refused, and why. Raises ValueError for other bytes."""
    try:
        if traces:
            spans = ExportTraceServiceResponse.FromString(body).partial_success
            return spans.rejected_spans, spans.error_message
        logs = ExportLogsServiceResponse.FromString(body).partial_success
    except DecodeError as error:
        raise ValueError(f"no protobuf of an answer: {error}") from error
    return logs.rejected_log_records, logs.error_message


def _span(span: Span) -> ProtoSpan:
    return ProtoSpan(
        trace_id=bytes.fromhex(span.trace_id),
        span_id=bytes.fromhex(span.span_id),
        parent_span_id=bytes.fromhex(span.parent_id),
        name=span.name,
        kind=ProtoSpan.SpanKind.ValueType(span.kind),
        start_time_unix_nano=unix_nano(span.start_ns),
        end_time_unix_nano=unix_nano(span.end_ns),
        attributes=_attributes(span.attributes),
        events=[_event(event) for event in span.events],
        links=[_link(link) for link in span.links],
        status=_status(span),
    )


def _status(span: Span) -> Status | None:
    if span.error is not None:
        return Status(code=Status.StatusCode.ValueType(ERROR), message=span.error)
    return Status(code=Status.StatusCode.ValueType(OK)) if span.ok else None


def _event(event: SpanEvent) -> ProtoSpan.Event:
    return ProtoSpan.Event(
        time_unix_nano=unix_nano(event.at_ns), name=event.name, attributes=_attributes(event.attributes)
    )


def _link(link: SpanLink) -> ProtoSpan.Link:
    return ProtoSpan.Link(
        trace_id=bytes.fromhex(link.trace_id),
        span_id=bytes.fromhex(link.span_id),
        attributes=_attributes(link.attributes),
    )


def _record(record: LogRecord) -> ProtoRecord:
    return ProtoRecord(
        time_unix_nano=unix_nano(record.at_ns),
        severity_number=SeverityNumber.ValueType(severity(record.level)),
        severity_text=record.level,
        body=AnyValue(string_value=record.message),
        attributes=[_pair(key, value) for key, value in log_attributes(record)],
        trace_id=bytes.fromhex(record.trace_id),
        span_id=bytes.fromhex(record.span_id),
    )


def _resource(labels: Iterable[tuple[str, str]]) -> Resource:
    return Resource(attributes=[_pair(key, value) for key, value in labels])


def _attributes(attributes: Mapping[str, Attribute]) -> list[KeyValue]:
    return [_pair(key, value) for key, value in attributes.items()]


def _pair(key: str, value: Attribute) -> KeyValue:
    if isinstance(value, str) and len(value) < 128:
        return _text_pair(key, value)
    return KeyValue(key=key, value=_value(value))


@lru_cache(maxsize=8192)
def _text_pair(key: str, value: str) -> KeyValue:
    """Jobs, steps, statuses say themselves again and again: 23 → 10 µs a span. Never changed, always copied in."""
    return KeyValue(key=key, value=AnyValue(string_value=value))


def _value(value: Attribute) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if value in INT64 else AnyValue(string_value=str(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=item) for item in value]))
