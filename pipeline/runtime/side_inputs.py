"""Polls what lies beside the data's way (a webserver's asset graph), one poll for all shards of a component.

`fetch` runs here, in the background; its value is applied by the driver between batches. A shard that comes later
gets the last value at once.
"""

import logging
from collections.abc import Sequence

import anyio
from anyio.abc import TaskGroup

from pipeline.errors import DagtelError
from pipeline.runtime.context import Side
from pipeline.runtime.driver import Driver, Message
from pipeline.runtime.status import Status, Statuses

log = logging.getLogger("dagtel.side_inputs")


class _Poll:
    """One polled thing: who wants it, its last value, and whether there is one yet."""

    def __init__(self) -> None:
        self.sides: list[Side] = []
        self.value: object = None
        self.first = anyio.Event()


class SideInputs:
    """All polls of one process."""

    def __init__(self, tasks: TaskGroup, driver: Driver, statuses: Statuses) -> None:
        self._tasks, self._driver, self._statuses = tasks, driver, statuses
        self._polls: dict[tuple[str, str], _Poll] = {}

    async def start(self, sides: Sequence[Side]) -> None:
        """Serve these too; returns when each has its first value or has waited long enough for it."""
        for side in sides:
            poll = self._polls.get((side.owner, side.name))
            if poll is None:
                poll = self._polls[side.owner, side.name] = _Poll()
                poll.sides.append(side)
                self._tasks.start_soon(self._run, poll, side)
            elif side not in poll.sides:
                poll.sides.append(side)
                if poll.first.is_set():
                    self._apply(poll, [side])
        for side in sides:
            with anyio.move_on_after(side.wait_s):
                await self._polls[side.owner, side.name].first.wait()

    def stop(self, sides: Sequence[Side]) -> None:
        """Their shards are gone; the polls go on for the others."""
        for side in sides:
            poll = self._polls.get((side.owner, side.name))
            if poll and side in poll.sides:
                poll.sides.remove(side)

    async def _run(self, poll: _Poll, side: Side) -> None:
        while True:
            # A shard that went and came back has a new component; what the old one would fetch is nobody's any more.
            side = poll.sides[0] if poll.sides else side
            try:
                poll.value = await side.fetch()
            except DagtelError as error:
                self._failed(side, str(error))
            except Exception as error:  # noqa: BLE001  # a component's bug must not end the daemon
                self._failed(side, repr(error))
            else:
                self._statuses.set(side.owner, Status.OK)
                self._apply(poll, list(poll.sides), poll.first)
                if not side.every_s:
                    return
            await anyio.sleep(side.every_s or 5.0)

    def _failed(self, side: Side, error: str) -> None:
        self._statuses.set(side.owner, Status.RECOVERABLE, f"{side.name}: {error}")
        log.debug("A side input failed, trying again.", extra={"component": side.owner, "error": error})

    def _apply(self, poll: _Poll, sides: Sequence[Side], done: anyio.Event | None = None) -> None:
        value = poll.value

        async def apply() -> None:
            for side in sides:
                try:
                    self._driver.engine.apply(side, value)
                except Exception as error:
                    log.exception("A side input could not be applied.", extra={"component": side.owner})
                    self._statuses.set(side.owner, Status.RECOVERABLE, f"{side.name}: {error!r}")
            if done:
                done.set()

        self._driver.post(Message(apply))
