"""The demo's stand-in for Jaeger and Loki takes what real senders send."""

import gzip
import http.client
import json
from collections.abc import Iterator

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

from demo.sink import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    with Sink() as sink:
        yield sink


def post(sink: Sink, path: str, body: bytes, **headers: str) -> int:
    connection = http.client.HTTPConnection(sink.url.removeprefix("http://"), timeout=5)
    connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
    status = connection.getresponse().status
    connection.close()
    return status


OTLP = {
    "resourceSpans": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "dagster"}}]},
            "scopeSpans": [
                {
                    "spans": [
                        {
                            "traceId": "AB" * 16,
                            "spanId": "cd" * 8,
                            "name": "RUN x",
                            "startTimeUnixNano": "1",
                            "endTimeUnixNano": "2",
                            "status": {"code": 2},
                        }
                    ]
                }
            ],
        }
    ]
}


def test_spans_as_json_are_counted_once_also_when_they_are_sent_twice(sink: Sink) -> None:
    body = gzip.compress(json.dumps(OTLP).encode())
    headers = {"Content-Encoding": "gzip"}
    assert [post(sink, "/v1/traces", body, **headers) for _ in range(2)] == [200, 200]
    (span,) = sink.received.all_spans()
    assert (span.trace_id, span.parent_id, span.service, span.failed) == ("ab" * 16, "", "dagster", True)
    assert sink.received.span_count == 1


def test_spans_of_the_opentelemetry_sdk_arrive_with_the_ids_they_have(sink: Sink) -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "glucose"}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(f"{sink.url}/v1/traces")
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with (
        provider.get_tracer("t").start_as_current_span("outer") as outer,
        provider.get_tracer("t").start_as_current_span("inner") as inner,
    ):
        pass
    provider.shutdown()
    spans = {span.name: span for span in sink.received.all_spans()}
    assert spans["outer"].trace_id == f"{outer.get_span_context().trace_id:032x}"
    assert spans["inner"].span_id == f"{inner.get_span_context().span_id:016x}"
    assert spans["inner"].parent_id == spans["outer"].span_id
    assert sink.received.user_span_count == 2


def test_log_lines_arrive_with_their_fields(sink: Sink) -> None:
    values = [["1700000000000000000", json.dumps({"level": "INFO", "message": "hi"}), {"trace_id": "x"}]]
    body = json.dumps({"streams": [{"stream": {"job": "dagster"}, "values": values}]}).encode()
    assert post(sink, "/loki/api/v1/push", body) == 204
    assert [line["message"] for line in sink.received.last_lines(5)] == ["hi"]
    assert sink.received.line_count == 1


def test_what_it_does_not_know_is_refused_and_said(sink: Sink, capsys: pytest.CaptureFixture[str]) -> None:
    assert post(sink, "/v1/traces", b"{") == 400
    assert post(sink, "/v1/logs", b"{}") == 404
    assert "/v1/traces" in capsys.readouterr().out
