"""Dead letters come again: an input of the engine whose positions are the ids of the letters.

Somebody asks (`pipeline.store.commands`); here the letters that are asked for are taken up in the driver's order, and
each goes in the very checkpoint that holds its effects. So a kill at any moment leaves either the letter, and it will
come again, or its effects.

- "input" that a receiver rejected is decoded once more and enters the pipelines of that receiver;
- an "item" is given to the very stage that raised on it: what stands before that has had it, and `redelivery` is one;
- a "payload" (or "part" of one) goes back into its exporter's outbox, byte for byte.

What fails again is a new dead letter, with a new reason. Where several processes share a store, a letter is replayed by
the one that has its shard: the epoch that its checkpoint carries says so in the transaction.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from pipeline.components import Payload, ReceiverSpec, Rejected
from pipeline.errors import DecodeError, RetryableError
from pipeline.events import Event
from pipeline.runtime.dead_letters import DeadLetters, KeptItem
from pipeline.runtime.driver import Driver
from pipeline.runtime.engine import Engine
from pipeline.runtime.kept_items import restored
from pipeline.store.state import DeadLetter, StateStore

log = logging.getLogger("dagtel.replay")

POLL_S = 1.0
"""How often it is looked for what is asked."""


class _NotHere(Exception):
    """Its shard, its exporter or its stage is not at work here now; it may be later, or elsewhere."""


class _Never(Exception):
    """It cannot be replayed; the text says why."""


class Replay:
    """See above. `has_room` is the intake's: a replay waits where a receiver would."""

    def __init__(
        self,
        store: StateStore,
        driver: Driver,
        dead: DeadLetters,
        wall_ns: Callable[[], int],
        has_room: Callable[[], bool],
    ) -> None:
        self._store, self._driver, self._dead = store, driver, dead
        self._wall_ns, self._has_room = wall_ns, has_room
        self._waiting: set[int] = set()

    @property
    def _engine(self) -> Engine:
        return self._driver.engine

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await anyio.sleep(POLL_S)  # first: receivers are about to take their sources on
            try:
                await self.look()
            except RetryableError as error:
                log.warning("Cannot look for dead letters to replay.", extra={"error": str(error)})

    async def look(self) -> int:
        """Replay all that is asked for now and can be; says how many letters came again. Raises RetryableError."""
        count = after = 0
        while letters := await anyio.to_thread.run_sync(self._store.to_replay, after):
            after = letters[-1].id
            await self._driver.wait_for_room(self._has_room)
            count += await self._driver.ask(partial(self._take_up, letters))
        return count

    async def _take_up(self, letters: Sequence[DeadLetter]) -> int:
        """In the driver's order; returns once what came of it is committed."""
        done: list[int] = []
        never: list[int] = []
        waiting: dict[int, str] = {}
        # Whoever had a letter's shard when it was looked for may have replayed it; from here on nobody else has it.
        asked = await anyio.to_thread.run_sync(self._store.still_to_replay, [letter.id for letter in letters])
        for letter in letters:
            if letter.id not in asked:
                continue
            try:
                await self._again(letter)
            except _NotHere as error:
                waiting[letter.id] = str(error)
            except _Never as error:
                never.append(letter.id)
                facts = {"letter": letter.id, "component": letter.component, "reason": str(error)}
                log.error("A dead letter cannot be replayed.", extra=facts)
            else:
                self._engine.replayed(letter.id)
                done.append(letter.id)
        if done:
            await self._driver.checkpoint_now()
            log.info("Dead letters replayed.", extra={"letters": len(done)})
        if never:
            await anyio.to_thread.run_sync(self._store.withdraw_replays, never)
        self._tell_waiting(waiting)
        return len(done)

    def _tell_waiting(self, waiting: dict[int, str]) -> None:
        new = {id: why for id, why in waiting.items() if id not in self._waiting}
        if new:
            facts = {"letters": len(new), "first": min(new), "reason": new[min(new)]}
            log.warning("Dead letters wait to be replayed.", extra=facts)
            self._waiting.update(new)

    # --- by kind ---

    async def _again(self, letter: DeadLetter) -> None:
        """Raises _NotHere and _Never, and then nothing has happened."""
        if letter.shard and not self._engine.has(letter.shard):
            raise _NotHere(f"{letter.shard} is not read here now")
        try:
            match letter.kind:
                case "input":
                    await self._input(letter)
                case "item":
                    await self._item(letter)
                case "payload" | "part":
                    self._payload(letter)
                case _:
                    raise _Never("nothing was kept of it that could be given to anybody")
        except (msgspec.MsgspecError, ValueError) as error:
            raise _Never(str(error)) from error

    async def _input(self, letter: DeadLetter) -> None:
        receiver = letter.component.partition(".")[2]
        node = self._engine.plan.receivers.get(receiver)
        if node is None or not self._engine.has(letter.shard):
            raise _NotHere(f"{letter.shard} is not read here now")
        assert isinstance(node.spec, ReceiverSpec)
        if node.spec.redecode is None:
            raise _Never(f"a receiver of type {node.spec.name} cannot decode what it rejected")
        kept = msgspec.msgpack.decode(letter.again, type=Rejected)
        bad = msgspec.structs.replace(kept, body=letter.body, source=letter.shard)
        try:
            items = node.spec.redecode(node.options, bad)
        except DecodeError as error:
            again = msgspec.structs.replace(bad, reason=str(error))
            self._dead.add_input(again, receiver, letter.shard, self._wall_ns())
            return
        now = self._engine.now(letter.shard)
        await self._engine.enter(receiver, letter.shard, [_at(item, now) for item in items])

    async def _item(self, letter: DeadLetter) -> None:
        kept = msgspec.msgpack.decode(letter.again, type=KeptItem)
        item = restored(kept.item, letter.body)
        kind, _, id = letter.component.partition(".")
        if kind == "exporters":
            outbox = self._engine.outboxes.get(id)
            if outbox is None:
                raise _NotHere(f"there is no exporter {id}")
            await outbox.push([item], self._engine.now(letter.shard), letter.shard)
            return
        stage = self._engine.stage(letter.shard, kept.pipeline, letter.component)
        if stage is None:
            where = f" of pipeline {kept.pipeline}" if kept.pipeline else ""
            raise _NotHere(f"{letter.component}{where} does not work on {letter.shard} here now")
        now = self._engine.now(letter.shard)
        await stage.push([_at(item, now)], now)

    def _payload(self, letter: DeadLetter) -> None:
        id = letter.component.partition(".")[2]
        outbox = self._engine.outboxes.get(id)
        if outbox is None:
            raise _NotHere(f"there is no exporter {id}")
        kept = msgspec.msgpack.decode(letter.again, type=Payload)
        outbox.resend(msgspec.structs.replace(kept, body=letter.body), letter.shard)


def _at(item: Any, now_ns: int) -> Any:
    """The item as one of now: domain time never goes back."""
    if getattr(item, "now_ns", now_ns) >= now_ns:
        return item
    if isinstance(item, Event):
        item.now_ns = now_ns
        return item
    return msgspec.structs.replace(item, now_ns=now_ns)
