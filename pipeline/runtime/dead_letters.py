"""What could not be used, on its way to the store: input, items on which a component raised, refused payloads."""

import traceback
from collections.abc import Callable

import msgspec

from pipeline.events import Event
from pipeline.runtime.ids import Ids
from pipeline.signals import LogRecord
from pipeline.store.state import DeadLetter

MAX_BODY = 16 * 2**20
MAX_DETAIL = 8000
_encode = msgspec.json.Encoder(enc_hook=repr).encode


class DeadLetters:
    """Gathers dead letters until the next checkpoint takes them along."""

    def __init__(self, ids: Ids, count: Callable[[str], None] = lambda reason: None) -> None:
        self._ids, self._count = ids, count
        self._gathered: list[DeadLetter] = []

    def add(self, *, at_ns: int, component: str, reason: str, origin: str, body: bytes, detail: str = "") -> DeadLetter:
        """Note one; texts and bodies are cut to a bounded size."""
        letter = DeadLetter(
            self._ids.next(), at_ns, component, reason[:MAX_DETAIL], detail[-MAX_DETAIL:], origin, body[:MAX_BODY]
        )
        self._gathered.append(letter)
        self._count(component)
        return letter

    def add_item(self, item: object, error: BaseException, component: str, at_ns: int) -> None:
        """An item on which a component raised: its bytes, and the traceback."""
        self.add(
            at_ns=at_ns,
            component=component,
            reason=f"{type(error).__name__}: {error}",
            detail="".join(traceback.format_exception(error)),
            origin=origin(item),
            body=body(item),
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
