"""Exporters: items become payloads, which are sent until they are acknowledged."""

import sys
from collections.abc import Callable, Sequence
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

    def seal(self, payload: Payload) -> Payload:
        """Pure, called off the loop's thread."""
        ...


@runtime_checkable
class Joins(Protocol):
    """An exporter that can send several payloads as one. Then items are built in small pieces as they come, so that a
    checkpoint has little left to build, and still go out in few large calls."""

    def joined(self, payloads: Sequence[Payload], most: int, /) -> Sequence[Payload]:
        """The same items in the same order, in fewer payloads of at most `most` items each. Pure, called off the loop's
        thread; not yet sealed."""
        ...


def join_payloads(
    payloads: Sequence[Payload], most: int, bodies: Callable[[Sequence[bytes]], bytes], max_bytes: int = sys.maxsize
) -> list[Payload]:
    """Payloads of equal headers that follow each other as one, of at most `most` items and `max_bytes` of bodies each.
    `bodies` makes one body of several. What is larger alone stays as it is."""
    runs: list[list[Payload]] = []
    items = size = 0
    for payload in payloads:
        items, size = items + payload.items, size + len(payload.body)
        if not runs or items > most or size > max_bytes or payload.headers != runs[-1][0].headers:
            runs.append([])
            items, size = payload.items, len(payload.body)
        runs[-1].append(payload)
    return [run[0] if len(run) == 1 else _as_one(run, bodies) for run in runs]


def _as_one(run: Sequence[Payload], bodies: Callable[[Sequence[bytes]], bytes]) -> Payload:
    body = bodies([payload.body for payload in run])
    return Payload(body, sum(payload.items for payload in run), headers=run[0].headers)
