"""OTLP requests against the official protobuf messages, what answers mean, and that a real Jaeger shows the trace."""

import base64
import gzip
import json
import math
import os
import time
from collections.abc import Mapping
from typing import Any, Literal
from uuid import UUID, uuid4

import httpx
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from exporters import otlp_json, otlp_proto
from exporters.otlp import JAEGER, OTLP, JaegerConfig, Otlp, OtlpConfig
from pipeline.batch import WHOLE, Batch
from pipeline.components import Payload
from pipeline.errors import PartialError, PermanentError, RetryableError
from pipeline.http import Response, Tls
from pipeline.options import Secret
from pipeline.signals import LogRecord, Signal, Span, SpanEvent, SpanLink
from pipeline.testing.context import FakeContext, FakeHttp
from pipeline.trace_ids import run_span_id, step_span_id, trace_id

pytestmark = pytest.mark.anyio

RESOURCE = (("dagster.code_location", "shop"), ("service.name", "dagster"))
TRACE, ROOT, STEP = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "00f067aa0ba902b7"
T0 = 1_795_403_982_610_659_072


def root(**more: object) -> Span:
    return Span(TRACE, ROOT, "", "RUN daily", T0, T0 + 10**9, {"a": "b"}, RESOURCE, kind=2, ok=True, **more)  # type: ignore[arg-type]


def step() -> Span:
    return Span(
        TRACE,
        STEP,
        ROOT,
        "load “ü” 🛒",
        T0 + 1,
        T0 + 2,
        {"text": "x", "yes": True, "n": 2**53 + 1, "f": 1.5, "list": ("a", "b"), "huge": 2**70, "nan": math.inf},
        RESOURCE,
        events=(SpanEvent("exception", T0 + 2, {"exception.type": "TimeoutError"}), SpanEvent("bare", T0, {})),
        links=(SpanLink(TRACE, "1" * 16, {"dagster.link.type": "previous_attempt"}),),
        error="TimeoutError: after 30s",
    )


def record(**more: object) -> LogRecord:
    fields: dict[str, object] = {"event": "LOG", "event_id": "r:1", "run_id": "r", **more}
    return LogRecord(at_ns=T0, level="WARNING", message="hello\n\x00", **fields)  # type: ignore[arg-type]


def read_json(body: bytes, message: type[ExportTraceServiceRequest] | type[ExportLogsServiceRequest]) -> object:
    """OTLP's JSON as its messages. The one thing that plain proto3 JSON writes otherwise are ids: base64, not hex."""

    def base64_ids(value: object) -> object:
        if isinstance(value, dict):
            return {
                k: base64.b64encode(bytes.fromhex(v)).decode() if k.endswith(("traceId", "panId")) else base64_ids(v)
                for k, v in value.items()
            }
        return [base64_ids(v) for v in value] if isinstance(value, list) else value

    return json_format.ParseDict(base64_ids(json.loads(body)), message())


def test_both_encodings_say_the_same_of_spans() -> None:
    spans = [root(), step(), Span(TRACE, "2" * 16, ROOT, "other", -5, 2**70, {}, ())]
    from_json = read_json(otlp_json.trace_request(spans), ExportTraceServiceRequest)
    assert from_json == ExportTraceServiceRequest.FromString(otlp_proto.trace_request(spans))


def test_both_encodings_say_the_same_of_log_records() -> None:
    records = [
        record(
            trace_id=TRACE, span_id=STEP, asset_name="a", partition="p", duration_ms=1.5, slow=True, dagster_level=10
        ),
        record(extra={"rows": 5, "deep": {"a": [1]}, "none": None, "cicd.pipeline.run.id": "no"}, code_location="shop"),
        record(derived=True, error_type="E", error_message="m", error_stack="s", code_location="shop"),
    ]
    resource = (("service.name", "dagster"),)
    from_json = read_json(otlp_json.logs_request(records, resource), ExportLogsServiceRequest)
    from_proto = ExportLogsServiceRequest.FromString(otlp_proto.logs_request(records, resource))
    assert from_json == from_proto
    assert [len(g.scope_logs[0].log_records) for g in from_proto.resource_logs] == [1, 2]
    said = {a.key: a.value for a in from_proto.resource_logs[1].scope_logs[0].log_records[0].attributes}
    assert said["deep"].string_value == '{"a":[1]}'
    assert said["cicd.pipeline.run.id"].string_value == "r"
    assert "none" not in said


def test_a_trace_request_is_written_as_the_specification_has_it() -> None:
    assert json.loads(otlp_json.trace_request([root(), step()])) == {
        "resourceSpans": [
            {
                "resource": {
                    "attributes": [
                        {"key": "dagster.code_location", "value": {"stringValue": "shop"}},
                        {"key": "service.name", "value": {"stringValue": "dagster"}},
                    ]
                },
                "scopeSpans": [
                    {
                        "scope": {"name": "dagtel"},
                        "spans": [
                            {
                                "traceId": TRACE,
                                "spanId": ROOT,
                                "name": "RUN daily",
                                "kind": 2,
                                "startTimeUnixNano": str(T0),
                                "endTimeUnixNano": str(T0 + 10**9),
                                "attributes": [{"key": "a", "value": {"stringValue": "b"}}],
                                "status": {"code": 1},
                            },
                            {
                                "traceId": TRACE,
                                "spanId": STEP,
                                "parentSpanId": ROOT,
                                "name": "load “ü” 🛒",
                                "kind": 1,
                                "startTimeUnixNano": str(T0 + 1),
                                "endTimeUnixNano": str(T0 + 2),
                                "attributes": [
                                    {"key": "text", "value": {"stringValue": "x"}},
                                    {"key": "yes", "value": {"boolValue": True}},
                                    {"key": "n", "value": {"intValue": str(2**53 + 1)}},
                                    {"key": "f", "value": {"doubleValue": 1.5}},
                                    {
                                        "key": "list",
                                        "value": {
                                            "arrayValue": {"values": [{"stringValue": "a"}, {"stringValue": "b"}]}
                                        },
                                    },
                                    {"key": "huge", "value": {"stringValue": str(2**70)}},
                                    {"key": "nan", "value": {"doubleValue": "Infinity"}},
                                ],
                                "events": [
                                    {
                                        "timeUnixNano": str(T0 + 2),
                                        "name": "exception",
                                        "attributes": [
                                            {"key": "exception.type", "value": {"stringValue": "TimeoutError"}}
                                        ],
                                    },
                                    {"timeUnixNano": str(T0), "name": "bare"},
                                ],
                                "links": [
                                    {
                                        "traceId": TRACE,
                                        "spanId": "1" * 16,
                                        "attributes": [
                                            {"key": "dagster.link.type", "value": {"stringValue": "previous_attempt"}}
                                        ],
                                    }
                                ],
                                "status": {"code": 2, "message": "TimeoutError: after 30s"},
                            },
                        ],
                    }
                ],
            }
        ]
    }


texts = st.text(st.characters(codec=None), max_size=20)
values = st.one_of(
    texts,
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.lists(texts, max_size=3).map(tuple),
)
times = st.integers(-(2**70), 2**70)
attributes = st.dictionaries(texts, values, max_size=3)
spans = st.builds(
    Span,
    st.just(TRACE),
    st.just(STEP),
    st.sampled_from(["", ROOT]),
    texts,
    times,
    times,
    attributes,
    st.just(RESOURCE),
    st.sampled_from([1, 2]),
    st.lists(st.builds(SpanEvent, texts, times, attributes), max_size=2).map(tuple),
    st.lists(st.builds(SpanLink, st.just(TRACE), st.just(ROOT), attributes), max_size=2).map(tuple),
    st.none() | texts,
    st.booleans(),
)


@given(st.lists(spans, min_size=1, max_size=3))
@settings(deadline=None)
def test_any_text_and_any_figure_travel_alike_in_both_encodings(said: list[Span]) -> None:
    bodies = []
    for encoding in ("json", "proto"):
        otlp = Otlp(OtlpConfig(encoding=encoding), FakeHttp(), "test")  # type: ignore[arg-type]
        (payload,) = otlp.build(Batch(said, WHOLE, 0))
        bodies.append(payload.body)
    assert read_json(bodies[0], ExportTraceServiceRequest) == ExportTraceServiceRequest.FromString(bodies[1])


async def sent(config: OtlpConfig, item: Span | LogRecord) -> tuple[str, str, bytes, dict[str, str]]:
    http = FakeHttp(lambda method, url, body: Response(200, {"content-type": "application/json"}, b"{}"))
    async with OTLP.build(config, FakeContext(http=http)) as otlp:
        for payload in otlp.build(Batch([item], WHOLE, 0)):
            await otlp.send(otlp.seal(payload))
    return http.requests[0]


async def test_spans_and_log_records_go_to_their_own_paths() -> None:
    config = OtlpConfig(endpoint="http://collector:4318/", headers={"Authorization": Secret("Bearer x")})
    method, url, body, headers = await sent(config, root())
    assert (method, url) == ("POST", "http://collector:4318/v1/traces")
    assert headers == {
        "Authorization": "Bearer x",
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "gzip",
    }
    assert gzip.decompress(body) == otlp_proto.trace_request([root()])
    assert (await sent(config, record()))[1] == "http://collector:4318/v1/logs"


async def test_whole_addresses_and_plain_json_are_possible() -> None:
    config = OtlpConfig(logs_endpoint="http://loki:3100/otlp/v1/logs", encoding="json", compression="none")
    _, url, body, headers = await sent(config, record())
    assert url == "http://loki:3100/otlp/v1/logs"
    assert headers == {"Content-Type": "application/json"}
    assert json.loads(body)["resourceLogs"][0]["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "dagster"}}
    ]


@pytest.mark.parametrize("encoding", ["json", "proto"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_requests_are_sealed_as_one_that_says_the_same(
    encoding: Literal["json", "proto"], compression: Literal["gzip", "none"]
) -> None:
    def read(payload: Payload, kind: type[ExportTraceServiceRequest] | type[ExportLogsServiceRequest]) -> list[object]:
        body = gzip.decompress(payload.body) if "Content-Encoding" in payload.headers else payload.body
        request: Any = kind.FromString(body) if encoding == "proto" else read_json(body, kind)
        return list(request.resource_spans if kind is ExportTraceServiceRequest else request.resource_logs)

    otlp = Otlp(OtlpConfig(encoding=encoding, compression=compression), FakeHttp(), "OTLP")
    spans = [payload for span in (root(), step(), step()) for payload in otlp.build(Batch([span], WHOLE, 0))]
    logs = [payload for n in range(2) for payload in otlp.build(Batch([record(event_id=f"{n}")], WHOLE, 0))]
    for parts, kind in ((spans, ExportTraceServiceRequest), (logs, ExportLogsServiceRequest)):
        sealed = otlp.seal(*parts)
        assert sealed.items == len(parts)
        assert sealed.headers.items() >= parts[0].headers.items()
        assert read(sealed, kind) == [resource for part in parts for resource in read(part, kind)]


def test_an_empty_batch_is_no_request() -> None:
    assert Otlp(OtlpConfig(), FakeHttp(), "test").build(Batch([], WHOLE, 0)) == ()


def test_jaeger_is_for_traces_with_jaegers_defaults() -> None:
    assert (JAEGER.takes, JaegerConfig().endpoint) == (frozenset({Signal.TRACES}), "http://localhost:4318")
    assert (JaegerConfig().encoding, OtlpConfig().encoding) == ("json", "proto")
    assert OTLP.takes == frozenset({Signal.TRACES, Signal.LOGS})


def partial(count: int, text: str) -> bytes:
    answer = ExportTraceServiceResponse(
        partial_success=ExportTracePartialSuccess(rejected_spans=count, error_message=text)
    )
    return answer.SerializeToString()


@pytest.mark.parametrize(
    ("status", "kind", "body", "error"),
    [
        (200, "application/json", b'{"partialSuccess":{"rejectedSpans":"3","errorMessage":"too old"}}', PartialError),
        (200, "application/x-protobuf", partial(3, "too old"), PartialError),
        (400, "application/json", b"too old", PermanentError),
        (429, "application/json", b"too old", RetryableError),
        (502, "text/html", b"<h1>too old</h1>", RetryableError),
        (503, "application/json", b"too old", RetryableError),
        (504, "application/json", b"too old", RetryableError),
        (500, "application/json", b"too old", PermanentError),
        (501, "application/json", b"too old", PermanentError),
        (408, "application/json", b"too old", PermanentError),
    ],
)
async def test_a_refusal_carries_the_backends_words(
    status: int, kind: str, body: bytes, error: type[Exception]
) -> None:
    http = FakeHttp(lambda method, url, sent: Response(status, {"content-type": kind}, body))
    with pytest.raises(error, match="too old"):
        await Otlp(OtlpConfig(), http, "Jaeger").send(Payload(b"", 5))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b""),
        ("application/json", b'{"partialSuccess":{}}'),
        ("application/json", b'{"partialSuccess":{"errorMessage":"just a warning"}}'),
        ("application/json", b'{"partialSuccess":{"rejectedSpans":"many"}}'),
        ("text/plain", b"ok"),
        ("application/x-protobuf", b""),
        ("application/x-protobuf", partial(0, "just a warning")),
    ],
)
async def test_any_other_answer_of_success_refuses_nothing(kind: str, body: bytes) -> None:
    http = FakeHttp(lambda method, url, sent: Response(200, {"content-type": kind}, body))
    assert await Otlp(OtlpConfig(), http, "Jaeger").send(Payload(b"", 5)) is None


class _Http:
    """The runtime's client in small."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        tls: Tls | None = None,
    ) -> Response:
        answer = await self._client.request(method, url, content=body, headers=dict(headers or {}), timeout=timeout_s)
        return Response(answer.status_code, {k.lower(): v for k, v in answer.headers.items()}, answer.content)


@pytest.mark.integration
@pytest.mark.skipif(
    not (os.environ.get("DAGTEL_TEST_JAEGER_OTLP") and os.environ.get("DAGTEL_TEST_JAEGER_QUERY")),
    reason="DAGTEL_TEST_JAEGER_OTLP and DAGTEL_TEST_JAEGER_QUERY name no Jaeger (http://127.0.0.1:4318, …:16686)",
)
@pytest.mark.parametrize("encoding", ["json", "proto"])
@pytest.mark.parametrize("compression", ["gzip", "none"])
async def test_a_real_jaeger_shows_the_trace_under_the_runs_id(encoding: str, compression: str) -> None:
    run, now = str(uuid4()), time.time_ns()
    ids = trace_id(run), run_span_id(run), step_span_id(run, "load", 1)
    run_span = Span(ids[0], ids[1], "", "RUN daily", now, now + 10**9, {}, RESOURCE, kind=2, ok=True)
    step_span = Span(
        ids[0], ids[2], ids[1], "load", now, now + 10**8, {"cicd.pipeline.task.run.id": "load#1", "n": 5}, RESOURCE,
        events=(SpanEvent("exception", now, {"exception.type": "TimeoutError"}),), error="TimeoutError",
    )  # fmt: skip
    config = JaegerConfig(
        endpoint=os.environ["DAGTEL_TEST_JAEGER_OTLP"],
        encoding=encoding,  # type: ignore[arg-type]
        compression=compression,  # type: ignore[arg-type]
    )
    async with httpx.AsyncClient() as client, JAEGER.build(config, FakeContext(http=_Http(client))) as jaeger:
        for payload in jaeger.build(Batch([step_span, run_span], WHOLE, now)):
            sealed = jaeger.seal(payload)
            await jaeger.send(sealed)
            await jaeger.send(sealed)
        url = f"{os.environ['DAGTEL_TEST_JAEGER_QUERY']}/api/traces/{UUID(run).hex}"
        (trace,) = (await client.get(url)).json()["data"]
    found = {span["spanID"]: span for span in trace["spans"]}
    assert len(trace["spans"]) == 2
    assert {s["operationName"] for s in found.values()} == {"RUN daily", "load"}
    assert found[ids[2]]["references"][0]["spanID"] == ids[1]
    assert {t["key"]: t["value"] for t in found[ids[2]]["tags"]}["cicd.pipeline.task.run.id"] == "load#1"
    assert found[ids[2]]["logs"]


async def test_a_page_for_people_is_no_answer_of_the_backend() -> None:
    http = FakeHttp(lambda method, url, sent: Response(200, {"content-type": "text/html; charset=utf-8"}, b"<html>"))
    with pytest.raises(RetryableError, match="web page"):
        await Otlp(OtlpConfig(), http, "Jaeger").send(Payload(b"", 5))


async def test_a_partial_success_says_how_many_were_refused() -> None:
    http = FakeHttp(
        lambda method, url, sent: Response(200, {"content-type": "application/x-protobuf"}, partial(3, "x"))
    )
    with pytest.raises(PartialError) as caught:
        await Otlp(OtlpConfig(), http, "Jaeger").send(Payload(b"", 5))
    assert caught.value.count == 3
