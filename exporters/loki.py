"""Log records → Loki's push API, as JSON.

Source: https://grafana.com/docs/loki/latest/reference/loki-http-api/ (`POST /loki/api/v1/push`). A stream is a set of
labels; its entries go out ordered by time. Loki stores an entry of equal time and line once, so a payload sent twice
does no harm, and `event_id` keeps two equal lines apart.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Final, Literal

import msgspec

from exporters.gzipped import gzipped
from exporters.json_list import one_list
from exporters.log_lines import json_lines, rfc3339
from pipeline.addresses import url_fault
from pipeline.batch import Batch
from pipeline.clock import HOUR, Clock, SystemClock
from pipeline.components import Context, ExporterSpec, Payload, Receipt
from pipeline.errors import PartialError
from pipeline.http import HttpClient, Response, Tls, expect_no_page, expect_ok
from pipeline.native import HAS_NATIVE, native
from pipeline.options import Duration, Secret, Size
from pipeline.signals import LogRecord, Signal

LabelField = Literal["level", "code_location", "job_name", "event", "status"]
MetadataField = Literal[
    "run_id", "trace_id", "span_id", "job_name", "step_key", "asset_name", "partition", "event_id", "status", "event"
]

LATE: Final = "late"
_PUSH: Final = "/loki/api/v1/push"
_LABEL_MAX: Final = 1024
_MOST_HEADS: Final = 1000  # remembered; each is asked for by every payload
_ENTRY_ROOM: Final = 64  # bytes that an entry takes beside its line: time, quotes, brackets
_SINGLE_ENTRIES: Final = (b"entry for stream", b"entry size", b"entry with timestamp", b"stream '")  # seen on Loki 3.7
_COUNTED: Final = re.compile(rb"total ignored: (\d+) out of")
_RETRYABLE: Final = frozenset({429, *range(500, 600)})  # as Promtail and Alloy have it
_NO_TIMEOUT_S: Final = 3600.0  # the runtime's own `timeout` is the one that counts


class LokiConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Log records to Grafana Loki (2.9 and later).

    The line is JSON, so that `{job="dagster"} | json | asset_name="x" | status="success"` answers. What has many
    values (run, asset, step) stays in the line or the structured metadata and never becomes a label.
    """

    endpoint: str = "http://localhost:3100"
    """Loki's address; `/loki/api/v1/push` is added unless the address ends in `/push`."""
    tenant: str = ""
    """Sent as `X-Scope-OrgID`; empty where Loki has one tenant."""
    labels: dict[str, str] = msgspec.field(default_factory=lambda: {"job": "dagster"})
    """Labels that every stream has."""
    label_fields: tuple[LabelField, ...] = ("level", "code_location")
    """Fields of the record that become labels; one that is empty is left out."""
    late_after: Duration = Duration("45m")
    """A record that comes so long after its time goes into a stream of its hour, with the label `late`
    (`2026-11-28T05`): Loki refuses what is an hour older than the newest of its stream, as a partition is that is
    behind the others, or a dead letter that is replayed. 0: never. Keep it below half of Loki's `max_chunk_age`."""
    structured_metadata: tuple[MetadataField, ...] = ()
    """Fields that also go out as structured metadata (Loki 3 or later with schema v13), say `[trace_id, run_id]`."""
    compression: Literal["gzip", "none"] = "gzip"
    """How a payload is compressed, before it is stored."""
    max_bytes: Size = Size("3MiB")
    """A payload is split above this size, counted before compression. Loki takes 4 MiB by default."""
    max_line_bytes: Size = Size("250KiB")
    """A longer line loses its middle (and says `"truncated": true`); Loki refuses lines above its `max_line_size`."""
    headers: dict[str, Secret] = {}
    """Further headers, such as `Authorization`."""
    tls: Tls = Tls()
    """TLS of the connection."""

    def __post_init__(self) -> None:
        if not self.labels and not self.label_fields:
            raise ValueError("labels and label_fields are both empty; Loki wants at least one label a stream")
        if both := set(self.labels) & set(self.label_fields):
            raise ValueError(f"{', '.join(sorted(both))} stands both in labels and in label_fields")
        if self.late_after < 0:
            raise ValueError("late_after must not be negative")
        if self.late_after and LATE in self.labels:
            raise ValueError(f"the label {LATE} is that of late_after; call yours otherwise, or set late_after to 0")
        if self.max_line_bytes < 1024 or self.max_bytes < self.max_line_bytes:
            raise ValueError("1KiB <= max_line_bytes <= max_bytes must hold")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        yield from url_fault("endpoint", self.endpoint, "http://localhost:3100")


class _Stream(msgspec.Struct, gc=False):
    stream: dict[str, str]
    values: list[tuple[str, str] | tuple[str, str, dict[str, str]]]


class _Push(msgspec.Struct, gc=False):
    streams: list[_Stream]


_encode: Final = msgspec.json.Encoder().encode


class Loki:
    """The exporter."""

    def __init__(self, config: LokiConfig, http: HttpClient, clock: Clock) -> None:
        self._config, self._http, self._clock = config, http, clock
        self._url = config.endpoint if config.endpoint.endswith("/push") else config.endpoint.rstrip("/") + _PUSH
        self._labels_of: Callable[[LogRecord], object] = (
            attrgetter(*config.label_fields) if config.label_fields else lambda record: None
        )
        self._heads: dict[object, bytes] = {}
        """Encoded labels, by the fields that they are of."""
        limits = (config.max_line_bytes, config.max_bytes)
        twin = (LogRecord, config.label_fields, config.structured_metadata, *limits)
        self._push = native.LokiPush(*twin) if HAS_NATIVE else None
        self._headers = {name: value.reveal() for name, value in config.headers.items()}
        self._headers["Content-Type"] = "application/json"
        if config.tenant:
            self._headers["X-Scope-OrgID"] = config.tenant

    def build(self, batch: Batch[LogRecord]) -> Sequence[Payload]:
        """Payloads of at most `max_bytes` each, in order of time."""
        if not batch.items:
            return ()
        late_ns = self._clock.wall_ns() - self._config.late_after.ns if self._config.late_after else 0
        if self._push is not None:
            bodies = self._push.build(batch.items, late_ns, self._line, self._encoded_labels)
            if bodies is not None:
                return [Payload(body, count) for body, count in bodies]
        records = sorted(batch.items, key=attrgetter("at_ns"))
        lines = json_lines(records)
        limit = self._config.max_line_bytes
        if max(map(len, lines)) * 4 > limit:  # a character is 4 bytes at most
            lines = [_fitting(record, line, limit) for record, line in zip(records, lines, strict=True)]
        return self._payloads(records, lines, late_ns)

    def _line(self, record: LogRecord) -> str:
        return _fitting(record, json_lines([record])[0], self._config.max_line_bytes)

    def _encoded_labels(self, record: LogRecord, is_late: bool) -> bytes:
        if is_late:
            return _encode(self._labels(record, is_late))
        fields = self._labels_of(record)
        known = self._heads.get(fields)
        if known is None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            known = self._heads[fields] = _encode(self._labels(record, is_late))
        return known

    def _payloads(self, records: Sequence[LogRecord], lines: Sequence[str], late_ns: int) -> list[Payload]:
        limit, count = self._config.max_bytes, len(lines)
        if count == 1 or sum(map(len, lines)) + _ENTRY_ROOM * count <= limit:
            body = _encode(_Push(self._streams(records, lines, late_ns)))
            if count == 1 or len(body) <= limit:
                return [Payload(body, count)]
        half = count // 2
        first = self._payloads(records[:half], lines[:half], late_ns)
        return first + self._payloads(records[half:], lines[half:], late_ns)

    def _streams(self, records: Sequence[LogRecord], lines: Sequence[str], late_ns: int) -> list[_Stream]:
        streams: dict[object, _Stream] = {}
        metadata, labels_of = self._config.structured_metadata, self._labels_of
        for record, line in zip(records, lines, strict=True):
            labels = labels_of(record)
            if record.at_ns < late_ns:
                labels = (labels, record.at_ns // HOUR)
            stream = streams.get(labels)
            if stream is None:
                stream = streams[labels] = _Stream(self._labels(record, record.at_ns < late_ns), [])
            at = str(record.at_ns) if record.at_ns > 0 else "0"
            stream.values.append((at, line, _metadata(record, metadata)) if metadata else (at, line))
        return list(streams.values())

    def _labels(self, record: LogRecord, is_late: bool) -> dict[str, str]:
        found: dict[str, str] = {name: str(getattr(record, name)) for name in self._config.label_fields}
        if is_late:
            found[LATE] = rfc3339(record.at_ns)[: len("2026-11-28T05")]
        return {**self._config.labels, **{name: value[:_LABEL_MAX] for name, value in found.items() if value}}

    @property
    def joins(self) -> int:
        """A push has at most `max_bytes`. A stream may stand in it more than once."""
        return self._config.max_bytes

    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        """One push of several, compressed."""
        pieces = one_list([payload.body, *(other.body for other in more)])
        items = payload.items + sum(other.items for other in more)
        if self._config.compression == "none":
            return Payload(b"".join(pieces), items) if more else payload
        return Payload(gzipped(*pieces), items, headers={"Content-Encoding": "gzip"})

    async def send(self, payload: Payload) -> Receipt | None:
        """Push it. Raises RetryableError, PermanentError, or PartialError where Loki kept what it could."""
        response = await self._http.request(
            "POST",
            self._url,
            body=payload.body,
            headers={**self._headers, **payload.headers},
            timeout_s=_NO_TIMEOUT_S,
            tls=self._config.tls,
        )
        _expect_all_kept(response)
        expect_no_page(expect_ok(response, "Loki", retryable=_RETRYABLE), "Loki")
        return None


def _expect_all_kept(response: Response) -> None:
    """Loki answers 400 also where it refused single entries (too long, too old, too new) and stored the others."""
    if response.status == 400 and any(word in response.body for word in _SINGLE_ENTRIES):
        text = response.body[:1000].decode("utf-8", "replace").strip()
        counted = _COUNTED.search(response.body)
        count = int(counted[1]) if counted else 1  # it names one, or says how many
        raise PartialError(f"Loki refused some entries: {text}", {-1: text}, count)


def _fitting(record: LogRecord, line: str, limit: int) -> str:
    return line if len(line) * 4 <= limit or len(line.encode()) <= limit else shortened(record, limit)


def _metadata(record: LogRecord, names: Sequence[str]) -> dict[str, str]:
    return {name: str(value) for name in names if (value := getattr(record, name))}


def shortened(record: LogRecord, limit: int) -> str:
    """The record's line with its long texts cut in the middle and no extra fields, in at most about `limit` bytes."""
    room = limit // 4
    while True:
        less = msgspec.structs.replace(
            record,
            message=_cut(record.message, room),
            error_message=_cut(record.error_message, room // 2),
            error_stack=_cut(record.error_stack, room),
            extra={"truncated": True},
        )
        line = json_lines([less])[0]
        if len(line.encode()) <= limit or room < 64:
            return line
        room //= 2


def _cut(text: str, room: int) -> str:
    """Its beginning and its end; errors say what matters in one of the two."""
    return text if len(text) <= room else f"{text[: room // 2]} … {text[len(text) - room // 2 :]}"


@asynccontextmanager
async def build(config: LokiConfig, context: Context) -> AsyncIterator[Loki]:
    yield Loki(config, context.http, SystemClock())


SPEC = ExporterSpec("loki", LokiConfig, build, frozenset({Signal.LOGS}))
