"""The daemon's own figures and spans, through the OpenTelemetry API and SDK, and its own log.

Names follow the Collector's with `dagtel_` for `otelcol_`. The runtime counts for every component alike; components
add their own through `context.meter`.
"""

import json
import logging
import logging.handlers
import queue
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, NoOpMeterProvider, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracerProvider, SpanKind, Tracer
from prometheus_client import CollectorRegistry, make_asgi_app

from pipeline.http import Asgi

Level = Literal["none", "basic", "normal", "detailed"]
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
LOKI_QUEUE = 10_000
"""Own log lines that may wait for Loki; more are dropped."""


class ExporterMeter:
    """Counts what one exporter does."""

    def __init__(self, telemetry: "Telemetry", exporter: str) -> None:
        self._telemetry, self._labels = telemetry, {"exporter": exporter}

    def sent(self, items: int, size: int) -> None:
        self._telemetry.sent.add(items, self._labels)
        self._telemetry.sent_bytes.add(size, self._labels)

    def failed(self, error: str) -> None:
        labels = {**self._labels, "error": error} if self._telemetry.level == "detailed" else self._labels
        self._telemetry.send_failed.add(1, labels)

    def refused(self, items: int) -> None:
        self._telemetry.refused.add(items, self._labels)

    def circuit_opened(self) -> None:
        self._telemetry.circuit_opened.add(1, self._labels)

    def overtaken(self, payloads: int) -> None:
        self._telemetry.overtaken.add(payloads, self._labels)

    def dropped(self, payloads: int) -> None:
        self._telemetry.dropped.add(payloads, self._labels)

    @contextmanager
    def attempt(self, items: int) -> Iterator[None]:
        """A span around one attempt to send."""
        with self._telemetry.tracer.start_as_current_span("send", kind=SpanKind.CLIENT) as span:
            span.set_attribute("dagtel.exporter", self._labels["exporter"])
            span.set_attribute("dagtel.items", items)
            yield


class Telemetry:
    """The meter and tracer of one daemon, and the instruments that the runtime itself uses."""

    def __init__(self, level: Level, otlp: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.level = level
        resource = Resource.create({"service.name": "dagtel"})
        self._registry = CollectorRegistry()
        self._meters: MeterProvider | None = None
        if level != "none":
            reader = PrometheusMetricReader(registry=self._registry, scope_info_enabled=False)
            self._meters = MeterProvider(metric_readers=[reader], resource=resource)
        self.meter: Meter = (self._meters or NoOpMeterProvider()).get_meter("dagtel")
        self._tracers: TracerProvider | None = None
        if otlp:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # 65 ms of imports

            self._tracers = TracerProvider(resource=resource)
            exporter = OTLPSpanExporter(f"{otlp.rstrip('/')}/v1/traces", headers=dict(headers or {}))
            self._tracers.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer: Tracer = (self._tracers or NoOpTracerProvider()).get_tracer("dagtel")
        self._instruments(self.meter)

    def _instruments(self, meter: Meter) -> None:
        self.accepted = meter.create_counter("dagtel_receiver_accepted_events", description="Events taken in.")
        self.rejected = meter.create_counter("dagtel_receiver_refused_events", description="Input that was no event.")
        self.received_bytes = meter.create_counter("dagtel_receiver_bytes", unit="By", description="Bytes taken in.")
        self._passed: dict[str, list[int]] = {}
        self._observed(meter, "dagtel_processor_incoming_items", "Items given to it.", 0)
        self._observed(meter, "dagtel_processor_outgoing_items", "Items that it gave.", 1)
        self.sent = meter.create_counter("dagtel_exporter_sent_items", description="Items delivered.")
        self.sent_bytes = meter.create_counter("dagtel_exporter_sent_bytes", unit="By", description="Bytes delivered.")
        self.send_failed = meter.create_counter("dagtel_exporter_send_failed", description="Attempts that failed.")
        self.refused = meter.create_counter("dagtel_exporter_refused_items", description="Items refused for ever.")
        self.overtaken = meter.create_counter(
            "dagtel_exporter_overtaken_payloads", description="Not sent: a newer one says all that is left to say."
        )
        self.dropped = meter.create_counter("dagtel_exporter_dropped_payloads", description="Dropped: queue full.")
        self.circuit_opened = meter.create_counter(
            "dagtel_exporter_circuit_opened", description="Times that an exporter's circuit breaker opened."
        )
        self.dead_letters = meter.create_counter("dagtel_dead_letters", description="Items in the dead letters.")
        self.checkpoints = meter.create_counter("dagtel_checkpoints", description="Checkpoints committed.")
        self.pause = meter.create_histogram(
            "dagtel_checkpoint_pause_seconds",
            description="How long a barrier held the intake.",
            explicit_bucket_boundaries_advisory=[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1],
        )
        self.commit = meter.create_histogram(
            "dagtel_checkpoint_commit_seconds",
            description="How long a checkpoint's transaction took.",
            explicit_bucket_boundaries_advisory=[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
        )

    def _observed(self, meter: Meter, name: str, description: str, which: int) -> None:
        observe = _observing(lambda: [(counts[which], {"component": id}) for id, counts in self._passed.items()])
        meter.create_observable_counter(name, [observe], description=description)

    def passing(self, component: str) -> Callable[[int, int], None]:
        """Counts the items that a component is given and gives, all its instances together. Only numbers are added, and
        read when somebody scrapes: each batch passes a dozen components."""
        counts = self._passed.setdefault(component, [0, 0])

        def count(taken: int, given: int) -> None:
            counts[0] += taken
            counts[1] += given

        return count

    def gauge(self, name: str, description: str, read: Callable[[], Iterable[tuple[float, Mapping[str, str]]]]) -> None:
        """A gauge that is read when somebody scrapes."""
        self.meter.create_observable_gauge(name, [_observing(read)], description=description)

    def exporter(self, id: str) -> ExporterMeter:
        """The counters of one exporter."""
        return ExporterMeter(self, id)

    def app(self) -> Asgi:
        """`/metrics` as bare ASGI."""
        app: Asgi = make_asgi_app(self._registry)
        return app

    def close(self) -> None:
        """Send what spans are left, within a second."""
        if self._tracers:
            self._tracers.force_flush(1000)
            self._tracers.shutdown()
        if self._meters:
            self._meters.shutdown()


def _observing(
    read: Callable[[], Iterable[tuple[float, Mapping[str, str]]]],
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: [Observation(value, labels) for value, labels in read()]


class TextFormat(logging.Formatter):
    """`2026-11-23T06:00:00Z WARNING Export failed, retrying. exporter=loki attempt=3`: a sentence, then its facts."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S%z")

    def format(self, record: logging.LogRecord) -> str:
        facts = " ".join(f"{k}={v!r}" if " " in str(v) else f"{k}={v}" for k, v in facts_of(record).items())
        first, *rest = super().format(record).split("\n")
        return "\n".join([f"{first} {facts}".rstrip(), *rest])


class JsonFormat(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **facts_of(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str, ensure_ascii=False)


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """The fields that were passed as `extra`."""
    return {k: v for k, v in vars(record).items() if k not in _STANDARD and v != ""}


@contextmanager
def own_log(
    level: str,
    form: Literal["text", "json"],
    loki_url: str = "",
    loki_labels: Mapping[str, str] | None = None,
    worker: str = "",
) -> Iterator[None]:
    """The daemon's own log: to stderr, and to Loki behind a bounded queue (it posts one record a request).

    `worker`, where it is not "", is a fact of every line.
    """
    root = logging.getLogger("dagtel")
    before = root.level, root.propagate
    root.setLevel(level.upper())
    root.propagate = False
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    handlers[0].setFormatter(JsonFormat() if form == "json" else TextFormat())
    listener: logging.handlers.QueueListener | None = None
    if loki_url:
        import logging_loki  # pulls requests in: only who asks for it pays

        waiting: queue.Queue[logging.LogRecord] = queue.Queue(LOKI_QUEUE)
        loki = logging_loki.LokiHandler(
            url=loki_url, tags={"service_name": "dagtel", **(loki_labels or {})}, version="1"
        )
        loki.setFormatter(JsonFormat())
        loki.handleError = _quiet
        handlers.append(_DroppingQueueHandler(waiting))
        listener = logging.handlers.QueueListener(waiting, loki)
        listener.start()
    for handler in handlers:
        if worker:
            handler.addFilter(_by(worker))
        root.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            root.removeHandler(handler)
        root.setLevel(before[0])
        root.propagate = before[1]
        if listener:
            listener.stop()


def _by(worker: str) -> Callable[[logging.LogRecord], bool]:
    def mark(record: logging.LogRecord) -> bool:
        record.worker = worker
        return True

    return mark


class _DroppingQueueHandler(logging.handlers.QueueHandler):
    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        return record

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # the name is the standard library's
        """The queue is full: this line is on stderr all the same."""


def _quiet(record: logging.LogRecord) -> None:
    """Loki is away: the line is on stderr all the same, and a traceback a line would bury it."""
