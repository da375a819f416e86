"""The gate before a backend: the senders of one exporter pass it one call at a time once its breaker has opened.

Whoever has failed least goes first: a payload that fails again and again never takes the probe from one that is fresh.
"""

from bisect import insort
from itertools import count

import anyio

from pipeline.runtime.breaker import Breaker, Circuit


class Gate:
    """Senders `enter` before a call and tell the result; see `Breaker`."""

    def __init__(self, breaker: Breaker) -> None:
        self.breaker = breaker
        self._line: list[tuple[int, int]] = []
        self._numbers = count()
        self._changed = anyio.Event()

    @property
    def is_shut(self) -> bool:
        """Calls wait for their turn."""
        return self.breaker.state is not Circuit.CLOSED

    @property
    def wait_s(self) -> float:
        """How long until the next call may begin."""
        return self.breaker.wait_s(anyio.current_time())

    async def enter(self, attempts: int) -> int:
        """Wait until a call may begin; `attempts` is how often it failed so far. Gives the call's number."""
        ticket = (attempts, next(self._numbers))
        insort(self._line, ticket)
        try:
            while (wait := self._wait_s(ticket)) > 0:
                changed = self._changed
                with anyio.move_on_after(wait):
                    await changed.wait()
            return self.breaker.began()
        finally:
            self._line.remove(ticket)
            self._tell()

    def answered(self, call: int) -> bool:
        """See `Breaker.answered`."""
        closed = self.breaker.answered(call)
        self._tell()
        return closed

    def failed(self, call: int, retry_after: float | None) -> bool:
        """See `Breaker.failed`."""
        opened = self.breaker.failed(call, anyio.current_time(), retry_after)
        self._tell()
        return opened

    def abandoned(self, call: int) -> None:
        """See `Breaker.abandoned`."""
        self.breaker.abandoned(call)
        self._tell()

    def _wait_s(self, ticket: tuple[int, int]) -> float:
        if self.is_shut and self._line[0] != ticket:
            return float("inf")
        return self.wait_s

    def _tell(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
