"""The daemon: puts a plan to work and ends it in order.

Starts downstream first (store, exporters, components of the whole, senders, receivers) and stops the other way round:
receivers, what was read, the last checkpoint, the outbox, all within `shutdown_timeout`. What does not get out in time
is in the store and goes first at the next start.
"""

import gc
import logging
import random
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from pipeline.batch import WHOLE
from pipeline.clock import Clock, SystemClock
from pipeline.components import ExporterSpec, Limits, Payload, ReceiverSpec
from pipeline.errors import ConfigError, DagtelError, PermanentError, RetryableError, StateError
from pipeline.http import Asgi
from pipeline.runtime.context import ComponentContext, Gifts, ShardTables
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.delivery import Delivery
from pipeline.runtime.driver import STORE, Driver
from pipeline.runtime.engine import Engine
from pipeline.runtime.health import health_app, readiness
from pipeline.runtime.host import Host
from pipeline.runtime.http import open_http
from pipeline.runtime.ids import Ids
from pipeline.runtime.intake import Door, ReceiverIntake
from pipeline.runtime.lanes import Workshop
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.replay import Replay
from pipeline.runtime.side_inputs import SideInputs
from pipeline.runtime.status import Status, Statuses
from pipeline.runtime.telemetry import Telemetry, own_log
from pipeline.store.state import StateStore, open_state
from pipeline.topology.plan import Node, Plan

log = logging.getLogger("dagtel.service")

Serve = Callable[[Mapping[str, Mapping[str, Asgi]]], AbstractAsyncContextManager[None]]
GC_THRESHOLDS = (50_000, 20, 100)
"""A batch makes tens of thousands of objects and hardly a cycle: the default of 700 costs a fifth of all CPU time."""
RESTART_WAITS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


async def run_service(plan: Plan, once: bool, serve: Serve, clock: Clock | None = None) -> int:
    """Run a plan until it is told to stop (SIGTERM, SIGINT), or with `once` to the present end of its input.

    `serve` is the web floor (`pipeline.web.app.serve`). Gives the exit code: 0, or 1 when a component failed for good
    or payloads were left in the outbox. Raises ConfigError and StateError before anything was taken in.
    """
    own = plan.service.telemetry
    loki = own.logs.loki
    gc.freeze()  # what was imported lives as long as the daemon
    gc.set_threshold(*GC_THRESHOLDS)
    with own_log(own.logs.level, own.logs.format, loki.url if loki else "", loki.labels if loki else None):
        try:
            async with AsyncExitStack() as stack:
                service = await stack.enter_async_context(_opened(plan, once, serve, clock or SystemClock()))
                return await service.run()
        except BaseExceptionGroup as group:
            raise _first(group) from group


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended everything; the others followed from it."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


@asynccontextmanager
async def _opened(plan: Plan, once: bool, serve: Serve, clock: Clock) -> AsyncIterator["Service"]:
    state = plan.service.state
    other = state.postgresql
    url, schema = (other.url.reveal(), other.schema) if other else ("", "")
    store = await anyio.to_thread.run_sync(open_state, state.path, url, schema)
    try:
        _settle_orphans(store, plan)
        traces = plan.service.telemetry.traces
        telemetry = Telemetry(
            plan.service.telemetry.metrics.level, traces.endpoint, {k: v.reveal() for k, v in traces.headers.items()}
        )
        async with open_http() as http, anyio.create_task_group() as tasks:
            mounts: dict[str, dict[str, Asgi]] = {}
            gifts = Gifts(once, http, telemetry.meter, telemetry.tracer, _mounting(mounts))
            service = Service(plan, once, store, clock, telemetry, gifts, tasks)
            await service.open()
            service.mount_own(mounts)
            async with serve(mounts):
                yield service
            await service.close()
            tasks.cancel_scope.cancel()
        await anyio.to_thread.run_sync(telemetry.close)
    finally:
        store.close()


def _mounting(mounts: dict[str, dict[str, Asgi]]) -> Callable[[str, str, Asgi], None]:
    def mount(address: str, path: str, app: Asgi) -> None:
        if path in mounts.setdefault(address, {}):
            raise ConfigError(f"{address}{path} is served by two components")
        mounts[address][path] = app

    return mount


def _settle_orphans(store: StateStore, plan: Plan) -> None:
    """Move and forget what the configuration says; refuse to start over state that nobody would read."""
    state = plan.service.state
    for old, new in state.moved.items():
        store.move(_owner(old, plan), _owner(new, plan))
    for gone in state.forget:
        store.forget(gone if "." in gone else _owner(gone, plan))
    known = {f"processors.{n.id}" for p in plan.pipelines.values() for n in p.processors}
    known |= {f"connectors.{id}" for id in plan.connectors}
    orphans = sorted(store.owners() - known)
    if orphans:
        raise StateError(
            f"{store.name} holds state of components that the configuration does not have: "
            f"{', '.join(orphans)}. Name each in service.state.moved (old: new) or service.state.forget"
        )
    waiting = sorted({row.exporter for row in store.waiting()} - set(plan.exporters))
    if waiting:
        raise StateError(
            f"{store.name} holds unsent payloads of exporters that the configuration does not have: "
            f"{', '.join(waiting)}. Put them back until they are sent"
        )


def _owner(id: str, plan: Plan) -> str:
    """An id as the store knows it: `processors.dedup`; a bare `dedup` is looked up."""
    if id.startswith(("processors.", "connectors.")):
        return id
    return f"connectors.{id}" if id in plan.connectors else f"processors.{id}"


class Service:
    """One running daemon. `open`, `run`, `close`, in this order and in one task."""

    def __init__(
        self,
        plan: Plan,
        once: bool,
        store: StateStore,
        clock: Clock,
        telemetry: Telemetry,
        gifts: Gifts,
        tasks: TaskGroup,
    ) -> None:
        self._plan, self._once, self._store, self._tasks = plan, once, store, tasks
        self._telemetry, self._gifts = telemetry, gifts
        self._statuses = Statuses()
        self._ids = Ids(store.generation)
        self._dead = DeadLetters(self._ids, lambda component: telemetry.dead_letters.add(1, {"component": component}))
        self._outboxes: dict[str, Outbox] = {}
        self._deliveries: dict[str, Delivery] = {}
        workshop = Workshop(plan, tasks, gifts, self._outboxes, self._dead, self._statuses, telemetry)
        self._engine = Engine(workshop, store, clock, plan.service.clock)
        self._driver = Driver(
            self._engine,
            store,
            self._outboxes,
            clock,
            self._statuses,
            telemetry,
            plan.service.checkpoint_interval,
            plan.service.dead_letters.queue_size,
            plan.service.intake.max_items,
        )
        self._sides = SideInputs(tasks, self._driver, self._statuses)
        self._door = Door(once, self._has_room, self._statuses, telemetry)
        self._replay = Replay(store, self._driver, self._dead, clock.wall_ns, self._has_room)
        self._clock = clock
        self._hosts: list[Host[Any]] = []
        self._failed = False
        self._driven = anyio.Event()
        self._stop = anyio.Event()

    # --- start ---

    async def open(self) -> None:
        """Build everything but the receivers; the first barrier says again what state holds."""
        for node in self._plan.extensions.values():
            await self._component("extensions", node)
        await self._open_exporters()
        await self._engine.open()
        self._gauges()
        for outbox in self._outboxes.values():
            delivery = self._deliveries[outbox.id] = self._delivery(outbox)
            self._tasks.start_soon(delivery.run)
        self._tasks.start_soon(self._driver.commit_all)
        self._tasks.start_soon(self._drive)
        await self._sides.start(self._engine.sides())
        await self._driver.ask(self._driver.checkpoint_now)
        self._tasks.start_soon(self._replay.run)

    async def _drive(self) -> None:
        try:
            await self._driver.run()
        finally:
            self._driven.set()

    async def _open_exporters(self) -> None:
        receipts = await anyio.to_thread.run_sync(self._store.receipts)
        waiting = await anyio.to_thread.run_sync(self._store.waiting)
        for id, node in self._plan.exporters.items():
            exporter, context = await self._component("exporters", node, receipts.get(id))
            assert node.delivery is not None and isinstance(node.spec, ExporterSpec)
            outbox = Outbox(
                id,
                node.spec,
                exporter,
                node.delivery,
                self._ids,
                self._dead,
                self._driver.urge,
                partial(setattr, context, "receipt"),
            )
            outbox.restore([row for row in waiting if row.exporter == id])
            self._outboxes[id] = outbox

    async def _component(self, kind: str, node: Node, receipt: bytes | None = None) -> tuple[Any, ComponentContext]:
        owner = f"{kind}.{node.id}"
        context = ComponentContext(owner, node.id, WHOLE, self._gifts, ShardTables(owner, WHOLE, {}), receipt)
        host: Host[Any] = await Host.open(self._tasks, node.spec.build(node.options, context))
        self._hosts.append(host)
        return host.component, context

    def _delivery(self, outbox: Outbox) -> Delivery:
        async def load(id: int) -> Payload | None:
            return await anyio.to_thread.run_sync(self._store.payload, id)

        def refuse(payload: Payload, reason: str, partly: bool) -> None:
            self._dead.add_payload(payload, reason, outbox.id, self._clock.wall_ns(), partly, WHOLE)
            self._engine.changed = True

        return Delivery(
            outbox,
            load,
            self._driver.ack,
            refuse,
            lambda spread: random.uniform(-spread, spread),
            self._statuses,
            self._telemetry.exporter(outbox.id),
        )

    def mount_own(self, mounts: dict[str, dict[str, Asgi]]) -> None:
        """The daemon's own pages: metrics and health."""
        own = self._plan.service.telemetry
        mount = _mounting(mounts)
        if own.metrics.address and own.metrics.level != "none":
            mount(own.metrics.address, "/metrics", self._telemetry.app())
        if own.health.address:
            mount(own.health.address, "/healthz", health_app(lambda: (True, {"alive": True})))
            mount(own.health.address, "/readyz", health_app(self._readiness))

    def _readiness(self) -> tuple[bool, Mapping[str, object]]:
        return readiness(self._plan, self._statuses, self._blocked())

    def _gauges(self) -> None:
        gauge = self._telemetry.gauge
        boxes = self._outboxes
        gauge(
            "dagtel_exporter_queue_size",
            "Payloads that wait to be sent.",
            lambda: [(len(box), {"exporter": id}) for id, box in boxes.items()],
        )
        gauge(
            "dagtel_exporter_queue_bytes",
            "Bytes of payloads that wait to be sent.",
            lambda: [(box.bytes, {"exporter": id}) for id, box in boxes.items()],
        )
        gauge(
            "dagtel_exporter_circuit",
            "1 for the present state of each exporter's circuit breaker.",
            lambda: [(1, {"exporter": id, "state": one.circuit.value}) for id, one in self._deliveries.items()],
        )
        gauge("dagtel_intake_bytes", "Bytes read and not processed yet.", lambda: [(self._driver.queued, {})])
        gauge(
            "dagtel_component_status",
            "1 for the present status of each component.",
            lambda: [(1, {"component": c, "status": s.value}) for c, (s, _) in self._statuses.all().items()],
        )

    # --- work ---

    async def run(self) -> int:
        """Take input in until the end (`once`) or until told to stop; gives the exit code."""
        async with anyio.create_task_group() as watching:
            watching.start_soon(self._watch_signals)
            log.info("Started.", extra={"pipelines": ",".join(self._plan.pipelines)})
            try:
                async with anyio.create_task_group() as receiving:
                    receiving.start_soon(self._stop_with, receiving)
                    async with anyio.create_task_group() as receivers:
                        for node in self._plan.receivers.values():
                            receivers.start_soon(self._receive, node)
                    receiving.cancel_scope.cancel()
            except* PermanentError as group:
                self._failed = True
                log.error("Stopping.", extra={"error": str(_first(group))})
            watching.cancel_scope.cancel()
        return await self._drain()

    async def _receive(self, node: Node) -> None:
        """Run one receiver, again and again where trying again may help."""
        name = f"receivers.{node.id}"
        context = ComponentContext(name, node.id, WHOLE, self._gifts, ShardTables(name, WHOLE, {}))
        intake = ReceiverIntake(node.id, self._driver, self._sides, self._door)
        assert isinstance(node.spec, ReceiverSpec)
        failures = 0
        while True:
            self._statuses.set(name, Status.STARTING)
            try:
                async with node.spec.build(node.options, context) as receiver:
                    await receiver.run(intake)
                self._statuses.set(name, Status.STOPPED)
                return
            except RetryableError as error:
                problem = str(error)
            except PermanentError as error:
                self._statuses.set(name, Status.PERMANENT, str(error))
                raise PermanentError(f"{name}: {error}") from error
            except DagtelError:
                raise
            except Exception as error:
                problem = repr(error)
                log.exception("A receiver raised.", extra={"component": name})
            wait = RESTART_WAITS_S[min(failures, len(RESTART_WAITS_S) - 1)]
            failures = 0 if intake.took_any() else failures + 1
            self._statuses.set(name, Status.RECOVERABLE, problem)
            log.warning("Receiver failed, starting again.", extra={"receiver": node.id, "error": problem, "wait": wait})
            await anyio.sleep(wait)

    async def _watch_signals(self) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                log.info("Stopping.", extra={"signal": signal.Signals(number).name})
                self._stop.set()

    async def _stop_with(self, receiving: TaskGroup) -> None:
        await self._stop.wait()
        receiving.cancel_scope.cancel()

    def _blocked(self) -> str:
        """Why no input is taken; "" if it is."""
        if not self._driver.store_ok:
            return self._statuses.of(STORE)[1]
        for id, outbox in self._outboxes.items():
            if outbox.full:
                return f"the outbox of exporter {id} is full"
        if any(isinstance(c, Limits) and c.refuses(self._clock.monotonic()) for c in self._engine.components()):
            return "a limiter refuses input"
        return ""

    def _has_room(self) -> bool:
        return self._driver.queued < self._plan.service.intake.max_bytes and not self._blocked()

    # --- end ---

    async def _drain(self) -> int:
        """What was read is processed and committed, what is committed is sent, as far as time allows."""
        with anyio.move_on_after(self._plan.service.shutdown_timeout):
            if self._once and not self._failed and not self._stop.is_set():
                await self._replay.look()
                await self._driver.ask(self._engine.finish)
            self._driver.close()
            await self._driven.wait()
            while self._left() or self._engine.changed:  # acknowledgements are work for one more checkpoint
                if self._engine.changed:
                    await self._driver.checkpoint_now()
                await anyio.sleep(0.01)
        left = self._left()
        if left:
            log.warning("Payloads stay in the outbox for the next start.", extra={"left": left})
        log.info("Stopped.")
        return 1 if self._failed or (self._once and left) else 0

    def _left(self) -> dict[str, int]:
        return {id: len(outbox) for id, outbox in self._outboxes.items() if len(outbox)}

    async def close(self) -> None:
        """Leave all components, upstream first; what hangs is left behind after a while."""
        with anyio.move_on_after(5):
            await self._engine.close()
            for host in reversed(self._hosts):
                await host.close()
