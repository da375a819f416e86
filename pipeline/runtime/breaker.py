"""A circuit breaker, pure: when calls to a backend may begin. It never waits and reads no clock.

Closed, everybody may call. `failures` failures in a row open it, and so does an answer that asks to wait (Retry-After).
Open, nobody calls until the cool-down is over; then it is half open: one call goes first, the probe, and nobody else.
Once it is open only the probe's result counts: calls that began before say nothing about now.
"""

from enum import Enum

from pipeline.delivery import CircuitBreaker


class Circuit(str, Enum):
    """What a breaker's state is called in metrics."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """See above. All times are seconds of one monotonic clock."""

    def __init__(self, policy: CircuitBreaker) -> None:
        self.state = Circuit.CLOSED
        self.failures = 0
        """Failures since the last answer."""
        self.opened_s = 0.0
        """When it was last opened, closed before."""
        self._policy = policy
        self._until_s = 0.0
        self._calls = 0
        self._probe = 0

    def wait_s(self, now_s: float) -> float:
        """How long until a call may begin: 0 is now, infinite while a probe is on its way."""
        if self.state is Circuit.CLOSED:
            return 0.0
        return max(0.0, self._until_s - now_s) if self.state is Circuit.OPEN else float("inf")

    def began(self) -> int:
        """A call begins, which `wait_s` allowed; gives the number under which its result is told."""
        self._calls += 1
        if self.state is Circuit.OPEN:
            self.state, self._probe = Circuit.HALF_OPEN, self._calls
        return self._calls

    def answered(self, call: int) -> bool:
        """The backend answered, whatever it said. True: this closed the breaker."""
        if self.state is Circuit.CLOSED:
            self.failures = 0
            return False
        if not self._is_probe(call):
            return False
        self.state, self.failures = Circuit.CLOSED, 0
        return True

    def failed(self, call: int, now_s: float, retry_after: float | None = None) -> bool:
        """The call failed; `retry_after` is what the backend asks to wait. True: this opened a closed breaker."""
        if not self._policy.enabled:
            return False
        was_closed = self.state is Circuit.CLOSED
        if not was_closed and not self._is_probe(call):
            self._until_s = max(self._until_s, now_s + (retry_after or 0.0))
            return False
        self.failures += 1
        tripped = not was_closed or self.failures >= self._policy.failures
        if not tripped and not retry_after:
            return False
        wait = max(self._policy.cool_down if tripped else 0.0, retry_after or 0.0)
        self.state, self._until_s = Circuit.OPEN, now_s + wait
        if was_closed:
            self.opened_s = now_s
        return was_closed

    def abandoned(self, call: int) -> None:
        """The call ended without a word (it was cancelled): the next probe may go."""
        if self.state is Circuit.HALF_OPEN and self._is_probe(call):
            self.state = Circuit.OPEN

    def _is_probe(self, call: int) -> bool:
        return self.state is Circuit.HALF_OPEN and call == self._probe
