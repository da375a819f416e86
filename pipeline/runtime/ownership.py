"""Which shards are here, and how they come and go: all that are asked for, or none.

A shard is taken on by counting up its epoch in the store, loading its state and building its lane; it is let go, once
its last state is committed, by closing that. What to do with the lanes in between is the engine's.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import anyio
import anyio.to_thread
import msgspec

from pipeline.batch import WHOLE
from pipeline.clock import Clock
from pipeline.components import Position
from pipeline.errors import ConfigError, StateError
from pipeline.runtime.domain_time import DomainTime
from pipeline.runtime.fence import Fence
from pipeline.runtime.inherit import Bequest
from pipeline.runtime.lanes import NOTHING_MOVED, Lane, Workshop, build_lane
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.sites import Mount
from pipeline.store.state import ShardState, StateStore, Waiting, replaced_by
from pipeline.topology.scopes import whole_components


class Replaced(msgspec.Struct, frozen=True):
    """What a rebuilt engine leaves behind: its old lanes, upstream first, to be closed; and the payloads that wait."""

    lanes: list[Lane]
    waiting: list[Waiting]


class Ownership:
    """The shards of one process. `lanes` and `positions` are changed in place: who has them sees what is here now."""

    def __init__(self, workshop: Workshop, store: StateStore, clock: Clock, time: DomainTime) -> None:
        self.shop = workshop
        self.lanes: dict[str, Lane] = {}
        self.positions: dict[str, Position] = {}
        self.fence = Fence(store, clock)
        self.gone: set[str] = set()
        """Receivers that a reload took away: what they still hand over is for whoever reads their sources next."""
        self._store, self._clock, self._time = store, clock, time

    async def open(self) -> None:
        """Build the whole's lane. In a store that others share, `assign` does, with the first source that needs it."""
        if not self._store.shared:
            await self._take_on({WHOLE: ""})

    async def close(self) -> None:
        """Leave all components, those of partitions first."""
        for shard in [s for s in self.lanes if s != WHOLE] + [WHOLE]:
            if lane := self.lanes.pop(shard, None):
                await lane.close()

    async def assign(self, sources: Sequence[str], receiver: str = "") -> bool:
        """Take sources of a receiver on; whether any was not here yet.

        Where others share the store, the first source that leads to components of the whole brings the whole along.
        Raises what building raises; then none of them was taken on.
        """
        new = {source: receiver for source in sources if source not in self.lanes}
        if new and WHOLE not in self.lanes and self._leads(receiver):
            new = {WHOLE: "", **new}
        await self._take_on(new)
        return bool(new)

    def leaving(self, sources: Iterable[str]) -> list[str]:
        """The shards that go when these sources go: in a shared store the whole goes with the last that leads to it."""
        gone = [source for source in sources if source in self.lanes]
        stays = [s for s, lane in self.lanes.items() if s not in gone and s != WHOLE and self._leads(lane.receiver)]
        return gone if stays or not self._store.shared or WHOLE not in self.lanes else [*gone, WHOLE]

    async def release(self, sources: Iterable[str]) -> None:
        """Let sources go whose last state has been committed, and with them what `leaving` says."""
        await self._let_go(self.leaving(sources))

    async def rebuild(
        self, workshop: Workshop, bequest: Bequest, ready: Callable[[list[Mount]], Awaitable[None]]
    ) -> Replaced:
        """Build every lane anew, as `workshop` says, from what is stored; all must be committed. `ready` is called
        with what the new components want to be served, before they count.

        Raises whatever building or `ready` raises, and nothing has changed then; StateError when another process has
        a shard.
        """
        receivers = {lane.receiver for lane in self.lanes.values()}
        if WHOLE not in self.lanes and any(whole_components(workshop.plan, id) for id in receivers):
            raise ConfigError("what is for all would begin to work in this process: that needs a restart")
        stored = await self._taken(self.lanes)
        for shard, old in self.lanes.items():
            if stored[shard].epoch != old.epoch + 1:
                raise replaced_by(shard)
        lanes: dict[str, Lane] = {}
        try:
            for shard in sorted(self.lanes, key=lambda name: name != WHOLE):
                receiver = self.lanes[shard].receiver
                lanes[shard] = await build_lane(workshop, shard, stored[shard], lanes.get(WHOLE), bequest, receiver)
            await ready([mount for lane in lanes.values() for mount in lane.mounts])
        except BaseException:
            for shard, old in self.lanes.items():
                old.epoch = stored[shard].epoch
            with anyio.CancelScope(shield=True):
                for lane in reversed(list(lanes.values())):
                    await lane.close()
            raise
        replaced = dict(self.lanes)
        self.lanes.clear()
        self.lanes.update(lanes)
        self.gone = (self.gone | set(self.shop.plan.receivers)) - set(workshop.plan.receivers)
        self.shop = workshop
        upstream_first = [replaced[shard] for shard in sorted(replaced, key=lambda name: name == WHOLE)]
        return Replaced(upstream_first, [row for shard in stored.values() for row in shard.waiting])

    def adopt(self, outboxes: dict[str, Outbox]) -> Workshop:
        """Go on with these outboxes; those of the plan must be the ones that the lanes were built with."""
        self.shop = msgspec.structs.replace(self.shop, outboxes=outboxes)
        return self.shop

    async def _take_on(self, shards: Mapping[str, str]) -> None:
        """Take these shards (with their receivers) and build their lanes: all of them, or none."""
        if not shards:
            return
        stored = await self._taken(shards)
        built: list[str] = []
        try:
            if WHOLE in shards:
                await self.shop.open_whole()
            for shard, receiver in shards.items():
                built.append(shard)
                whole = self.lanes.get(WHOLE)
                own = receiver if self._store.shared else ""
                self.lanes[shard] = await build_lane(self.shop, shard, stored[shard], whole, NOTHING_MOVED, own)
            for state in stored.values():
                self._restore(state.waiting)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._let_go(reversed(built))
            raise
        for shard, state in stored.items():
            if state.position is not None:
                self.positions[shard] = state.position
            if shard == WHOLE:
                self._time.add_whole(state.time_ns)
            else:
                read_ns = state.position.at_ns if state.position else 0
                self._time.add(shard, read_ns, self._leads(shards[shard]), state.time_ns)
        if WHOLE in shards:
            self._time.wait_for([id for id in self.shop.plan.receivers if self._waited_for(id)], self._clock.wall_ns())
            self.shop.begin_whole()

    def _waited_for(self, receiver: str) -> bool:
        """Whether the whole's time waits for a receiver's first read. One that others share may have nothing here."""
        return not self._store.shared or self._leads(receiver)

    def _restore(self, waiting: Iterable[Waiting]) -> None:
        """Payloads that earlier owners committed and did not see acknowledged."""
        for row in waiting:
            outbox = self.shop.outboxes.get(row.exporter)
            if outbox is None:
                raise StateError(
                    f"{self._store.name} holds unsent payloads of {row.exporter} for shard {row.shard}, and the "
                    "configuration has no such exporter there. Put it back until they are sent"
                )
            outbox.restore([row])

    async def _taken(self, shards: Collection[str]) -> dict[str, ShardState]:
        stored: dict[str, ShardState] = {}

        async def take() -> Mapping[str, int]:
            stored.update(await anyio.to_thread.run_sync(self._store.take_shards, list(shards)))
            return {shard: state.epoch for shard, state in stored.items()}

        await self.fence.taking(take)
        return stored

    async def _let_go(self, shards: Iterable[str]) -> None:
        for shard in list(shards):
            self.fence.drop(shard)
            self.positions.pop(shard, None)
            if shard != WHOLE:
                self._time.remove(shard)
            if lane := self.lanes.pop(shard, None):
                await lane.close()
            if shard == WHOLE:
                await self.shop.close_whole()

    def _leads(self, receiver: str) -> bool:
        """Whether a receiver ("": any) leads to components of the whole."""
        plan = self.shop.plan
        return any(whole_components(plan, id) for id in ([receiver] if receiver else plan.receivers))
