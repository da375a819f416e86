"""The door between one receiver and the driver: the only place in the house that waits for room."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any

import anyio.lowlevel
import msgspec

from pipeline.batch import WHOLE
from pipeline.components import Position, Read
from pipeline.runtime.driver import Driver, ReadMessage
from pipeline.runtime.side_inputs import SideInputs
from pipeline.runtime.status import Status, Statuses
from pipeline.runtime.telemetry import Telemetry


class Door(msgspec.Struct, frozen=True):
    """What the intakes of all receivers share. `alone`: why a receiver must have all of its input, by its id, "" if it
    may share it. `let_go`: no more payloads of these shards are sent from here.
    """

    once: bool
    has_room: Callable[[], bool]
    statuses: Statuses
    telemetry: Telemetry
    alone: Callable[[str], str]
    let_go: Callable[[Collection[str]], Awaitable[None]]


class ReceiverIntake:
    """See `pipeline.components.Intake`."""

    def __init__(self, receiver: str, driver: Driver, sides: SideInputs, door: Door) -> None:
        self.once, self.has_room = door.once, door.has_room
        self._receiver, self._driver, self._sides, self._door = receiver, driver, sides, door
        self._labels = {"receiver": receiver}
        self._sources: set[str] = set()
        self._reads = 0
        self.used = False
        """Something was put: what its receiver names is there."""

    @property
    def alone(self) -> str:
        return self._door.alone(self._receiver)

    def took_any(self) -> bool:
        """Whether anything was put since the last time this was asked."""
        reads, self._reads = self._reads, 0
        return reads > 0

    async def assign(self, sources: Iterable[str]) -> Mapping[str, Position | None]:
        wanted = list(sources)
        engine = self._driver.engine
        had_whole = engine.has(WHOLE)
        positions: dict[str, Position | None] = await self._driver.ask(lambda: engine.assign(wanted, self._receiver))
        self._sources.update(wanted)
        await self._sides.start(engine.sides(wanted if had_whole else [*wanted, WHOLE]))
        self._door.statuses.set(f"receivers.{self._receiver}", Status.OK)
        return positions

    async def revoke(self, sources: Iterable[str]) -> None:
        gone = [source for source in sources if source in self._sources]

        async def give_up() -> None:
            engine = self._driver.engine
            await self._driver.checkpoint_now()
            leaving = engine.leaving(gone)
            await self._door.let_go(leaving)
            if engine.changed:
                await self._driver.checkpoint_now()  # says what was delivered meanwhile
            self._sides.stop(engine.sides(leaving))
            await engine.release(gone)

        if gone:
            await self._driver.ask(give_up)
            self._sources.difference_update(gone)

    async def revoke_all(self) -> None:
        """Give all its sources up."""
        await self.revoke(list(self._sources))

    async def put(self, read: Read[Any]) -> None:
        await anyio.lowlevel.checkpoint()  # else a quick receiver would let nobody else run
        await self._driver.wait_for_room(self.has_room)
        telemetry = self._door.telemetry
        telemetry.accepted.add(len(read.items), self._labels)
        telemetry.received_bytes.add(read.size, self._labels)
        if read.rejected:
            telemetry.rejected.add(len(read.rejected), self._labels)
        self._reads += 1
        self.used = True
        self._driver.post(ReadMessage(self._receiver, read))

    def committed(self) -> Mapping[str, Position]:
        return {s: p for s, p in self._driver.committed.items() if s in self._sources}
