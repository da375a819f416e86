"""What the daemon says of itself: its log, its metrics, its spans, its health."""

import gzip
import json
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path

import httpx
import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.config.model import (
    HealthTelemetry,
    LogsTelemetry,
    LokiTelemetry,
    MetricsTelemetry,
    TelemetryConfig,
    TracesTelemetry,
)
from pipeline.runtime.launch import run_service
from pipeline.runtime.status import Status, Statuses
from pipeline.runtime.telemetry import own_log
from pipeline.testing.fakes import CollectingExporter, EachItem, MemoryReceiver, a_plan, events
from pipeline.web.app import serve
from tests.ports import free_address


@contextmanager
def taking() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An HTTP server that takes every POST: (path, body)."""
    taken: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            taken.append((self.path, body))
            self.send_response(204 if "loki" in self.path else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_log_line_is_a_sentence_and_its_facts(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with own_log("info", "text"):
        logging.getLogger("dagtel.test").warning("Export failed.", extra={"exporter": "loki", "why": "no answer"})
        logging.getLogger("dagtel.test").debug("Not this one.")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("WARNING Export failed. exporter=loki why='no answer'")


def test_as_json_it_is_one_object_a_line_with_the_exception(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with own_log("info", "json"):
        try:
            raise ValueError("bad")
        except ValueError:
            logging.getLogger("dagtel.test").exception("It raised.", extra={"component": "x"})
    record = json.loads(stream.getvalue())
    assert (record["level"], record["message"], record["component"]) == ("ERROR", "It raised.", "x")
    assert "ValueError: bad" in record["exception"]


def test_the_own_log_goes_to_loki_as_well_and_a_dead_loki_costs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with taking() as (url, taken), own_log("info", "text", f"{url}/loki/api/v1/push", {"env": "test"}):
        logging.getLogger("dagtel.test").warning("Hello.", extra={"n": 1})
    ((_, body),) = taken
    (stream,) = json.loads(body)["streams"]
    assert stream["stream"]["service_name"] == "dagtel"
    assert stream["stream"]["env"] == "test"
    assert json.loads(stream["values"][0][1])["n"] == 1
    with own_log("info", "text", "http://127.0.0.1:9/loki/api/v1/push"):
        logging.getLogger("dagtel.test").warning("Nobody there.")
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.anyio
async def test_a_running_daemon_shows_its_metrics_health_and_spans(tmp_path: Path) -> None:
    addresses = [free_address(), free_address()]
    pages: dict[str, httpx.Response] = {}

    def picky(event: object) -> object:
        if getattr(event, "message", "") == "b":
            raise ValueError("no b")
        return event

    class Asking(MemoryReceiver):
        async def run(self, intake: object) -> None:
            await super().run(intake)  # type: ignore[arg-type]
            import anyio

            await anyio.sleep(0.3)
            async with httpx.AsyncClient() as client:
                pages["metrics"] = await client.get(f"http://{addresses[0]}/metrics")
                pages["live"] = await client.get(f"http://{addresses[1]}/healthz")
                pages["ready"] = await client.get(f"http://{addresses[1]}/readyz")

    with taking() as (url, taken):
        plan = a_plan(
            Asking(events("a", "b", "c")), [EachItem(picky)], {"out": CollectingExporter()}, tmp_path / "state.db"
        )
        telemetry = TelemetryConfig(
            metrics=MetricsTelemetry(address=addresses[0]),
            health=HealthTelemetry(address=addresses[1]),
            logs=LogsTelemetry(level="warning", loki=LokiTelemetry(url=f"{url}/loki/api/v1/push")),
            traces=TracesTelemetry(endpoint=url),
        )
        service = msgspec.structs.replace(plan.service, telemetry=telemetry)
        assert await run_service(msgspec.structs.replace(plan, service=service), True, serve) == 0

    samples = {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(pages["metrics"].text)
        for s in family.samples
    }
    assert samples["dagtel_receiver_accepted_events_total", (("receiver", "in"),)] == 3
    assert samples["dagtel_processor_outgoing_items_total", (("component", "processors.p0"),)] == 2
    assert samples["dagtel_exporter_sent_items_total", (("exporter", "out"),)] == 2
    assert samples["dagtel_exporter_queue_size", (("exporter", "out"),)] == 0
    assert samples["dagtel_dead_letters_total", (("component", "processors.p0"),)] == 1
    assert pages["live"].status_code == 200
    assert pages["ready"].status_code == 200
    assert pages["ready"].json()["pipelines"]["events"]["components"]["receivers.in"]["status"] == "ok"

    spans = [
        span.name
        for path, body in taken
        if path == "/v1/traces"
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert {"batch", "checkpoint", "send"} <= set(spans)


def test_a_permanent_error_stays_and_a_recoverable_one_goes() -> None:
    statuses = Statuses()
    statuses.set("exporters.loki", Status.OK)
    statuses.set("exporters.loki", Status.RECOVERABLE, "away")
    assert statuses.of("exporters.loki") == (Status.RECOVERABLE, "away")
    statuses.set("exporters.loki", Status.OK)
    assert statuses.of("exporters.loki") == (Status.OK, "")
    statuses.set("exporters.loki", Status.PERMANENT, "broken")
    statuses.set("exporters.loki", Status.OK)
    assert statuses.of("exporters.loki") == (Status.PERMANENT, "broken")
