"""Which partitions are ours, and in whose hands their state is.

Kafka's callbacks run in a task of the client's, the reading loop in ours. Three rules keep them apart:

- What the loop may put is in `open`. A revocation empties it before it waits for anything, so nothing that was
  fetched before is put after; it is read again by the next owner, because positions are ours and count what was put.
- `intake.assign` and `intake.revoke` come one after the other, under a lock. The lock is never held around a fetch: a
  fetch waits for the rebalance, the rebalance for the callback, and the callback for the lock.
- State is loaded by the loop and not by the callback that assigns: no heartbeats are sent during that one, and a long
  load would lose the membership that it is for. During a revocation they are.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

import anyio

from pipeline.components import Intake, Position
from pipeline.errors import RetryableError
from receivers.kafka_partition import Partition

Tp: TypeAlias = tuple[str, int]
"""Topic and number of a partition."""

REVOKE_SHARE = 0.6
"""The part of the rebalance timeout that we take to commit what was put; the rest is for joining again."""


def source_of(tp: Tp) -> str:
    """The name of a partition as a source: "dagster.events/3"."""
    return f"{tp[0]}/{tp[1]}"


class Membership:
    """What the group gave us (`assigned`), what is being read (`open`), what the intake has (`held`).

    `generation` changes with every callback. `failure` is what went wrong in a callback, for the loop to raise: the
    client swallows what its callbacks raise.
    """

    def __init__(
        self,
        intake: Intake[object],
        rebalance_timeout_s: float,
        tell: Callable[[Iterable[Tp]], Awaitable[None]],
        log: logging.LoggerAdapter[logging.Logger],
    ) -> None:
        self._intake, self._budget_s, self._tell, self._log = intake, rebalance_timeout_s * REVOKE_SHARE, tell, log
        self.generation = 0
        self.assigned: frozenset[Tp] | None = None
        self.open: dict[Tp, Partition] = {}
        self.held: frozenset[Tp] = frozenset()
        self.failure: Exception | None = None
        self._stored: Mapping[str, Position | None] = {}
        self._lock = anyio.Lock()
        self._revoking: anyio.CancelScope | None = None
        self._stopped = False

    def given(self, partitions: Iterable[Tp]) -> None:
        """The group gave us these, and no others."""
        self.generation += 1
        self.assigned = frozenset(partitions)
        self._log.info("Partitions assigned.", extra={"partitions": sorted(map(source_of, self.assigned))})

    async def taken(self) -> None:
        """The group takes all back. Returns when what was put is committed, or the time for that is over."""
        self.generation += 1
        self.assigned, self.open = None, {}
        if self._stopped:
            return
        try:  # also when nothing is held yet: a load may be on its way
            with anyio.fail_after(self._budget_s) as self._revoking:
                await self.release()
        except TimeoutError:
            self.failure = RetryableError(
                f"what was read could not be committed within {self._budget_s:.0f}s of a rebalance; its partitions "
                "may be read again by another member. Raise `rebalance_timeout`, or look at what holds the exporters up"
            )
        except Exception as error:  # noqa: BLE001  # raised by the loop: the client would only log it
            self.failure = error

    async def release(self) -> None:
        """Give up what the intake has of ours: processed, committed, told to Kafka."""
        async with self._lock:
            if self.held:
                await self._intake.revoke(map(source_of, self.held))
                await self._tell(self.held)
                self._log.info("Partitions given up.", extra={"partitions": sorted(map(source_of, self.held))})
                self.held, self._stored = frozenset(), {}

    async def load(self) -> Mapping[str, Position | None]:
        """Stored positions of what was assigned; the intake holds it from here on."""
        async with self._lock:
            wanted = self.assigned or frozenset()
            new = wanted - self.held
            if new or not wanted:  # nothing to read is an answer, too: we stand by
                self._stored = {**self._stored, **await self._intake.assign(map(source_of, new))}
                self.held |= new
            return self._stored

    def stop(self) -> None:
        """From here on a callback waits for nothing: leaving must not wait for a revocation, nor it for us."""
        self._stopped = True
        self.open = {}
        if self._revoking is not None:
            self._revoking.cancel()
