"""The serial heart: reads, timers and barriers, one after another, on the components of all shards.

The engine owns every component call and nothing else: no loop, no sleep, no I/O but loading a shard's state. That is
why a test can drive it step by step and crash it between any two. Its law: whatever `barrier` hands out is one moment
of positions, state and payloads, and holds exactly the reads taken since the barrier before.
"""

import copy
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from pipeline.alert_commands import Command
from pipeline.batch import WHOLE
from pipeline.clock import Clock
from pipeline.components import CatchesUp, Obeys, Position, Read
from pipeline.events import Event
from pipeline.runtime.barrier import Barrier, uncollected
from pipeline.runtime.context import Side
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.domain_time import DomainTime, Mode
from pipeline.runtime.inherit import Bequest
from pipeline.runtime.lanes import Lane, Workshop
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.ownership import Ownership, Replaced
from pipeline.runtime.sites import Mount
from pipeline.runtime.stage import Stage
from pipeline.signals import Alert, Signal
from pipeline.store.state import Ack, Commit, StateStore
from pipeline.topology.plan import Plan

T = TypeVar("T")


class Engine:
    """Everything of one process that is committed together."""

    def __init__(self, workshop: Workshop, store: StateStore, clock: Clock, mode: Mode) -> None:
        self.time = DomainTime(mode)
        self._clock = clock
        self._dead: DeadLetters = workshop.dead
        self._owned = Ownership(workshop, store, clock, self.time)
        self._lanes = self._owned.lanes
        self._next = Barrier(self._owned, workshop.dead, clock)
        self.fence = self._owned.fence
        self.positions = self._owned.positions
        """Where each source stands that this process owns, committed or not."""
        self.changed = True
        """Something happened that a checkpoint must hold; at first that is what the first flush says again."""

    # --- what is here, see `pipeline.runtime.ownership` ---

    async def open(self) -> None:
        """Build the whole's lane. In a store that others share, `assign` does, with the first source that needs it."""
        await self._owned.open()

    async def close(self) -> None:
        """Leave all components, those of partitions first."""
        await self._owned.close()

    async def assign(self, sources: Iterable[str], receiver: str = "") -> dict[str, Position | None]:
        """Take sources of a receiver on; gives where each is to be read from. One that is here goes on where it stands.

        Raises what building raises; then none of them was taken on.
        """
        wanted = list(sources)
        if await self._owned.assign(wanted, receiver):
            self.changed = True
        return {source: self.positions.get(source) for source in wanted}

    def leaving(self, sources: Iterable[str]) -> list[str]:
        """The shards that go when these sources go."""
        return self._owned.leaving(sources)

    async def release(self, sources: Iterable[str]) -> None:
        """Let sources go whose last state has been committed, and with them what `leaving` says."""
        await self._owned.release(sources)

    async def rebuild(
        self, workshop: Workshop, bequest: Bequest, ready: Callable[[list[Mount]], Awaitable[None]]
    ) -> Replaced:
        """Build every lane anew, as `workshop` says; all must be committed. What raises changes nothing."""
        replaced = await self._owned.rebuild(workshop, bequest, ready)
        self.changed = True
        return replaced

    def adopt(self, outboxes: dict[str, Outbox]) -> Workshop:
        """Go on with these outboxes; those of the plan must be the ones that the lanes were built with."""
        return self._owned.adopt(outboxes)

    # --- reads and timers ---

    async def take(self, receiver: str, read: Read[Any]) -> None:
        """Process one read to its end. A read of a source that is not (or no longer) here changes nothing."""
        lane = self._lanes.get(read.source)
        if lane is None or receiver in self._owned.gone:
            return
        wall = self._clock.wall_ns()
        for bad in read.rejected:
            self._dead.add_input(bad, receiver, read.source, wall)
        if read.items:
            self.time.stamp(read.source, read.items, wall)
            limit = self.time.limit(read.source)
            self._say_lag(getattr(read.items[0], "now_ns", wall), limit, wall)
            if whole := self._lanes.get(WHOLE):
                for stage in whole.made.values():
                    stage.limit_ns = limit
            most = self._owned.shop.plan.service.intake.max_items
            for start in range(0, len(read.items), most):
                await self._enter(receiver, lane, read.items[start : start + most], self.time.of(read.source, wall))
        self.time.read(read.source, read.behind, wall)
        self.time.came(receiver)
        self._say_lag(wall, self.time.limit(""), wall)
        self.positions[read.source] = read.position
        self._next.moved.add(read.source)
        self.changed = True

    def _say_lag(self, first_ns: int, others_ns: int | None, wall_ns: int) -> None:
        """Tell those who care how old the oldest is that is being read now."""
        whole = self._lanes.get(WHOLE)
        if self.time.mode == "events" or whole is None:
            return
        oldest = first_ns if others_ns is None else min(first_ns, others_ns)
        for component in whole.catching_up:
            for table in whole.tables:
                table.begin()
            component.lags(max(0, wall_ns - oldest), self.time.whole(wall_ns))

    async def _enter(self, receiver: str, lane: Lane, items: Sequence[Any], now_ns: int) -> None:
        """Push items into every pipeline that the receiver feeds; each but the first gets copies of its own."""
        plan = self._owned.shop.plan
        for count, pipeline in enumerate(p for p in plan.pipelines.values() if receiver in p.receivers):
            own = items if count == 0 else [_fresh(item) for item in items]
            for sink in lane.entries[pipeline.id]:
                await sink.push(own, now_ns)

    def next_due(self) -> int | None:
        """The domain time of the earliest timer that could fire by the passing of time alone."""
        return min((due for lane in self._lanes.values() for s in lane.stages if (due := s.due())), default=None)

    async def fire(self) -> None:
        """Run all timers that are due in their shard's domain time."""
        wall = self._clock.wall_ns()
        waits = self.time.waits(wall)
        for shard, stage in self._all_stages():
            if waits and shard == WHOLE:
                continue
            now = self.time.whole(wall) if shard == WHOLE else self.time.of(shard, wall)
            due = stage.due()
            if due is not None and due < now:
                await stage.fire(now)
                self.changed = True

    def apply(self, side: Side, value: object) -> None:
        """Hand a side input's new value to its component; between batches, covered by the next checkpoint."""
        tables = [t for lane in self._lanes.values() for t in lane.tables]
        for table in tables:
            table.begin()
        try:
            side.apply(value)
        except Exception:
            for table in tables:
                table.undo()
            raise
        self.changed = True

    # --- dead letters that come again, see `pipeline.runtime.replay` ---

    @property
    def plan(self) -> Plan:
        """The plan that it runs."""
        return self._owned.shop.plan

    @property
    def outboxes(self) -> dict[str, Outbox]:
        """The outbox of each exporter."""
        return self._owned.shop.outboxes

    def has(self, shard: str) -> bool:
        """Whether the shard is here."""
        return shard in self._lanes

    def now(self, shard: str) -> int:
        """The domain time of a shard; that of the whole for one that is not here."""
        wall = self._clock.wall_ns()
        return self.time.of(shard, wall) if shard != WHOLE and self.has(shard) else self.time.whole(wall)

    def stage(self, shard: str, pipeline: str, owner: str) -> Stage | None:
        """A component at work; None when the shard, the pipeline or the component is not here."""
        lane = self._lanes.get(shard)
        return lane.made.get((pipeline, owner.partition(".")[2])) if lane else None

    async def enter(self, receiver: str, source: str, items: Sequence[Any]) -> None:
        """Items of no read, into the pipelines that the receiver feeds; the source is here."""
        await self._enter(receiver, self._lanes[source], items, self.now(source))

    def obeying(self) -> list[Stage]:
        """The stages of the whole that obey commands, in order."""
        whole = self._lanes.get(WHOLE)
        stages = whole.made.values() if whole else ()
        return [stage for stage in stages if isinstance(stage.component, Obeys)]

    async def obey(self, command: Command, next: int) -> None:
        """Give a command to who obeys, and go on behind it: `next` is the row that comes then."""
        now, limit = self.now(WHOLE), self.time.limit("")
        for stage in self.obeying():
            stage.limit_ns = limit
            await stage.push([msgspec.structs.replace(command, now_ns=now)], now)
        self.obeyed(next)

    def obeyed(self, next: int) -> None:
        """Commands before the row `next` are done with, as the next checkpoint says."""
        self.positions[WHOLE] = Position(next)
        self._next.moved.add(WHOLE)
        self.changed = True

    async def tell(self, finding: Alert) -> bool:
        """Put a finding of the runtime's own into every pipeline of alerts, now. False if there is none here."""
        whole, now, told = self._lanes.get(WHOLE), self.now(WHOLE), False
        pipelines = [p for p in self._owned.shop.plan.pipelines.values() if p.signal == Signal.ALERTS]
        for pipeline in pipelines if whole is not None else ():
            found = (self.stage(WHOLE, pipeline.id, f"processors.{node.id}") for node in pipeline.processors)
            stages = [stage for stage in found if stage is not None]
            if finding.state == "recovered" and not any(isinstance(s.component, CatchesUp) for s in stages):
                continue  # nobody here keeps problems open: an end is no news
            outboxes = [self.outboxes[id] for id in pipeline.exporters if id in self.outboxes]
            for sink in stages[:1] or outboxes:
                await sink.push([msgspec.structs.replace(finding, now_ns=now)], now)
                self.changed = told = True
        return told

    def replayed(self, letter: int) -> None:
        """A dead letter's effects are in the next checkpoint, and there it goes."""
        self._next.replayed.append(letter)
        self.changed = True

    def acknowledge(self, ack: Ack) -> None:
        """A payload was delivered; the next checkpoint says so. Of a shard that was let go, its next owner says it."""
        if self.fence.holds(ack.shard):
            self._next.acks.append(ack)
            self.changed = True

    async def finish(self) -> None:
        """The end of `--once`: every component's last word."""
        await self._last_words(lambda stage, now: stage.finish(now))
        self.changed = True

    async def barrier(self) -> Commit:
        """Run all edges empty into the outboxes and hand out one moment."""
        with uncollected():
            await self._last_words(lambda stage, now: stage.flush(now))
            wall = self._clock.wall_ns()
            commit = await self._next.moment(wall, self.time.whole(wall), self.time)
        self.changed = bool(self._next.acks)
        return commit

    def mounts(self) -> list[Mount]:
        """What components want to be served."""
        return [mount for lane in self._lanes.values() for mount in lane.mounts]

    def sides(self, shards: Iterable[str] | None = None) -> list[Side]:
        """The side inputs of these shards (all)."""
        return [side for shard, lane in self._lanes.items() if shards is None or shard in shards for side in lane.sides]

    def refuses(self, now_s: float) -> bool:
        """Whether a component takes no input at this monotonic time."""
        return any(limit.refuses(now_s) for lane in self._lanes.values() for limit in lane.limits)

    async def _last_words(self, word: Callable[[Any, int], Awaitable[None]]) -> None:
        wall = self._clock.wall_ns()
        for shard, stage in self._all_stages():
            await word(stage, self.time.whole(wall) if shard == WHOLE else self.time.of(shard, wall))

    def _all_stages(self) -> list[tuple[str, Any]]:
        """Every stage of every lane, upstream first: partitions, then the whole."""
        order = sorted(self._lanes, key=lambda shard: shard == WHOLE)
        return [(shard, stage) for shard in order for stage in self._lanes[shard].stages]


def _fresh(item: T) -> T:
    return copy.copy(item) if isinstance(item, Event) else item
