"""Where the demo sends when there is no Jaeger and no Loki: OTLP/HTTP and Loki's push API, counted, a bit remembered.

It is what a newcomer sees first, so it holds what it is sent against the real formats: OTLP as JSON or protobuf, Loki's
JSON, plain or gzip.
"""

import base64
import gzip
import json
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KEPT_SPANS = 3000
KEPT_LINES = 200


class Span(NamedTuple):
    """A span as received; ids are lower-case hex, `parent_id` "" for a root."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    start_ns: int
    end_ns: int
    failed: bool


class Received:
    """What has arrived so far. Written by the server's threads, read by the screen."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.spans: OrderedDict[tuple[str, str], Span] = OrderedDict()
        self.lines: deque[dict[str, Any]] = deque(maxlen=KEPT_LINES)
        self.span_count = 0
        self.line_count = 0
        self.user_span_count = 0

    def add_spans(self, spans: list[Span]) -> None:
        with self.lock:
            for span in spans:
                if (span.trace_id, span.span_id) not in self.spans:  # a repeat has the same ids
                    self.span_count += 1
                    self.user_span_count += span.service == "glucose"
                self.spans[span.trace_id, span.span_id] = span
            while len(self.spans) > KEPT_SPANS:
                self.spans.popitem(last=False)

    def add_lines(self, lines: list[dict[str, Any]]) -> None:
        with self.lock:
            self.lines.extend(lines)
            self.line_count += len(lines)

    def all_spans(self) -> list[Span]:
        with self.lock:
            return list(self.spans.values())

    def last_lines(self, count: int) -> list[dict[str, Any]]:
        with self.lock:
            return list(self.lines)[-count:]


class Sink:
    """The server, as a context manager; `url` is its base address."""

    def __init__(self) -> None:
        self.received = Received()
        received = self.received

        class Handler(_Handler):
            sink = received

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Sink":
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="sink", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    sink: Received

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status = self._take(body, "json" in self.headers.get("Content-Type", ""))
        except (ValueError, KeyError, OSError) as error:
            print(f"sink: {self.path}: {error!r}", flush=True)
            status = 400
        self.send_response(status)
        self.send_header("Content-Type", self.headers.get("Content-Type", "application/json"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _take(self, body: bytes, is_json: bool) -> int:
        if self.path == "/v1/traces":
            self.sink.add_spans(list(_spans(json.loads(body) if is_json else _from_protobuf(body))))
            return 200
        if self.path == "/loki/api/v1/push":
            self.sink.add_lines(list(_lines(json.loads(body))))
            return 204
        return 404

    def log_message(self, format: str, *args: object) -> None:
        """Not a line a request."""


def _from_protobuf(body: bytes) -> dict[str, Any]:
    # MessageToDict gives ids as base64, where OTLP's own JSON has hex; _hex takes both.
    request: dict[str, Any] = MessageToDict(ExportTraceServiceRequest.FromString(body))
    return request


def _spans(request: dict[str, Any]) -> Iterator[Span]:
    for resource in request.get("resourceSpans", ()):
        attributes = resource.get("resource", {}).get("attributes", ())
        names = {a["key"]: a["value"].get("stringValue", "") for a in attributes}
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                yield _span(span, names.get("service.name", ""))


def _span(span: dict[str, Any], service: str) -> Span:
    return Span(
        trace_id=_hex(span["traceId"], 32),
        span_id=_hex(span["spanId"], 16),
        parent_id=_hex(span.get("parentSpanId", ""), 16),
        name=span["name"],
        service=service,
        start_ns=int(span["startTimeUnixNano"]),
        end_ns=int(span["endTimeUnixNano"]),
        failed=span.get("status", {}).get("code") in (2, "STATUS_CODE_ERROR"),
    )


def _hex(id: str, digits: int) -> str:
    return id.lower() if len(id) in (0, digits) else base64.b64decode(id).hex()


def _lines(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for stream in request["streams"]:
        for at_ns, line, *_ in stream["values"]:
            yield {**json.loads(line), "labels": stream["stream"], "at_ns": int(at_ns)}
