"""What could not be used, on its way to the store: input, items on which a component raised, refused payloads."""

import traceback
from collections.abc import Callable

import msgspec

from pipeline.components import Payload, Rejected
from pipeline.events import Event
from pipeline.runtime.ids import Ids
from pipeline.runtime.kept_items import kept
from pipeline.signals import LogRecord
from pipeline.store.state import DeadLetter

MAX_BODY = 16 * 2**20
"""A longer body is cut, and what is cut cannot be replayed."""
MAX_DETAIL = 8000
_encode = msgspec.json.Encoder(enc_hook=repr).encode
_pack = msgspec.msgpack.Encoder().encode


class KeptItem(msgspec.Struct, array_like=True):
    """What an "item" letter keeps beside its body: the pipeline of its stage, and the item as `kept_items` has it."""

    pipeline: str
    item: bytes


class DeadLetters:
    """Gathers dead letters until the next checkpoint takes them along."""

    def __init__(self, ids: Ids, count: Callable[[str], None] = lambda reason: None) -> None:
        self._ids, self._count = ids, count
        self._gathered: list[DeadLetter] = []

    def add(
        self,
        *,
        at_ns: int,
        component: str,
        reason: str,
        origin: str,
        body: bytes,
        detail: str = "",
        kind: str = "",
        shard: str = "",
        again: bytes = b"",
    ) -> DeadLetter:
        """Note one; texts and bodies are cut to a bounded size."""
        if len(body) > MAX_BODY or len(again) > MAX_BODY:
            kind, again = "", b""
        letter = DeadLetter(
            self._ids.next(),
            at_ns,
            component,
            reason[:MAX_DETAIL],
            detail[-MAX_DETAIL:],
            origin,
            body[:MAX_BODY],
            kind,
            shard,
            again,
        )
        self._gathered.append(letter)
        self._count(component)
        return letter

    def add_item(
        self, item: object, error: BaseException, component: str, at_ns: int, shard: str = "", pipeline: str = ""
    ) -> None:
        """An item on which a component raised: its bytes, the traceback, and the stage that it is to be given again."""
        data = kept(item) if shard else None
        self.add(
            at_ns=at_ns,
            component=component,
            reason=f"{type(error).__name__}: {error}",
            detail="".join(traceback.format_exception(error)),
            origin=origin(item),
            body=body(item),
            kind="item" if data is not None else "",
            shard=shard,
            again=_pack(KeptItem(pipeline, data)) if data is not None else b"",
        )

    def add_input(self, bad: Rejected, receiver: str, source: str, at_ns: int) -> None:
        """Input that a receiver could not decode."""
        self.add(
            at_ns=at_ns,
            component=f"receivers.{receiver}",
            reason=bad.reason,
            origin=bad.origin,
            body=bad.body,
            kind="input",
            shard=source,
            again=_pack(msgspec.structs.replace(bad, body=b"", reason="")),
        )

    def add_payload(self, payload: Payload, reason: str, exporter: str, at_ns: int, partly: bool, shard: str) -> None:
        """A payload that a backend refused for ever; `partly`: it took some of its items."""
        self.add(
            at_ns=at_ns,
            component=f"exporters.{exporter}",
            reason=reason,
            origin=exporter,
            body=payload.body,
            kind="part" if partly else "payload",
            shard=shard,
            again=_pack(msgspec.structs.replace(payload, body=b"")),
        )

    def take(self) -> list[DeadLetter]:
        """Those gathered since the last time."""
        taken, self._gathered = self._gathered, []
        return taken


def origin(item: object) -> str:
    """Where an item came from, as people read it."""
    if isinstance(item, Event):
        return f"{item.source}@{item.offset}"
    return type(item).__name__


def body(item: object) -> bytes:
    """An item's bytes: an event's own, anything else as JSON."""
    if isinstance(item, Event):
        return item.raw
    try:
        return _encode(item)
    except (TypeError, ValueError, RecursionError):
        return repr(item).encode("utf-8", "replace")


def as_log(letter: DeadLetter) -> LogRecord:
    """A dead letter as a log record, for the exporters that `service.dead_letters.exporters` names."""
    return LogRecord(
        at_ns=letter.at_ns,
        level="ERROR",
        event="DEAD_LETTER",
        message=letter.reason,
        event_id=f"dead-letter-{letter.id}",
        extra={
            "component": letter.component,
            "origin": letter.origin,
            "detail": letter.detail,
            "body": letter.body[:65536].decode("utf-8", "replace"),
        },
    )
