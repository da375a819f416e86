"""The runtime's own engine and store on a clock that jumps from one moment to the next."""

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import msgspec
from opentelemetry import trace

from pipeline.batch import WHOLE
from pipeline.components import ExporterSpec, Position, Read, ReceiverSpec, Rejected, given_by
from pipeline.errors import DagtelError, DecodeError, RetryableError
from pipeline.http import Response
from pipeline.runtime.context import ComponentContext, Gifts, ShardTables
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.engine import Engine
from pipeline.runtime.host import Host
from pipeline.runtime.ids import Ids
from pipeline.runtime.lanes import Workshop
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.stage import Stage
from pipeline.runtime.status import Statuses
from pipeline.runtime.telemetry import Telemetry
from pipeline.scenario.capture import Captured, Told, silenced
from pipeline.scenario.clock import VirtualClock
from pipeline.scenario.model import Step
from pipeline.scenario.people import command
from pipeline.signals import Alert, Signal
from pipeline.store.state import StateStore
from pipeline.topology.plan import Node, Plan

SOURCE: Final = "scenario"
"""The one input of a scenario."""

MAX_TIMERS: Final = 1_000_000
"""Timers of one scenario; more than that is a component that never comes to rest."""


class Moment(msgspec.Struct, frozen=True):
    """Entries of Dagster's event log that are there at the same time (Unix ns), then what people do, each with its
    command's id; nothing just lets time pass. An entry is its bytes, or a record that a receiver would have read.
    """

    at_ns: int
    lines: tuple[bytes | Rejected, ...] = ()
    people: tuple[tuple[Step, str], ...] = ()


class Played(msgspec.Struct, frozen=True):
    """What came of a scenario: the notifications, the reasons of dead letters, side inputs that could not be had, and
    the times (Unix ns) at which people had nothing to answer.
    """

    told: tuple[Told, ...]
    dead: tuple[str, ...]
    missing: tuple[str, ...]
    unanswered: tuple[int, ...] = ()


class ScenarioError(DagtelError):
    """A configuration on which no scenario can be played."""


async def play(
    plan: Plan,
    moments: Iterable[Moment] | AsyncIterator[Moment],
    folder: Path,
    *,
    restarts: bool = False,
    commit_every: int = 1,
) -> Played:
    """Run the moments, in order, through the plan's pipelines; state is in `folder`, nothing else is touched.

    `restarts`: the process is killed and started again after each moment. `commit_every`: moments from one checkpoint
    to the next. Raises ScenarioError, and whatever building a component raises (ConfigError, StateError).
    """
    try:
        coming = moments if isinstance(moments, AsyncIterator) else _one_by_one(moments)
        return await _Play(plan, folder, 1 if restarts else commit_every).run(coming, restarts)
    except BaseExceptionGroup as group:  # of a life's tasks, which is nobody's business
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def _one_by_one(moments: Iterable[Moment]) -> AsyncIterator[Moment]:
    for moment in moments:
        yield moment


class _Play:
    def __init__(self, plan: Plan, folder: Path, commit_every: int) -> None:
        self._path, self._commit_every = folder / "state.db", commit_every
        self._captured = Captured()
        self._receiver = _receiver(plan)
        self._plan = silenced(plan, self._captured)
        self._clock = VirtualClock(0)
        self._offset = 0
        self._timers = 0
        self._dead: list[str] = []
        self._missing: dict[str, None] = {}
        self._unanswered: list[int] = []

    async def run(self, moments: AsyncIterator[Moment], restarts: bool) -> Played:
        moment = await anext(moments, None)
        if moment is not None:
            self._clock.wall = moment.at_ns
        while moment is not None:
            async with _life(self._plan, self._path, self._clock) as (engine, store):
                await self._start(engine)
                passed = 0
                while moment is not None and not (restarts and passed):
                    await self._pass(engine, moment)
                    if moment.people:
                        await self._commit(engine, store)  # people answer what they were told
                        await self._obey(engine, moment)
                    moment, passed = await anext(moments, None), passed + 1
                    if moment is None or passed % self._commit_every == 0:
                        await self._commit(engine, store)
        return Played(tuple(self._captured.told), tuple(self._dead), tuple(self._missing), tuple(self._unanswered))

    async def _start(self, engine: Engine) -> None:
        await engine.assign([SOURCE])
        for side in engine.sides():
            try:
                engine.apply(side, await side.fetch())
            except DagtelError as error:
                self._missing[f"{side.owner}: {side.name}: {error}"] = None
        await engine.take(self._receiver.id, Read(SOURCE, (), Position(self._offset)))

    async def _pass(self, engine: Engine, moment: Moment) -> None:
        """All timers before the moment, each at its time, then what is there at it."""
        while (due := engine.next_due()) is not None and due < moment.at_ns:
            self._timers += 1
            if self._timers > MAX_TIMERS:
                raise ScenarioError(f"more than {MAX_TIMERS} timers have fired: a component never comes to rest")
            self._set(due + 1)
            await engine.fire()
        self._set(moment.at_ns)
        if moment.lines:
            await engine.take(self._receiver.id, self._read(moment))

    async def _obey(self, engine: Engine, moment: Moment) -> None:
        """Hand what people ask for to the pipelines of alerts, as whoever takes it from them would."""
        for step, name in moment.people:
            asked = command(step, name, moment.at_ns, self._captured.told)
            if asked is None:
                self._unanswered.append(moment.at_ns)
                continue
            for first in _alert_stages(engine, self._plan):
                await first.push([asked], moment.at_ns)

    def _set(self, at_ns: int) -> None:
        self._clock.advance(max(0, at_ns - self._clock.wall) / 1e9)
        self._clock.wall = max(self._clock.wall, at_ns)  # exactly: the step above is a float

    async def _commit(self, engine: Engine, store: StateStore) -> None:
        commit = await engine.barrier()
        self._dead += [f"{letter.origin}: {letter.reason}" for letter in commit.dead]
        store.commit(commit)

    def _read(self, moment: Moment) -> Read[Any]:
        items: list[Any] = []
        rejected: list[Rejected] = []
        spec = self._receiver.spec
        assert isinstance(spec, ReceiverSpec) and spec.redecode is not None
        for line in moment.lines:
            raw = Rejected(line, "", f"{SOURCE}@{self._offset}") if isinstance(line, bytes) else line
            raw = msgspec.structs.replace(raw, source=SOURCE, offset=self._offset, record_ns=moment.at_ns)
            self._offset += 1
            try:
                items += spec.redecode(self._receiver.options, raw)
            except DecodeError as error:
                rejected.append(msgspec.structs.replace(raw, reason=str(error)))
        return Read(SOURCE, items, Position(self._offset), rejected)


async def told_of(plan: Plan, finding: Alert, folder: Path) -> list[Alert]:
    """The notifications that the plan's alerts pipelines make of one finding, on an empty state; nothing is sent."""
    captured = Captured()
    silent = silenced(plan, captured)
    try:
        async with _life(silent, folder / "state.db", VirtualClock(finding.now_ns)) as (engine, _):
            for first in _alert_stages(engine, silent):
                await first.push([finding], finding.now_ns)
            await engine.finish()
            await engine.barrier()
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return [told.alert for told in captured.told]


def _alert_stages(engine: Engine, plan: Plan) -> list[Stage]:
    """The first stage of the whole in each pipeline of alerts."""
    found = []
    for pipeline in plan.pipelines.values():
        if pipeline.signal == Signal.ALERTS:
            stages = (engine.stage(WHOLE, pipeline.id, f"processors.{node.id}") for node in pipeline.processors)
            found += [stage for stage in stages if stage is not None][:1]
    return found


def _receiver(plan: Plan) -> Node:
    for node in plan.receivers.values():
        spec = node.spec
        if isinstance(spec, ReceiverSpec) and spec.redecode is not None and Signal.EVENTS in given_by(spec):
            return node
    raise ScenarioError("no receiver of this configuration reads Dagster's event log; there is nothing to play")


class _NoNetwork:
    """What components call when they would call somebody."""

    async def request(self, method: str, url: str, **options: object) -> Response:
        raise RetryableError("there is no network in a scenario")


@asynccontextmanager
async def _life(plan: Plan, path: Path, clock: VirtualClock) -> AsyncIterator[tuple[Engine, StateStore]]:
    """One life of a process; leaving the block is its crash."""
    store = StateStore(path)
    telemetry = Telemetry("none")
    gifts = Gifts(False, _NoNetwork(), telemetry.meter, trace.NoOpTracer())
    ids = Ids(store.generation)
    dead = DeadLetters(ids)
    try:
        async with anyio.create_task_group() as tasks:
            outboxes: dict[str, Outbox] = {}
            for id, node in plan.exporters.items():
                owner = f"exporters.{id}"
                context = ComponentContext(owner, id, "whole", gifts, ShardTables(owner, "whole", {}))
                host: Host[Any] = await Host.open(tasks, node.spec.build(node.options, context))
                assert node.delivery is not None and isinstance(node.spec, ExporterSpec)
                outboxes[id] = Outbox(id, node.spec, host.component, node.delivery, ids, dead, lambda: None)
            workshop = Workshop(plan, tasks, gifts, outboxes, dead, Statuses(), telemetry)
            engine = Engine(workshop, store, clock, "system")
            await engine.open()
            yield engine, store
            tasks.cancel_scope.cancel()
    finally:
        store.close()
