"""The daemon: puts a plan to work and ends it in order.

Starts downstream first (store, exporters, components of the whole, senders, receivers) and stops the other way round:
receivers, what was read, the last checkpoint, the outbox, all within `shutdown_timeout`. What does not get out in time
is in the store and goes first at the next start. In between a reload (`pipeline.runtime.takeover`) may put another
plan to work.
"""

import logging
import socket
from collections.abc import Collection, Mapping

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from pipeline import BEGAN_S, native
from pipeline.clock import Clock
from pipeline.errors import PermanentError
from pipeline.runtime.brake import Brake
from pipeline.runtime.context import Gifts
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.desks import Desks
from pipeline.runtime.driver import STORE, Driver
from pipeline.runtime.engine import Engine
from pipeline.runtime.exporting import Dispatch
from pipeline.runtime.health import health_app, readiness
from pipeline.runtime.host import CLOSE_S
from pipeline.runtime.ids import Ids
from pipeline.runtime.intake import Door
from pipeline.runtime.lanes import Workshop
from pipeline.runtime.obeying import Obeying
from pipeline.runtime.own_log import OwnLog
from pipeline.runtime.receiving import Receivers, ReceiverUnit, Reception
from pipeline.runtime.reload import Reloading, Reloads
from pipeline.runtime.replay import Replay
from pipeline.runtime.running import Running, listened, open_extension
from pipeline.runtime.sharing import Sharing, why_alone
from pipeline.runtime.side_inputs import SideInputs
from pipeline.runtime.sites import Mount, Serve, Sites
from pipeline.runtime.standstill import Standstill
from pipeline.runtime.status import Statuses
from pipeline.runtime.stop_signals import Signals
from pipeline.runtime.takeover import Takeover, settings
from pipeline.runtime.telemetry import Telemetry
from pipeline.store.state import StateStore
from pipeline.topology.plan import Plan

log = logging.getLogger("dagtel.service")

PROBATION_S = 120.0
"""A receiver that a reload started and that fails for good within this, before it put anything, ends the reload and
not the daemon."""


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
        serve: Serve,
        signals: Signals,
        own_log: OwnLog,
        reloading: Reloading | None,
        desks: Desks,
    ) -> None:
        self._once, self._store, self._tasks, self._clock = once, store, tasks, clock
        self._telemetry, self._signals, self._own_log = telemetry, signals, own_log
        self._statuses = statuses = Statuses()
        ids = Ids(store.generation)
        dead = DeadLetters(ids, lambda component: telemetry.dead_letters.add(1, {"component": component}))
        workshop = Workshop(
            plan,
            tasks,
            gifts,
            {},
            dead,
            statuses,
            telemetry,
            store.shared,
            self._open_whole,
            self._begin_whole,
            self._close_whole,
        )
        self._engine = engine = Engine(workshop, store, clock, plan.service.clock)
        self._driver = driver = Driver(engine, store, workshop.outboxes, clock, statuses, telemetry, *settings(plan))
        sides = SideInputs(tasks, driver, statuses)
        door = Door(once, self._has_room, statuses, telemetry, self._why_alone, self._let_go)
        self._running = Running(
            plan=plan,
            store=store,
            engine=engine,
            driver=driver,
            workshop=workshop,
            dispatch=Dispatch(
                tasks,
                gifts,
                ids,
                dead,
                clock,
                store,
                statuses,
                telemetry,
                engine.fence,
                driver.ack,
                driver.urge,
                self._change,
                driver.calm,
            ),
            receivers=Receivers(Reception(tasks, gifts, driver, sides, door, self._receiver_rebuilt)),
            sites=Sites(tasks, serve),
            sides=sides,
            statuses=statuses,
            own_pages=self._own_pages,
            outboxes=workshop.outboxes,
        )
        self._sharing = Sharing(self._running, "-".join(filter(None, (socket.gethostname(), gifts.worker))))
        self._desks, self._obeying = desks, Obeying(store, driver, clock)
        self._replay = Replay(store, driver, dead, clock.wall_ns, self._has_room)
        self._reloads = Reloads(reloading, self._take_over, clock, telemetry) if reloading else None
        self._fresh: Mapping[str, ReceiverUnit] = {}
        """Receivers that the last reload started, and until when they are on probation."""
        self._probation_end = 0.0
        self._failed = False
        self._driven = anyio.Event()

    @property
    def _plan(self) -> Plan:
        return self._running.plan

    # --- start ---

    async def open(self) -> None:
        """Build everything but the receivers; the first barrier says again what state holds."""
        running = self._running
        for node in self._plan.extensions.values():
            running.extensions[node.id] = await open_extension(node, running)
        await self._sharing.open_all()
        await self._engine.open()
        self._gauges()
        for unit in running.exporters.values():
            unit.start()
        self._tasks.start_soon(self._driver.commit_all)
        self._tasks.start_soon(self._drive)
        self._tasks.start_soon(self._engine.fence.watch)
        self._tasks.start_soon(self._replay.run)
        self._tasks.start_soon(self._obeying.run)
        self._tasks.start_soon(Brake(self._statuses).run, self._blocked)
        if not self._once:
            standstill = Standstill(self._driver, self._statuses, self._clock, self._tell_after)
            self._tasks.start_soon(standstill.run)
        await running.sides.start(self._engine.sides())
        await running.show()
        await self._driver.ask(self._driver.checkpoint_now)

    async def _drive(self) -> None:
        try:
            await self._driver.run()
        finally:
            self._driven.set()

    async def _open_whole(self) -> None:
        await self._sharing.open_whole()

    def _begin_whole(self) -> None:
        self._sharing.begin_whole()

    async def _close_whole(self) -> None:
        await self._sharing.close_whole()

    def _why_alone(self, receiver: str) -> str:
        return why_alone(self._store, self._plan, receiver)

    async def _let_go(self, shards: Collection[str]) -> None:
        """Payloads of these shards are sent by their next owner from now on."""
        async with anyio.create_task_group() as tasks:
            for unit in self._running.exporters.values():
                tasks.start_soon(unit.let_go, shards)

    def _change(self) -> None:
        self._engine.changed = True

    def _receiver_rebuilt(self) -> None:
        self._tasks.start_soon(self._running.show)

    def _own_pages(self, plan: Plan) -> list[Mount]:
        """The daemon's own pages: metrics, health, and what people act with."""
        own = plan.service.telemetry
        pages: list[Mount] = []
        if own.metrics.address and own.metrics.level != "none":
            pages.append(Mount(own.metrics.address, "/metrics", self._telemetry.app()))
        if own.health.address:
            pages.append(Mount(own.health.address, "/healthz", health_app(lambda: (True, {"alive": True}))))
            pages.append(Mount(own.health.address, "/readyz", health_app(self._readiness)))
        acting = self._desks.pages(plan, self._obeying.poke)
        return pages + [Mount(plan.service.api.address, path, app) for path, app in acting.items()]

    def _readiness(self) -> tuple[bool, Mapping[str, object]]:
        last = self._reloads.last if self._reloads else None
        return readiness(self._plan, self._statuses, self._blocked(), last)

    def _gauges(self) -> None:
        gauge, running = self._telemetry.gauge, self._running
        boxes = running.outboxes
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
            lambda: [(1, {"exporter": id, "state": one.circuit.value}) for id, one in running.exporters.items()],
        )
        gauge(
            "dagtel_shard_epoch",
            "The owner epoch of each shard that this process has.",
            lambda: [(epoch, {"shard": shard}) for shard, epoch in self._engine.fence.owned.items()],
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
        running = self._running
        await running.sites.show(running.mounts(), listened(self._plan))
        log.info("Started.", extra={"pipelines": ",".join(self._plan.pipelines), "compiled_twins": native.told()})
        async with anyio.create_task_group() as reloading:
            reloading.start_soon(self._reload_when_asked)
            reloading.start_soon(self._say_begun)
            running.receivers.begin(self._plan.receivers.values())
            async with anyio.create_task_group() as receiving:
                receiving.start_soon(self._stop_with, receiving)
                await self._receive()
                receiving.cancel_scope.cancel()
            await running.receivers.stop()
            reloading.cancel_scope.cancel()
        await running.receivers.stop()  # those that a reload has started since
        return await self._drain()

    async def _say_begun(self) -> None:
        """How long a start takes to its first events, for whoever waits for a daemon that was restarted."""
        await self._driver.begun.wait()
        log.info("The first events are read.", extra={"after_s": round(self._driver.begun_s - BEGAN_S, 3)})

    async def _receive(self) -> None:
        """Until all receivers are done, or one has failed for good."""
        while (unit := await self._running.receivers.over()) is not None:
            assert unit.failure is not None
            if await self._reverted(unit, str(unit.failure)):
                continue
            if not isinstance(unit.failure, PermanentError):
                raise unit.failure
            self._failed = True
            log.error("Stopping.", extra={"error": str(unit.failure)})
            return

    async def _stop_with(self, receiving: TaskGroup) -> None:
        await self._signals.stop.wait()
        receiving.cancel_scope.cancel()

    def _blocked(self) -> str:
        """Why no input is taken; "" if it is."""
        if not self._driver.store_ok:
            return self._statuses.of(STORE)[1]
        for id, outbox in self._running.outboxes.items():
            if outbox.full and id in self._plan.exporters:
                return f"the outbox of exporter {id} is full ({outbox.bytes} bytes, sending_queue.queue_size)"
        if self._engine.refuses(self._clock.monotonic()):
            return "a limiter refuses input"
        return ""

    def _tell_after(self) -> float:
        return self._plan.service.intake.tell_after

    def _has_room(self) -> bool:
        return self._driver.queued < self._plan.service.intake.max_bytes and not self._blocked()

    # --- reload ---

    async def _reload_when_asked(self) -> None:
        if self._reloads is None:
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._reloads.run)
            while True:
                await self._signals.hangup.wait()
                self._signals.hangup = anyio.Event()
                self._reloads.ask()

    async def _take_over(self, plan: Plan) -> dict[str, object]:
        """Put another plan to work; what changed, for the log. Raises what stands against it: then nothing has."""
        takeover = Takeover(self._running, self._sharing, plan)
        with anyio.CancelScope(shield=True):  # a stop waits for it: half a takeover is none
            await takeover.run()
            self._desks.links.follow(plan.service.api)
            self._fresh, self._probation_end = takeover.new_receivers, anyio.current_time() + PROBATION_S
            await anyio.to_thread.run_sync(self._own_log.follow, plan.service.telemetry.logs)
        return takeover.facts()

    async def _reverted(self, unit: ReceiverUnit, reason: str) -> bool:
        """Whether a receiver's failure ended the reload that started it, and the configuration before is back."""
        if self._reloads is not None:
            await self._reloads.finished()  # it may fail before the reload that started it is through
        fresh = self._fresh.get(unit.node.id) is unit and anyio.current_time() < self._probation_end
        if self._reloads is None or not fresh or unit.proven or self._signals.stop.is_set():
            return False
        return await self._reloads.revert(reason)

    # --- end ---

    async def _drain(self) -> int:
        """What was read is processed and committed, what is committed is sent, as far as time allows."""
        with anyio.move_on_after(self._plan.service.shutdown_timeout):
            if self._once and not self._failed and not self._signals.stop.is_set():
                await self._obeying.look()
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
        return {id: len(outbox) for id, outbox in self._running.outboxes.items() if len(outbox)}

    async def close(self) -> None:
        """Leave all components, upstream first; what hangs is left behind after a while."""
        running = self._running
        await running.sites.close()
        with anyio.move_on_after(CLOSE_S):
            await self._engine.close()
            for unit in reversed(running.exporters.values()):
                await unit.close()
            for extension in reversed(running.extensions.values()):
                await extension.host.close()
