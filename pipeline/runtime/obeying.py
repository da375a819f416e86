"""What people ask of alerts comes to the alerts stage: an input of the whole whose positions are rows of `commands`.

The owner of `whole` reads on from its position, in the driver's order, and what came of a command is committed with the
position behind it: a kill at any moment leaves either both or neither. While nobody owns the whole, or the first reads
after a start are still to come, commands wait in the table.

A command takes effect in the domain time of the moment it is read. Only "it is well" waits, up to PATIENCE, for what
happened before it was said: else the failures of the time in which the daemon was down would come after it.
"""

import logging
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import msgspec

from pipeline.alert_commands import Command, Resolve, Silence
from pipeline.batch import WHOLE
from pipeline.clock import MINUTE, Clock
from pipeline.errors import RetryableError
from pipeline.runtime.driver import Driver
from pipeline.store.records import ALERT
from pipeline.store.state import StateStore

if TYPE_CHECKING:
    from pipeline.store.acts import Row

log = logging.getLogger("dagtel.obeying")

POLL_S = 0.5
"""How often it is looked for what was asked beside the daemon; what its own API takes is read at once."""
PATIENCE = 5 * MINUTE
FORGET_S = 3600.0


class Obeying:
    """See above."""

    def __init__(self, store: StateStore, driver: Driver, clock: Clock) -> None:
        self._store, self._driver, self._clock = store, driver, clock
        self._wake = anyio.Event()
        self._told = False

    def poke(self) -> None:
        """Something was asked: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Look again and again until cancelled."""
        forget = 0.0
        while True:
            self._wake = anyio.Event()
            try:
                await self.look()
                if self._clock.monotonic() >= forget and self._driver.engine.has(WHOLE):
                    await anyio.to_thread.run_sync(self._store.forget_obeyed, self._clock.wall_ns())
                    forget = self._clock.monotonic() + FORGET_S
            except RetryableError as error:
                log.warning("Cannot look for what was asked of alerts.", extra={"error": str(error)})
            with anyio.move_on_after(POLL_S):
                await self._wake.wait()

    async def look(self) -> int:
        """Obey all that can be obeyed now; says how many rows that were. Raises RetryableError."""
        count = 0
        while self._driver.engine.has(WHOLE):
            rows = await anyio.to_thread.run_sync(_to_obey, self._store, self._next())
            taken = await self._driver.ask(partial(self._take_up, rows)) if rows else 0
            count += taken
            if not taken:
                break
        return count

    def _next(self) -> int:
        position = self._driver.engine.positions.get(WHOLE)
        return position.next if position is not None else 0

    async def _take_up(self, rows: "Sequence[Row]") -> int:
        """In the driver's order; returns once what came of it is committed."""
        engine, taken = self._driver.engine, 0
        wall = self._clock.wall_ns()
        if not engine.has(WHOLE):
            return 0
        if not engine.obeying():
            self._say_nobody()
            return 0
        if engine.time.waits(wall) or not engine.now(WHOLE):
            return 0  # `clock: events` has no time before the first event
        for row in rows:
            if row.id < self._next():  # another took it up, while these were being read
                continue
            if self._is_early(row, wall):
                break
            if row.command is None:
                log.error("A command cannot be read, and is left out.", extra={"row": row.id})
                engine.obeyed(row.id + 1)
            else:
                await engine.obey(self._in_domain_time(row.command), row.id + 1)
                log.info("Obeyed.", extra={"command": type(row.command).__name__, "id": row.command.id})
            taken += 1
        if taken:
            await self._driver.checkpoint_now()
        return taken

    def _is_early(self, row: "Row", wall_ns: int) -> bool:
        """It is a word on failures that are still to be read."""
        if not isinstance(row.command, Resolve) or self._driver.engine.time.mode == "events":
            return False
        said = row.command.now_ns
        return self._driver.engine.now(WHOLE) < said and wall_ns - said < PATIENCE

    def _in_domain_time(self, command: Command) -> Command:
        """A silence is as long in the time of the events as it was asked to be."""
        engine = self._driver.engine
        if engine.time.mode == "events" and isinstance(command, Silence):
            until = engine.now(WHOLE) + command.until_ns - command.now_ns
            return msgspec.structs.replace(command, until_ns=until)
        return command

    def _say_nobody(self) -> None:
        if not self._told:
            log.warning("What was asked of alerts waits: no pipeline has a processor that obeys, such as dedup.")
        self._told = True


def _to_obey(store: StateStore, next: int) -> "Sequence[Row]":
    if not store.asked(ALERT, next):
        return ()
    from pipeline.store.acts import to_obey  # SQLAlchemy: for who asks

    return store.within(partial(to_obey, next=next))
