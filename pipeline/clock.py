"""Time as an argument: only the runtime holds a clock, components are told the time."""

import time
from typing import NewType, Protocol

Nanos = NewType("Nanos", int)  # Unix epoch, UTC

SECOND = 1_000_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Clock(Protocol):
    """Two clocks: the wall's, which can jump, and a monotonic one for retries, timeouts and checkpoints."""

    def wall_ns(self) -> int:
        """Nanoseconds since the Unix epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def wall_ns(self) -> int:
        return time.time_ns()

    def monotonic(self) -> float:
        return time.monotonic()


def seconds(ns: int) -> float:
    """Nanoseconds as seconds."""
    return ns / SECOND
