"""What one read of Dagster's storage gives, alike for every kind of storage."""

from typing import Protocol

import msgspec

from pipeline.components import Position


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How much one read takes, how long gaps are remembered (seconds), and how many."""

    rows: int
    bytes: int
    gap_timeout_s: float
    gaps: int


class StoredEvent(msgspec.Struct, frozen=True, gc=False):
    """A row of `event_logs`, untouched. `id` is its storage id: on SQLite each run counts from 1.

    `skip_until_ns`: leave it out if the event is not younger than this (see `receivers.dagster_cursors`).
    """

    id: int
    run_id: str
    raw: bytes
    skip_until_ns: int = 0


class Page(msgspec.Struct, frozen=True):
    """Rows in the order to hand on. `behind`: more are there already. `moved`: the position changed, rows or none."""

    rows: list[StoredEvent]
    behind: bool
    moved: bool


class Tail(Protocol):
    """Follows the event log of one storage."""

    async def read(self) -> Page:
        """The next rows. Raises RetryableError when the storage does not answer."""
        ...

    def ended(self) -> bool:
        """Whether everything that was there at the start has been read."""
        ...

    def position(self, at_ns: int) -> Position:
        """Where the next read goes on; `at_ns` is the timestamp of the last row handed on."""
        ...
