"""Polls what lies beside the data's way (a webserver's asset graph), one poll for all shards of a component.

`fetch` runs here, in the background; its value is applied by the driver between batches. A shard that comes later
gets the last value at once, and so does a component that a reload has built anew.
"""

import logging
from collections.abc import Collection, Sequence

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
        self.fetched, self.applied = anyio.Event(), anyio.Event()
        self.awaited = False
        """Somebody in the driver's order waits for the first value and applies it."""
        self.scope = anyio.CancelScope()


class SideInputs:
    """All polls of one process."""

    def __init__(self, tasks: TaskGroup, driver: Driver, statuses: Statuses) -> None:
        self._tasks, self._driver, self._statuses = tasks, driver, statuses
        self._polls: dict[tuple[str, str], _Poll] = {}

    async def start(self, sides: Sequence[Side]) -> None:
        """Serve these too; returns when each has its first value or has waited long enough for it."""
        for side in sides:
            poll = self._join(side)
            if poll.fetched.is_set():
                self._post(poll, [side])
        for side in sides:
            with anyio.move_on_after(side.wait_s):
                await self._polls[side.owner, side.name].applied.wait()

    def stop(self, sides: Sequence[Side]) -> None:
        """Their shards are gone; the polls go on for the others."""
        for side in sides:
            poll = self._polls.get((side.owner, side.name))
            if poll and side in poll.sides:
                poll.sides.remove(side)

    async def replace(self, old: Sequence[Side], new: Sequence[Side], changed: Collection[str]) -> None:
        """Serve `new` in place of `old`; called in the driver's order, so values are applied here.

        Owners in `changed` fetch anew, up to their `wait_s` is waited for it; the others go on with what they had.
        """
        self.stop(old)
        wanted = {(side.owner, side.name) for side in new}
        for key in [key for key in self._polls if key not in wanted or key[0] in changed]:
            self._polls.pop(key).scope.cancel()
        for side in new:
            self._join(side).awaited = True
        for side in new:
            poll = self._polls[side.owner, side.name]
            with anyio.move_on_after(side.wait_s):
                await poll.fetched.wait()
            if poll.fetched.is_set():
                self._apply(side, poll.value)
                poll.applied.set()
        for side in new:
            self._polls[side.owner, side.name].awaited = False

    def _join(self, side: Side) -> _Poll:
        poll = self._polls.get((side.owner, side.name))
        if poll is None:
            poll = self._polls[side.owner, side.name] = _Poll()
            self._tasks.start_soon(self._run, poll, side)
        if side not in poll.sides:
            poll.sides.append(side)
        return poll

    async def _run(self, poll: _Poll, side: Side) -> None:
        with poll.scope:
            while True:
                # A shard that went and came back has a new component; what the old one would fetch is nobody's now.
                side = poll.sides[0] if poll.sides else side
                try:
                    poll.value = await side.fetch()
                except DagtelError as error:
                    self._failed(side, str(error))
                except Exception as error:  # noqa: BLE001  # a component's bug must not end the daemon
                    self._failed(side, repr(error))
                else:
                    self._statuses.set(side.owner, Status.OK)
                    poll.fetched.set()
                    if not poll.awaited:
                        self._post(poll, list(poll.sides))
                    if not side.every_s:
                        return
                await anyio.sleep(side.every_s or 5.0)

    def _failed(self, side: Side, error: str) -> None:
        self._statuses.set(side.owner, Status.RECOVERABLE, f"{side.name}: {error}")
        log.debug("A side input failed, trying again.", extra={"component": side.owner, "error": error})

    def _post(self, poll: _Poll, sides: Sequence[Side]) -> None:
        value = poll.value

        async def apply() -> None:
            for side in sides:
                if side in poll.sides:  # else it is gone by now
                    self._apply(side, value)
            poll.applied.set()

        self._driver.post(Message(apply))

    def _apply(self, side: Side, value: object) -> None:
        try:
            self._driver.engine.apply(side, value)
        except Exception as error:
            log.exception("A side input could not be applied.", extra={"component": side.owner})
            self._statuses.set(side.owner, Status.RECOVERABLE, f"{side.name}: {error!r}")
