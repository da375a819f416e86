"""The loop around the engine: what to do next, and when to commit.

One task drives the engine. Receivers and side inputs only leave messages; the committer writes a checkpoint off the
loop's thread while the driver goes on with the next reads. At most one checkpoint is on its way. A checkpoint is
due `interval` after the last when something changed, sooner (`URGENT_S`) when a notifier has something to say or much
waits to be stored (`HEAVY`). Even then barriers take at most a tenth of the time.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import anyio
import anyio.lowlevel
import msgspec

from pipeline.clock import Clock
from pipeline.components import Position, Read
from pipeline.errors import RetryableError, StateError
from pipeline.events import own_bytes
from pipeline.runtime.allocator import HEAP
from pipeline.runtime.engine import Engine
from pipeline.runtime.garbage import Garbage
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.sealing import Sealing, released
from pipeline.runtime.status import Status, Statuses
from pipeline.runtime.telemetry import Telemetry
from pipeline.store.state import Ack, Commit, OutboxRow, StateStore

log = logging.getLogger("dagtel.driver")

URGENT_S = 0.1
"""A notifier's checkpoint follows the last one no sooner than this, nor sooner than `URGENT_SHARE` times its pause."""
URGENT_SHARE = 10
IDLE_S = 0.25
"""How long the driver sleeps at most while timers are set: domain time may follow the wall."""
CALM_S: Final = 0.5
"""How long `calm` waits for the first events at most."""
STORE = "service.state"
ENDED = "the daemon is ending after a failure"


class Message(msgspec.Struct):
    """Something to be done in the driver's order."""

    run: Callable[[], Awaitable[None]]


class ReadMessage(msgspec.Struct):
    """A read to be processed; its size counts against the intake's limit."""

    receiver: str
    read: Read[Any]


HEAVY: Final = 24 << 20
"""Bytes of payloads, as they stand in memory, for which a checkpoint does not wait any longer: what is under way is
bounded by bytes and not by how much a second brings. Full load does not come to it where payloads are compressed."""


class Driver:
    """Drives one engine and commits what it hands out."""

    def __init__(
        self,
        engine: Engine,
        store: StateStore,
        outboxes: dict[str, Outbox],
        clock: Clock,
        statuses: Statuses,
        telemetry: Telemetry,
        interval_s: float,
        dead_letter_cap: int,
        max_items: int = 5000,
    ) -> None:
        self.engine = engine
        self.committed: dict[str, Position] = {}
        self.queued = 0
        """Bytes read and not processed yet."""
        self.begun = anyio.Event()
        self.begun_s = 0.0
        """When the first events since the start came; 0 before."""
        self.store_ok = True
        self._state, self._outboxes, self._clock = store, outboxes, clock
        self._sealing = Sealing(outboxes)
        self._statuses, self._telemetry = statuses, telemetry
        self._interval_s, self._cap, self._most = interval_s, dead_letter_cap, max_items
        self._mail: deque[Message | ReadMessage] = deque()
        self._wake = anyio.Event()
        self._room = anyio.Event()
        self._last = clock.monotonic()
        self._pause = 0.0
        self._urgent = False
        self._closing = False
        self._commit_needed: Commit | None = None
        self._commit_wake = anyio.Event()
        self._garbage = Garbage()
        self._asked: dict[anyio.Event, _Answer] = {}
        self._failed = False

    def follow(self, interval_s: float, dead_letter_cap: int, max_items: int) -> None:
        """Go on with these settings."""
        self._interval_s, self._cap, self._most = interval_s, dead_letter_cap, max_items
        self._wake.set()

    # --- for receivers, side inputs and senders ---

    def post(self, message: Message | ReadMessage) -> None:
        """Leave a message; it is run in order."""
        self._mail.append(message)
        if isinstance(message, ReadMessage):
            self.queued += message.read.size
        self._wake.set()

    async def ask(self, run: Callable[[], Awaitable[Any]]) -> Any:
        """Have something run in order and wait for what it gives or raises. Raises StateError when the driver was
        ended by a failure: nobody waits for it then."""
        if self._failed:
            raise StateError(ENDED)
        done, answer = anyio.Event(), _Answer()

        async def answering() -> None:
            try:
                answer.value = await run()
            except Exception as error:  # noqa: BLE001  # it belongs to who asked
                answer.error = error
            finally:
                done.set()

        self.post(Message(answering))
        self._asked[done] = answer
        await done.wait()
        self._asked.pop(done, None)
        if answer.error is not None:
            raise answer.error
        return answer.value

    def urge(self) -> None:
        """Commit soon: somebody is to be told."""
        self._urgent = True
        self._wake.set()

    async def ack(self, ack: Ack, now: bool) -> None:
        """A payload needs no more sending: committed at once, or with the next checkpoint."""
        fence = self.engine.fence
        if now:
            if fence.holds(ack.shard):
                rows = self._recorded(ack)
                await fence.undisturbed(
                    lambda: self._write(Commit(acks=[ack], outbox=rows, epochs=fence.epochs(ack.shard)))
                )
                self._give_back([ack])
                released(self._outboxes, rows)
        else:
            self.engine.acknowledge(ack)
            self._wake.set()
        self._room.set()

    def _recorded(self, ack: Ack) -> list[OutboxRow]:
        """What became of a payload, for those who keep records: it leaves with the acknowledgement, or neither does."""
        if ack.told is None:
            return []
        boxes = [box for box in self._outboxes.values() if box.spec.records]
        return [row for box in boxes for row in box.aside([ack.told], self._clock.wall_ns(), ack.shard)]

    async def wait_for_room(self, has_room: Callable[[], bool]) -> None:
        """Wait until there is room at the intake."""
        while not has_room():
            self._room = anyio.Event()
            with anyio.move_on_after(IDLE_S):
                await self._room.wait()

    async def calm(self) -> None:
        """Until the first events are read, or for CALM_S: a start has no time to spare for what can wait."""
        with anyio.move_on_after(CALM_S):
            await self.begun.wait()

    async def checkpoint_now(self) -> None:
        """Commit all there is and wait until it is written."""
        await self._checkpoint()
        await self._written()

    # --- the loop ---

    async def run(self) -> None:
        """Drive until `close`; then what was posted is done, and the last checkpoint is written."""
        well = False
        try:
            await self._drive()
            well = True
        finally:
            self._failed = not well
            for done, answer in self._asked.items() if self._failed else ():
                answer.error = StateError(ENDED)
                done.set()

    async def _drive(self) -> None:
        while True:
            while self._mail:
                message = self._mail.popleft()
                if isinstance(message, ReadMessage):
                    receiver, read = message.receiver, self._with_followers(message)
                    del message  # else the events that somebody keeps could not be told from the others
                    await self._take(receiver, read)
                    del read
                else:
                    await message.run()
                await self._checkpoint_if_due()
                await anyio.lowlevel.checkpoint()  # senders and receivers get their turn
            await self.engine.fire()
            await self._checkpoint_if_due()
            if self._mail:
                continue
            if self._closing:
                break
            await self._sleep()
        await self.checkpoint_now()

    def _with_followers(self, first: ReadMessage) -> Read[Any]:
        """The read joined with those of its source that wait behind it: large batches cost a fifth less an item."""
        reads, count = [first.read], len(first.read.items)
        while self._mail and isinstance(after := self._mail[0], ReadMessage):
            count += len(after.read.items)
            if after.receiver != first.receiver or after.read.source != first.read.source or count > self._most:
                break
            self._mail.popleft()
            reads.append(after.read)
        return joined(reads)

    async def _take(self, receiver: str, read: Read[Any]) -> None:
        if read.items and not self.begun_s:
            self.begun_s = self._clock.monotonic()
            self.begun.set()
        with self._telemetry.tracer.start_as_current_span("batch") as span:
            span.set_attribute("dagtel.source", read.source)
            span.set_attribute("dagtel.items", len(read.items))
            await self.engine.take(receiver, read)
        own_bytes(read.items)
        self.queued -= read.size
        self._room.set()

    def close(self) -> None:
        """End `run` once everything posted so far is done."""
        self._closing = True
        self._wake.set()

    async def commit_all(self) -> None:
        """The committer: write checkpoints one after another until cancelled, and seal what waits for the next."""
        while True:
            await self._seal_until(lambda: self._commit_needed is not None)
            assert self._commit_needed is not None
            await self._store_checkpoint(self._commit_needed)
            self._garbage.collect()
            HEAP.follow()
            self._commit_needed = None
            self._room.set()
            self._wake.set()

    async def _sleep(self) -> None:
        self._wake = anyio.Event()
        with anyio.move_on_after(self._sleep_s()):
            await self._wake.wait()

    def _sleep_s(self) -> float:
        waits = [3600.0]
        if (self.engine.changed or self._urgent) and self._commit_needed is None:  # else its end wakes us
            waits.append(self._due_in())
        if self.engine.next_due() is not None:
            waits.append(IDLE_S)
        return max(0.001, min(waits))

    def _due_in(self) -> float:
        urgent = max(URGENT_S, URGENT_SHARE * self._pause)
        soon = self._urgent or self._sealing.bytes >= HEAVY
        pace = min(urgent, self._interval_s) if soon else self._interval_s
        return self._last + pace - self._clock.monotonic()

    async def _checkpoint_if_due(self) -> None:
        if self._sealing.due:
            self._commit_wake.set()
        if (self.engine.changed or self._urgent) and self._commit_needed is None and self._due_in() <= 0:
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        await self._written()
        began = self._clock.monotonic()
        self._commit_needed = await self.engine.barrier()
        self._urgent = False  # what the barrier itself gave a notifier is in this checkpoint
        self._last = self._clock.monotonic()
        self._pause = self._last - began
        self._telemetry.pause.record(self._pause)
        self._commit_wake.set()
        await anyio.lowlevel.checkpoint()

    async def _written(self) -> None:
        """Wait until the checkpoint on its way is written."""
        while self._commit_needed is not None:
            self._wake = anyio.Event()
            with anyio.move_on_after(IDLE_S):
                await self._wake.wait()

    # --- writing ---

    async def _store_checkpoint(self, commit: Commit) -> None:
        began = self._clock.monotonic()
        with self._telemetry.tracer.start_as_current_span("checkpoint") as span:
            span.set_attribute("dagtel.payloads", len(commit.outbox))
            span.set_attribute("dagtel.rows", len(commit.rows))
            await self._store(commit)
        self._telemetry.checkpoints.add(1)
        self._telemetry.commit.record(self._clock.monotonic() - began)

    async def _store(self, commit: Commit) -> None:
        stored = await self._sealing.finished(commit.outbox)
        async with anyio.create_task_group() as meanwhile:
            written = anyio.Event()
            meanwhile.start_soon(self._seal_until, written.is_set)
            try:
                await self._write(msgspec.structs.replace(commit, outbox=stored))
            finally:
                written.set()
                self._commit_wake.set()
        self.committed.update(commit.positions)
        self._give_back(commit.acks)
        released(self._outboxes, stored)
        if commit.dead:
            dropped = await anyio.to_thread.run_sync(self._state.trim_dead_letters, self._cap)
            if dropped:
                log.error("Dead letters dropped: the store of them is full.", extra={"dropped": dropped})

    async def _seal_until(self, there: Callable[[], bool]) -> None:
        """Seal what comes for the next checkpoint, until what is waited for is there."""
        while not there():
            if self._sealing.due:
                await self._sealing.ahead()
            else:
                self._commit_wake = anyio.Event()
                await self._commit_wake.wait()

    def _give_back(self, acks: Sequence[Ack]) -> None:
        """Committed receipts go back to their exporters."""
        for ack in acks:
            if ack.receipt is not None and ack.exporter in self._outboxes:
                self._outboxes[ack.exporter].receipt(ack.receipt)

    async def _write(self, commit: Commit) -> None:
        """Write until it is written: a full disk stops the intake, and nothing else."""
        wait = 0.1
        while True:
            try:
                await anyio.to_thread.run_sync(self._state.commit, commit)
            except RetryableError as error:
                if self.store_ok:
                    log.error("The state store cannot be written: taking no more input.", extra={"error": str(error)})
                self.store_ok = False
                self._statuses.set(STORE, Status.RECOVERABLE, str(error))
                await anyio.sleep(wait)
                wait = min(wait * 2, 5.0)
            else:
                if not self.store_ok:
                    log.warning("The state store can be written again.")
                self.store_ok = True
                self._statuses.set(STORE, Status.OK)
                return


class _Answer:
    def __init__(self) -> None:
        self.value: object = None
        self.error: Exception | None = None


def joined(reads: Sequence[Read[Any]]) -> Read[Any]:
    """Reads of one source, one after another, as one: the position and whether it is behind are the last one's."""
    if len(reads) == 1:
        return reads[0]
    last = reads[-1]
    return Read(
        last.source,
        [item for read in reads for item in read.items],
        last.position,
        [bad for read in reads for bad in read.rejected],
        last.behind,
        sum(read.size for read in reads),
    )
