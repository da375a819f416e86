"""Exporters: items become payloads, which are sent until they are acknowledged."""

from collections.abc import Sequence
from typing import Protocol, TypeVar, runtime_checkable

import msgspec

from pipeline.batch import Batch

T = TypeVar("T")


class Payload(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bytes ready to be sent, and how many items they cover. Stored as it is until it is acknowledged.

    Payloads with the same non-empty `key` are sent in the order they were built (a notifier's fingerprint).
    `headers` are the exporter's own, for `send`.

    What waits can be overtaken: a newer payload of the same non-empty `life` and at least the same `rank` says all
    that is left to say, and so does one that names the life in `ends`. Then the older one is acknowledged unsent.

    `about` names the notifications that it tells of (`pipeline.alert_records.notification_id`): what became of it goes
    to exporters that keep records.
    """

    body: bytes
    items: int
    key: str = ""
    headers: dict[str, str] = {}
    life: str = ""
    rank: int = 0
    ends: tuple[str, ...] = ()
    about: tuple[str, ...] = ()


Receipt = bytes
"""What an exporter wants to be given back at its next start, stored with the acknowledgement (a file's length)."""


class Exporter(Protocol[T]):
    """Builds payloads and sends them. Queue, retry, timeout, dead letters and metrics are the runtime's."""

    def build(self, batch: "Batch[T]", /) -> Sequence[Payload]:
        """Pure: the same batch gives the same bytes."""
        ...

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Returns once it is delivered. Raises RetryableError, PermanentError or PartialError."""
        ...


@runtime_checkable
class Seals(Protocol):
    """An exporter whose payloads are compressed before they are stored."""

    def seal(self, payload: Payload, /) -> Payload:
        """Pure, called off the loop's thread."""
        ...


@runtime_checkable
class Joins(Protocol):
    """An exporter that can send several payloads as one. Then items are built in small pieces as they come, so that a
    checkpoint has little left to build, and still go out in few large calls."""

    joins: int
    """Bytes of payloads, as they are built, that may go out as one. What is larger alone stays as it is."""

    def seal(self, payload: Payload, /, *more: Payload) -> Payload:
        """One payload of all items, in their order; `more` have the first one's headers. Pure, called off the loop's
        thread."""
        ...
