"""Items as Kafka records, and records as payloads. Pure: the same items give the same bytes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import msgspec

from exporters.json_lines import encode_lines
from pipeline.components import Payload
from pipeline.errors import PermanentError
from pipeline.events import Event
from pipeline.outcomes_wire import encode_events
from pipeline.signals import Alert, LogRecord

Item: TypeAlias = Event | LogRecord | Alert
MILLISECOND = 1_000_000
PAYLOAD_BYTES = 4 << 20


class Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record as it is stored in a payload. `at_ms`: milliseconds since the Unix epoch."""

    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    at_ms: int


_encode = msgspec.msgpack.Encoder().encode
decode_records = msgspec.msgpack.Decoder(list[Record]).decode
"""The records of a payload's body."""


def records_of(items: Sequence[Item], now_ns: int) -> Iterator[Record]:
    """The records. A time after now is now: brokers refuse a whole batch for one record of the future."""
    latest = now_ns or (1 << 63)
    events = [item for item in items if isinstance(item, Event)]
    if events:
        for event in events:
            if event.raw:  # what a processor made has no bytes of its own
                at_ns = min(event.record_ns or event.at_ns, latest)
                yield Record(_key(event), event.raw, event.headers, max(0, at_ns) // MILLISECOND)
        return
    for item, line in zip(items, encode_lines(items).split(b"\n"), strict=False):
        at_ns = item.now_ns if isinstance(item, Alert) else item.at_ns
        yield Record(_key(item), line, (), max(0, min(at_ns, latest)) // MILLISECOND)


def outcome_records_of(items: Sequence[Item], now_ns: int) -> Iterator[Record]:
    """Records of some hundred events each, without keys: their topic has one partition."""
    events = [item for item in items if isinstance(item, Event)]
    if len(events) < len(items):
        raise PermanentError("`encoding: outcomes` carries events; logs and alerts need an exporter of their own")
    for value, at_ns in encode_events(events):
        yield Record(None, value, (), max(0, min(at_ns, now_ns or at_ns)) // MILLISECOND)


def _key(item: Item) -> bytes | None:
    if isinstance(item, Alert):
        key = item.fingerprint
    else:
        key = item.run_id or (getattr(item.detail, "asset", "") if isinstance(item, Event) else "")
    return key.encode("utf-8", "surrogatepass") or None


def payloads_of(records: Iterable[Record]) -> list[Payload]:
    """The records in payloads of about PAYLOAD_BYTES."""
    payloads: list[Payload] = []
    part: list[Record] = []
    size = 0
    for record in records:
        part.append(record)
        size += len(record.value)
        if size >= PAYLOAD_BYTES:
            payloads.append(Payload(_encode(part), len(part)))
            part, size = [], 0
    if part:
        payloads.append(Payload(_encode(part), len(part)))
    return payloads
