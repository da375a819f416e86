"""The serial heart: reads, timers and barriers, one after another, on the components of all shards.

The engine owns every component call and nothing else: no loop, no sleep, no I/O but loading a shard's state. That is
why a test can drive it step by step and crash it between any two. Its law: whatever `barrier` hands out is one moment
of positions, state and payloads, and holds exactly the reads taken since the barrier before.
"""

import copy
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import anyio
import anyio.to_thread
import msgspec

from pipeline.alert_commands import Command
from pipeline.batch import WHOLE
from pipeline.clock import Clock
from pipeline.components import CatchesUp, Obeys, Position, Read
from pipeline.errors import ConfigError, StateError
from pipeline.events import Event
from pipeline.runtime.context import Side
from pipeline.runtime.dead_letters import DeadLetters, as_log
from pipeline.runtime.domain_time import DomainTime, Mode
from pipeline.runtime.fence import Fence
from pipeline.runtime.inherit import Bequest, latest
from pipeline.runtime.lanes import NOTHING_MOVED, Lane, Workshop, build_lane
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.seldom import Seldom
from pipeline.runtime.sites import Mount
from pipeline.runtime.stage import Stage
from pipeline.signals import Alert, Signal
from pipeline.store.state import Ack, Commit, DeadLetter, ShardState, StateRow, StateStore, Waiting, replaced_by
from pipeline.topology.plan import Plan
from pipeline.topology.scopes import whole_components

log = logging.getLogger("dagtel.engine")

T = TypeVar("T")
LOG_DROPS_S = 10.0
"""One line about dropped payloads in this time."""


class Replaced(msgspec.Struct, frozen=True):
    """What a rebuilt engine leaves behind: its old lanes, upstream first, to be closed; and the payloads that wait."""

    lanes: list[Lane]
    waiting: list[Waiting]


class Engine:
    """Everything of one process that is committed together."""

    def __init__(self, workshop: Workshop, store: StateStore, clock: Clock, mode: Mode) -> None:
        self.time = DomainTime(mode)
        self.positions: dict[str, Position] = {}
        """Where each source stands that this process owns, committed or not."""
        self.changed = True
        """Something happened that a checkpoint must hold; at first that is what the first flush says again."""
        self.fence = Fence(store, clock)
        self._shop, self._store, self._clock = workshop, store, clock
        self._dead: DeadLetters = workshop.dead
        self._lanes: dict[str, Lane] = {}
        self._gone: set[str] = set()
        """Receivers that a reload took away: what they still hand over is for whoever reads their sources next."""
        self._moved: set[str] = set()
        self._acks: list[Ack] = []
        self._replayed: list[int] = []
        self._drops = Seldom(LOG_DROPS_S)

    async def open(self) -> None:
        """Build the whole's lane. In a store that others share, `assign` does, with the first source that needs it."""
        if not self._store.shared:
            await self._take_on({WHOLE: ""})

    async def close(self) -> None:
        """Leave all components, those of partitions first."""
        for shard in [s for s in self._lanes if s != WHOLE] + [WHOLE]:
            if lane := self._lanes.pop(shard, None):
                await lane.close()

    async def rebuild(
        self, workshop: Workshop, bequest: Bequest, ready: Callable[[list[Mount]], Awaitable[None]]
    ) -> Replaced:
        """Build every lane anew, as `workshop` says, from what is stored; all must be committed. `ready` is called
        with what the new components want to be served, before they count.

        Raises whatever building or `ready` raises, and nothing has changed then; StateError when another process has
        a shard.
        """
        receivers = {lane.receiver for lane in self._lanes.values()}
        if WHOLE not in self._lanes and any(whole_components(workshop.plan, id) for id in receivers):
            raise ConfigError("what is for all would begin to work in this process: that needs a restart")
        stored = await self._taken(self._lanes)
        for shard, old in self._lanes.items():
            if stored[shard].epoch != old.epoch + 1:
                raise replaced_by(shard)
        lanes: dict[str, Lane] = {}
        try:
            for shard in sorted(self._lanes, key=lambda name: name != WHOLE):
                receiver = self._lanes[shard].receiver
                lanes[shard] = await build_lane(workshop, shard, stored[shard], lanes.get(WHOLE), bequest, receiver)
            await ready([mount for lane in lanes.values() for mount in lane.mounts])
        except BaseException:
            for shard, old in self._lanes.items():
                old.epoch = stored[shard].epoch
            with anyio.CancelScope(shield=True):
                for lane in reversed(list(lanes.values())):
                    await lane.close()
            raise
        replaced, self._lanes = self._lanes, lanes
        self._gone = (self._gone | set(self._shop.plan.receivers)) - set(workshop.plan.receivers)
        self._shop, self.changed = workshop, True
        upstream_first = [replaced[shard] for shard in sorted(replaced, key=lambda name: name == WHOLE)]
        return Replaced(upstream_first, [row for shard in stored.values() for row in shard.waiting])

    def adopt(self, outboxes: dict[str, Outbox]) -> Workshop:
        """Go on with these outboxes; those of the plan must be the ones that the lanes were built with."""
        self._shop = msgspec.structs.replace(self._shop, outboxes=outboxes)
        return self._shop

    async def assign(self, sources: Iterable[str], receiver: str = "") -> dict[str, Position | None]:
        """Take sources of a receiver on; gives where each is to be read from. One that is here goes on where it stands.

        Where others share the store, the first source that leads to components of the whole brings the whole along.
        Raises what building raises; then none of them was taken on.
        """
        wanted = list(sources)
        new = {source: receiver for source in wanted if source not in self._lanes}
        if new and WHOLE not in self._lanes and self._leads(receiver):
            new = {WHOLE: "", **new}
        await self._take_on(new)
        return {source: self.positions.get(source) for source in wanted}

    async def _take_on(self, shards: Mapping[str, str]) -> None:
        """Take these shards (with their receivers) and build their lanes: all of them, or none."""
        if not shards:
            return
        stored = await self._taken(shards)
        built: list[str] = []
        try:
            if WHOLE in shards:
                await self._shop.open_whole()
            for shard, receiver in shards.items():
                built.append(shard)
                whole = self._lanes.get(WHOLE)
                own = receiver if self._store.shared else ""
                self._lanes[shard] = await build_lane(self._shop, shard, stored[shard], whole, NOTHING_MOVED, own)
            for state in stored.values():
                self._restore(state.waiting)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._let_go(reversed(built))
            raise
        for shard, state in stored.items():
            if state.position is not None:
                self.positions[shard] = state.position
            if shard != WHOLE:
                self.time.add(shard, state.position.at_ns if state.position else 0, self._leads(shards[shard]))
        if WHOLE in shards:
            self.time.wait_for([id for id in self._shop.plan.receivers if self._waited_for(id)], self._clock.wall_ns())
            self._shop.begin_whole()
        self.changed = True

    def _waited_for(self, receiver: str) -> bool:
        """Whether the whole's time waits for a receiver's first read. One that others share may have nothing here."""
        return not self._store.shared or self._leads(receiver)

    def _restore(self, waiting: Iterable[Waiting]) -> None:
        """Payloads that earlier owners committed and did not see acknowledged."""
        for row in waiting:
            outbox = self._shop.outboxes.get(row.exporter)
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

    def leaving(self, sources: Iterable[str]) -> list[str]:
        """The shards that go when these sources go: in a shared store the whole goes with the last that leads to it."""
        gone = [source for source in sources if source in self._lanes]
        stays = [s for s, lane in self._lanes.items() if s not in gone and s != WHOLE and self._leads(lane.receiver)]
        return gone if stays or not self._store.shared or WHOLE not in self._lanes else [*gone, WHOLE]

    async def release(self, sources: Iterable[str]) -> None:
        """Let sources go whose last state has been committed, and with them what `leaving` says."""
        await self._let_go(self.leaving(sources))

    async def _let_go(self, shards: Iterable[str]) -> None:
        for shard in list(shards):
            self.fence.drop(shard)
            self.positions.pop(shard, None)
            if shard != WHOLE:
                self.time.remove(shard)
            if lane := self._lanes.pop(shard, None):
                await lane.close()
            if shard == WHOLE:
                await self._shop.close_whole()

    def _leads(self, receiver: str) -> bool:
        """Whether a receiver ("": any) leads to components of the whole."""
        plan = self._shop.plan
        return any(whole_components(plan, id) for id in ([receiver] if receiver else plan.receivers))

    async def take(self, receiver: str, read: Read[Any]) -> None:
        """Process one read to its end. A read of a source that is not (or no longer) here changes nothing."""
        lane = self._lanes.get(read.source)
        if lane is None or receiver in self._gone:
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
            most = self._shop.plan.service.intake.max_items
            for start in range(0, len(read.items), most):
                await self._enter(receiver, lane, read.items[start : start + most], self.time.of(read.source, wall))
        self.time.read(read.source, read.behind, wall)
        self.time.came(receiver)
        self._say_lag(wall, self.time.limit(""), wall)
        self.positions[read.source] = read.position
        self._moved.add(read.source)
        self.changed = True

    def _say_lag(self, first_ns: int, others_ns: int | None, wall_ns: int) -> None:
        """Tell those who care how old the oldest is that is being read now."""
        whole = self._lanes.get(WHOLE)
        if self.time.mode == "events" or whole is None:
            return
        oldest = first_ns if others_ns is None else min(first_ns, others_ns)
        for component in whole.components.values():
            if isinstance(component, CatchesUp):
                for table in whole.tables:
                    table.begin()
                component.lags(max(0, wall_ns - oldest), self.time.whole(wall_ns))

    async def _enter(self, receiver: str, lane: Lane, items: Sequence[Any], now_ns: int) -> None:
        """Push items into every pipeline that the receiver feeds; each but the first gets copies of its own."""
        plan = self._shop.plan
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
        return self._shop.plan

    @property
    def outboxes(self) -> dict[str, Outbox]:
        """The outbox of each exporter."""
        return self._shop.outboxes

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
        self._moved.add(WHOLE)
        self.changed = True

    async def tell(self, finding: Alert) -> bool:
        """Put a finding of the runtime's own into every pipeline of alerts, now. False if there is none here."""
        whole, now, told = self._lanes.get(WHOLE), self.now(WHOLE), False
        pipelines = [p for p in self._shop.plan.pipelines.values() if p.signal == Signal.ALERTS]
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
        self._replayed.append(letter)
        self.changed = True

    def acknowledge(self, ack: Ack) -> None:
        """A payload was delivered; the next checkpoint says so. Of a shard that was let go, its next owner says it."""
        if self.fence.holds(ack.shard):
            self._acks.append(ack)
            self.changed = True

    async def finish(self) -> None:
        """The end of `--once`: every component's last word."""
        await self._last_words(lambda stage, now: stage.finish(now))
        self.changed = True

    async def barrier(self) -> Commit:
        """Run all edges empty into the outboxes and hand out one moment."""
        await self._last_words(lambda stage, now: stage.flush(now))
        wall = self._clock.wall_ns()
        outboxes = self._shop.outboxes.values()
        acks, self._acks = self._acks, []  # what comes from here on is told with the next
        await self._record(acks, wall)
        dead = await self._build(outboxes, self.time.whole(wall))
        for outbox in outboxes:
            acks += self._drop_excess(outbox)
        commit = Commit(
            epochs={shard: lane.epoch for shard, lane in self._lanes.items()},
            positions={source: self.positions[source] for source in self._moved if source in self.positions},
            rows=self._changed_rows(),
            outbox=sorted((row for outbox in outboxes for row in outbox.take_built()), key=lambda row: row.id),
            acks=acks,
            dead=dead,
            replayed=self._replayed,
        )
        self._moved, self._replayed, self.changed = set(), [], bool(self._acks)
        return commit

    async def _record(self, acks: Sequence[Ack], now_ns: int) -> None:
        """What became of payloads, to those who keep records: it is committed with the acknowledgements."""
        told = [ack for ack in acks if ack.told is not None]
        for outbox in self._shop.outboxes.values() if told else ():
            for ack in told if outbox.spec.records else ():
                await outbox.push([ack.told], now_ns, ack.shard)

    def _changed_rows(self) -> list[StateRow]:
        rows = [
            StateRow(shard, row.owner, row.table, row.key, row.version, row.value)
            for shard, lane in self._lanes.items()
            for table in lane.tables
            for row in table.take_dirty()
        ]
        changes = [row for lane in self._lanes.values() for row in lane.inherited]
        if not changes:
            return rows
        for lane in self._lanes.values():
            lane.inherited = []
        return latest(changes, rows)

    def mounts(self) -> list[Mount]:
        """What components want to be served."""
        return [mount for lane in self._lanes.values() for mount in lane.mounts]

    def sides(self, shards: Iterable[str] | None = None) -> list[Side]:
        """The side inputs of these shards (all)."""
        return [side for shard, lane in self._lanes.items() if shards is None or shard in shards for side in lane.sides]

    def components(self) -> list[object]:
        """All component instances."""
        return [c for lane in self._lanes.values() for c in lane.components.values()]

    async def _build(self, outboxes: Iterable[Outbox], now_ns: int) -> list[DeadLetter]:
        """Build what has gathered. Dead letters are exported too; those that this makes are only kept."""
        kept: list[DeadLetter] = []
        targets = self._shop.plan.service.dead_letters.exporters
        for _ in range(2):
            for outbox in outboxes:
                outbox.build(now_ns)
            dead = self._dead.take()
            kept += dead
            for id in targets if dead and self._lanes else ():
                await self._shop.outboxes[id].push([as_log(letter) for letter in dead], now_ns, self._any_shard())
        for outbox in outboxes:
            outbox.build(now_ns)
        return kept + self._dead.take()

    def _drop_excess(self, outbox: Outbox) -> list[Ack]:
        gone = outbox.drop_excess()
        if not gone:
            return []
        self._shop.telemetry.exporter(outbox.id).dropped(len(gone))
        if self._drops.due(self._clock.monotonic()):
            facts = {"exporter": outbox.id, "payloads": len(gone), "all": outbox.dropped}
            log.error("Payloads dropped: the outbox is full.", extra=facts)
        return [Ack(id, outbox.id, shard=shard) for id, shard in gone]

    def _any_shard(self) -> str:
        """For what belongs to no shard: the whole, or where another process may have that, one of ours."""
        return WHOLE if WHOLE in self._lanes else next(iter(self._lanes), WHOLE)

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
