"""The options that the runtime adds to every exporter: the Collector's names, and what they mean here."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from pipeline.options import Duration, Size


class RetryOnFailure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a payload that failed is tried again. Source: the Collector's `retry_on_failure`."""

    enabled: bool = True
    """Off: the first failure is final, the payload goes to the dead letters."""
    initial_interval: Duration = Duration("1s")
    """Wait before the first retry."""
    multiplier: float = 1.5
    """Each wait is this many times the last."""
    randomization_factor: float = 0.5
    """Waits vary by up to this part of themselves, up and down."""
    max_interval: Duration = Duration("30s")
    """No wait is longer, unless the backend asks for more by Retry-After."""
    max_retry_after: Duration = Duration("1h")
    """A backend that asks for a longer wait by Retry-After is asked again after this long."""
    max_elapsed_time: Duration = Duration(0)
    """Give up after this long, then the payload goes to the dead letters. 0: never give up."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.multiplier < 1:
            yield "multiplier", "must be at least 1"
        if not 0 <= self.randomization_factor <= 1:
            yield "randomization_factor", "must be from 0 to 1"


class CircuitBreaker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a backend that keeps failing is left alone: no calls for a while, then one payload goes first to see.

    An answer with Retry-After opens it at once, for as long as the backend asks.
    """

    enabled: bool = True
    """Off: each payload waits for itself alone."""
    failures: int = 5
    """Attempts that failed in a row, all senders together, after which nothing is sent for a while."""
    cool_down: Duration = Duration("10s")
    """How long nothing is sent; then one attempt tells whether the rest may go."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.failures < 1:
            yield "failures", "must be at least 1"
        if self.cool_down <= 0:
            yield "cool_down", "must be more than 0"


class QueueBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How items are gathered into payloads. Source: the Collector's `sending_queue.batch`."""

    max_size: int = 5000
    """Items in one payload at most."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.max_size < 1:
            yield "max_size", "must be at least 1"


class SendingQueue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The outbox of one exporter: committed payloads that wait to be sent. It is always on disk, in the state store."""

    num_consumers: int = 4
    """Payloads sent side by side; 1 for exporters that keep an order."""
    queue_size: Size = Size("512MiB")
    """Bytes that may wait, memory and disk together; then `on_full` decides."""
    memory: Size = Size("64MiB")
    """Bytes of waiting payloads kept in memory; the rest is read back from disk when it is its turn."""
    on_full: Literal["block", "drop_oldest"] = "block"
    """`block`: stop taking input until there is room. `drop_oldest`: drop the oldest payloads, counted."""
    batch: QueueBatch = QueueBatch()

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.num_consumers < 1:
            yield "num_consumers", "must be at least 1"
        if self.queue_size < 1:
            yield "queue_size", "must be at least 1"


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one exporter's payloads are delivered."""

    timeout: Duration = Duration("5s")
    """One attempt takes no longer."""
    retry_on_failure: RetryOnFailure = RetryOnFailure()
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    sending_queue: SendingQueue = SendingQueue()
