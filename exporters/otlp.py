"""Spans and log records → any OTLP/HTTP endpoint: an OpenTelemetry Collector, Jaeger, Tempo, Loki, a vendor.

Source: https://opentelemetry.io/docs/specs/otlp/#otlphttp. Two kinds from one class: `otlp`, and `jaeger` with the
defaults of a Jaeger beside us. Metrics do not travel this way: `prometheus` publishes them.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Literal

import msgspec

from exporters import otlp_json
from exporters.gzipped import gzipped
from exporters.json_list import one_list
from exporters.valid_text import valid_items
from pipeline import names
from pipeline.addresses import url_fault
from pipeline.batch import Batch
from pipeline.components import Context, ExporterSpec, Payload, Receipt
from pipeline.errors import PartialError
from pipeline.http import HttpClient, Response, Tls, expect_no_page, expect_ok
from pipeline.options import Secret
from pipeline.signals import Labels, LogRecord, Signal, Span

_TRACES: Final = "/v1/traces"
_LOGS: Final = "/v1/logs"
_PATH: Final = "path"  # the payload's header that says where it goes; not sent
_NO_TIMEOUT_S: Final = 3600.0  # the runtime's own `timeout` is the one that counts
_RETRYABLE: Final = frozenset({429, 502, 503, 504})  # of all others the specification says: MUST NOT be retried
_LARGEST: Final = 8 << 20  # bytes of a request; a Collector and Jaeger take 20 MiB by default
_CONTENT: Final = {"proto": "application/x-protobuf", "json": "application/json"}


class OtlpConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Spans and log records to an OTLP/HTTP endpoint, such as an OpenTelemetry Collector."""

    endpoint: str = "http://localhost:4318"
    """The base address; `/v1/traces` and `/v1/logs` are added."""
    traces_endpoint: str = ""
    """The whole address for spans, where it is not `endpoint` + `/v1/traces`."""
    logs_endpoint: str = ""
    """The whole address for log records, where it is not `endpoint` + `/v1/logs`."""
    encoding: Literal["proto", "json"] = "proto"
    """How a request is written."""
    compression: Literal["gzip", "none"] = "gzip"
    """How a payload is compressed, before it is stored."""
    headers: dict[str, Secret] = {}
    """Further headers, such as `Authorization`."""
    tls: Tls = Tls()
    """TLS of the connection."""
    resource: dict[str, str] = msgspec.field(default_factory=lambda: {names.SERVICE_NAME: "dagster"})
    """Resource attributes of log records; spans bring their own from the `spans` connector."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        for path, url in (
            ("endpoint", self.endpoint),
            ("traces_endpoint", self.traces_endpoint),
            ("logs_endpoint", self.logs_endpoint),
        ):
            yield from url_fault(path, url, "http://localhost:4318")


class JaegerConfig(OtlpConfig, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Spans to Jaeger (1.35 and later, 2.x) on its OTLP/HTTP port.

    The trace of a run is found under the run's id: `/trace/<run id without hyphens>`.
    """

    encoding: Literal["proto", "json"] = "json"
    """How a request is written. Jaeger reads both alike; a span costs us 5 µs as `json` and 24 µs as `proto`."""


class Otlp:
    """The exporter."""

    def __init__(self, config: OtlpConfig, http: HttpClient, backend: str) -> None:
        self._config, self._http, self._backend = config, http, backend
        self._proto = config.encoding == "proto"
        base = config.endpoint.rstrip("/")
        self._urls = {
            _TRACES: config.traces_endpoint or base + _TRACES,
            _LOGS: config.logs_endpoint or base + _LOGS,
        }
        self._headers = {name: value.reveal() for name, value in config.headers.items()}
        self._headers["Content-Type"] = _CONTENT[config.encoding]
        self._resource: Labels = tuple(sorted(config.resource.items()))

    def build(self, batch: Batch[Span | LogRecord]) -> Sequence[Payload]:
        """One request a batch. Text that is no Unicode (lone surrogates) is made so."""
        if not batch.items:
            return ()
        path = _TRACES if isinstance(batch.items[0], Span) else _LOGS
        try:
            body = self._request(batch.items)
        except UnicodeEncodeError:
            body = self._request(valid_items(batch.items))
        return (Payload(body, len(batch.items), headers={_PATH: path}),)

    def _request(self, items: Sequence[Span | LogRecord]) -> bytes:
        spans = [item for item in items if isinstance(item, Span)]
        records = [] if spans else [item for item in items if isinstance(item, LogRecord)]
        if self._proto:
            from exporters import otlp_proto  # protobuf: 15 ms of a start, for those who send it

            return otlp_proto.trace_request(spans) if spans else otlp_proto.logs_request(records, self._resource)
        return otlp_json.trace_request(spans) if spans else otlp_json.logs_request(records, self._resource)

    joins = _LARGEST

    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        """One request of several, compressed. Their resources stand side by side, as a Collector's batches leave
        them."""
        bodies = [payload.body, *(other.body for other in more)]
        pieces = bodies if self._proto else one_list(bodies)  # messages of protobuf add up
        items = payload.items + sum(other.items for other in more)
        if self._config.compression == "none":
            return msgspec.structs.replace(payload, body=b"".join(pieces), items=items) if more else payload
        headers = {**payload.headers, "Content-Encoding": "gzip"}
        return msgspec.structs.replace(payload, body=gzipped(*pieces), items=items, headers=headers)

    async def send(self, payload: Payload) -> Receipt | None:
        """Post it. Raises RetryableError, PermanentError, or PartialError where the backend refused some items."""
        headers = {**self._headers, **payload.headers}
        path = headers.pop(_PATH, _TRACES)
        response = await self._http.request(
            "POST",
            self._urls[path],
            body=payload.body,
            headers=headers,
            timeout_s=_NO_TIMEOUT_S,
            tls=self._config.tls,
        )
        expect_no_page(expect_ok(response, self._backend, retryable=_RETRYABLE), self._backend)
        self._expect_all_kept(response, traces=path == _TRACES)
        return None

    def _expect_all_kept(self, response: Response, traces: bool) -> None:
        count, text = _rejected(response, traces)
        if count:
            reason = f"{self._backend} refused {count} items: {text or 'it did not say why'}"
            raise PartialError(reason, {-1: text}, count)


class _Partial(msgspec.Struct, frozen=True, rename="camel"):
    rejected_spans: str | int = 0
    rejected_log_records: str | int = 0
    error_message: str = ""


class _Answer(msgspec.Struct, frozen=True, rename="camel"):
    partial_success: _Partial = _Partial()


def _rejected(response: Response, traces: bool) -> tuple[int, str]:
    """How many items an answer 2xx says were refused, and why. An answer that is no OTLP refuses nothing."""
    try:
        if "json" not in response.headers.get("content-type", "json"):
            from exporters import otlp_proto  # as above

            return otlp_proto.rejected(response.body, traces)
        partial = msgspec.json.decode(response.body or b"{}", type=_Answer).partial_success
        return int(partial.rejected_spans if traces else partial.rejected_log_records), partial.error_message
    except (msgspec.MsgspecError, ValueError):
        return 0, ""


@asynccontextmanager
async def build_otlp(config: OtlpConfig, context: Context) -> AsyncIterator[Otlp]:
    yield Otlp(config, context.http, f"OTLP endpoint of {context.id}")


@asynccontextmanager
async def build_jaeger(config: JaegerConfig, context: Context) -> AsyncIterator[Otlp]:
    yield Otlp(config, context.http, "Jaeger")


OTLP = ExporterSpec("otlp", OtlpConfig, build_otlp, frozenset({Signal.TRACES, Signal.LOGS}))
JAEGER = ExporterSpec("jaeger", JaegerConfig, build_jaeger, frozenset({Signal.TRACES}))
