"""Receivers: input becomes items, and where reading goes on is committed with what they led to."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

T = TypeVar("T")
U_co = TypeVar("U_co", covariant=True)


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where reading goes on. `next` is the offset (line, storage id) to be read next.

    `at_ns` is the timestamp of the last record read and `crc` the CRC-32 of its key and value: they tell on the next
    start whether the input is still the one that was read. `note` is the receiver's own (cursors, gaps).
    """

    next: int
    at_ns: int = 0
    crc: int = 0
    note: bytes = b""


class Rejected(msgspec.Struct, frozen=True):
    """Input that could not be decoded, for the dead letters. `origin` says where it was: "dagster.events/3@1042".

    The rest is what decoding it again needs: source and offset, the timestamp of its record (Unix ns, 0 where it has
    none), its headers.
    """

    body: bytes
    reason: str
    origin: str
    source: str = ""
    offset: int = -1
    record_ns: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


class Read(msgspec.Struct, Generic[T], frozen=True):
    """What one read gave: items of one source in order, and the position after them (also when there are none).

    `behind`: more is known to be there already, so domain time follows the records instead of the wall.
    `size` is the bytes taken from the input.
    """

    source: str
    items: Sequence[T]
    position: Position
    rejected: Sequence[Rejected] = ()
    behind: bool = False
    size: int = 0


class Intake(Protocol[T]):
    """The runtime's door for a receiver. A source is one ordered input ("dagster.events/3") and becomes a shard."""

    @property
    def once(self) -> bool:
        """Read to the present end, then return from `run`."""
        ...

    @property
    def alone(self) -> str:
        """Why this process must have all sources of the input; "" if others may have a part of them."""
        ...

    async def assign(self, sources: Iterable[str]) -> Mapping[str, Position | None]:
        """Take sources on: their state is loaded. Gives the stored position of each; None where there is none."""
        ...

    async def revoke(self, sources: Iterable[str]) -> None:
        """Give sources up: what was put is processed and committed, then their state is let go."""
        ...

    async def put(self, read: "Read[T]") -> None:
        """Hand over what was read; waits while the pipelines or a blocking exporter have no room."""
        ...

    def has_room(self) -> bool:
        """Whether a `put` would not wait: a receiver that must keep polling pauses its input instead."""
        ...

    def committed(self) -> Mapping[str, Position]:
        """The last committed position of each source of this receiver, for courtesy commits at the broker."""
        ...


class Receiver(Protocol[U_co]):
    """Reads input, decodes it, and hands it over. Cancelled when it is told to stop; `put` is atomic."""

    async def run(self, intake: "Intake[object]") -> None:
        """Read until cancelled; with `intake.once` return at the end that was there at the start.

        Raises RetryableError (the runtime starts it again after a backoff), PermanentError (the daemon ends).
        """
        ...
