"""From a plan to linked stages: a lane for each shard, and the one lane of the whole.

A lane holds an instance of every component that works in its shard, each linked to what comes behind it. Behind the
first component of scope `whole` on a way, everything stands in the lane of the whole: partition lanes link into it,
so it is built first. Within a lane what is behind is built first: whatever a stage links to is already there.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import msgspec
from anyio.abc import TaskGroup

from pipeline.batch import WHOLE
from pipeline.components import CatchesUp, ExporterSpec, Limits
from pipeline.errors import ConfigError
from pipeline.runtime.context import ComponentContext, Gifts, ShardTables, Side
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.host import Host, close_all
from pipeline.runtime.inherit import Bequest, Rows, inherited, settings_of
from pipeline.runtime.outbox import Edge, Outbox
from pipeline.runtime.sites import Mount
from pipeline.runtime.sorting import ITEMS, of_signal
from pipeline.runtime.stage import Sink, Stage
from pipeline.runtime.status import Status, Statuses
from pipeline.runtime.tables import StateTable
from pipeline.runtime.telemetry import Telemetry
from pipeline.signals import Signal
from pipeline.store.state import ShardState, StateRow
from pipeline.topology.plan import Node, PipelinePlan, Plan
from pipeline.topology.scopes import is_whole

NOTHING_MOVED = Bequest()


class Lane:
    """One shard's components. `entries` are the first sinks of each pipeline that begins in it."""

    def __init__(self, shard: str, epoch: int, receiver: str = "") -> None:
        self.shard, self.epoch, self.receiver = shard, epoch, receiver
        self.made: dict[tuple[str, str], Stage] = {}
        """By pipeline ("" for a connector) and component id, downstream first."""
        self.tables: list[StateTable[Any, Any]] = []
        self.sides: list[Side] = []
        self.mounts: list[Mount] = []
        self.inherited: list[StateRow] = []
        """Rows that the next checkpoint writes, for the store to say what this lane loaded."""
        self.entries: dict[str, Sequence[Sink]] = {}
        self.limits: list[Limits] = []
        self.catching_up: list[CatchesUp] = []
        self._hosts: list[Host[Any]] = []

    @property
    def stages(self) -> list[Stage]:
        """Upstream first."""
        return list(reversed(self.made.values()))

    async def open(self, tasks: TaskGroup, manager: Any) -> Any:
        """Enter a component's context manager; it is left with the lane."""
        host: Host[Any] = await Host.open(tasks, manager)
        self._hosts.append(host)
        if isinstance(host.component, Limits):  # asked here: it is slow, and these are called with every read
            self.limits.append(host.component)
        if isinstance(host.component, CatchesUp):
            self.catching_up.append(host.component)
        return host.component

    async def close(self) -> None:
        """Leave all components, upstream first."""
        await close_all(reversed(self._hosts))


class Workshop(msgspec.Struct, frozen=True):
    """What building a lane needs, alike for all lanes of a process."""

    plan: Plan
    tasks: TaskGroup
    gifts: Gifts
    outboxes: dict[str, Outbox]
    dead: DeadLetters
    statuses: Statuses
    telemetry: Telemetry
    shared: bool = False
    """Several processes share the store, each with shards of its own."""
    open_whole: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint
    begin_whole: Callable[[], None] = lambda: None
    close_whole: Callable[[], Awaitable[None]] = anyio.lowlevel.checkpoint
    """Called around the life of the whole's lane: before it is built, once it has its state, after it is closed."""


async def build_lane(
    workshop: Workshop,
    shard: str,
    stored: ShardState,
    whole: Lane | None,
    bequest: Bequest = NOTHING_MOVED,
    receiver: str = "",
) -> Lane:
    """The lane of a shard with its state loaded. `whole` is the whole's lane; None while that one is built, and where
    no way leads to it. `receiver`: build what it leads to alone, as all that comes is from it.

    Raises StateError (state it must not read), ConfigError (one stateful id in two pipelines), and whatever a
    component's own `build` raises.
    """
    lane = Lane(shard, stored.epoch, receiver)
    rows, lane.inherited = inherited(shard, stored.rows, settings_of(workshop.plan), bequest)
    try:
        await _Builder(workshop, lane, rows, whole or lane).build_all()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await lane.close()
        raise
    return lane


class _Builder:
    """Walks the plan from each receiver, depth first, and links on the way back."""

    def __init__(self, workshop: Workshop, lane: Lane, stored: Rows, whole: Lane) -> None:
        self._shop, self._lane, self._stored, self._whole = workshop, lane, stored, whole
        self._stateful: dict[str, str] = {}

    async def build_all(self) -> None:
        plan = self._shop.plan
        for pipeline in plan.pipelines.values():
            wanted = {self._lane.receiver} if self._lane.receiver else plan.receivers.keys()
            if wanted & set(pipeline.receivers):
                self._lane.entries[pipeline.id] = await self._pipeline(pipeline, wholly=False)

    async def _pipeline(self, pipeline: PipelinePlan, wholly: bool) -> Sequence[Sink]:
        """The first sinks of a pipeline. `wholly`: the way here has already been through a `whole` component."""
        scopes = [wholly := wholly or is_whole(node) for node in pipeline.processors]
        sinks = [sink for id in pipeline.exporters for sink in await self._exit(id, pipeline.signal, wholly)]
        for node, whole in zip(reversed(pipeline.processors), reversed(scopes), strict=True):
            sinks = await self._stage(pipeline.id, "processors", node, sinks, whole)
        plan = self._shop.plan
        givers = [(plan.receivers.get(id) or plan.connectors[id]).spec for id in pipeline.receivers]
        return of_signal(pipeline.signal, givers, sinks)

    async def _exit(self, id: str, signal: Signal, wholly: bool) -> Sequence[Sink]:
        if id in self._shop.plan.exporters:
            shard = self._lane.shard if self._shop.shared else WHOLE
            return [Edge(self._shop.outboxes[id], shard, alike=len(ITEMS[signal]) == 1)]
        node = self._shop.plan.connectors[id]
        wholly = wholly or is_whole(node)
        home = self._whole if wholly else self._lane
        if ("", id) in home.made:
            return [home.made["", id]]
        behind = [
            sink
            for pipeline in self._shop.plan.pipelines.values()
            if id in pipeline.receivers
            for sink in await self._pipeline(pipeline, wholly)
        ]
        return await self._stage("", "connectors", node, behind, wholly)

    async def _stage(self, pipeline: str, kind: str, node: Node, behind: list[Sink], whole: bool) -> list[Sink]:
        home = self._whole if whole else self._lane
        if (pipeline, node.id) in home.made:
            return [home.made[pipeline, node.id]]
        if self._lane.shard == WHOLE and not whole:
            return behind  # it works in the partition lanes; nothing enters the whole's lane this way
        return [await self._open(pipeline, kind, node, behind)]

    async def _open(self, pipeline: str, kind: str, node: Node, behind: Sequence[Sink]) -> Stage:
        shop, lane, owner = self._shop, self._lane, f"{kind}.{node.id}"
        tables = ShardTables(owner, lane.shard, self._stored)
        exporters = shop.plan.exporters
        recorded = any(isinstance(n.spec, ExporterSpec) and n.spec.records for n in exporters.values())
        context = ComponentContext(owner, node.id, lane.shard, shop.gifts, tables, None, tuple(exporters), recorded)
        component = await lane.open(shop.tasks, node.spec.build(node.options, context))
        if tables.opened and self._stateful.setdefault(owner, pipeline) != pipeline:
            raise ConfigError(f"{owner} keeps state and stands in two pipelines: give each its own id")
        lane.tables += tables.opened
        lane.sides += context.sides
        lane.mounts += context.mounts
        if context.mounts and lane.shard != WHOLE:
            raise ConfigError(f"{owner} serves a path and works in each partition: only one of scope `whole` may")
        stage = Stage(owner, lane.shard, component, tables.opened, behind, shop.dead, shop.telemetry.passing(owner))
        stage.pipeline = pipeline
        lane.made[pipeline, node.id] = stage
        shop.statuses.set(owner, Status.OK)
        return stage
