"""From the running graph to another one, without a restart: staged, swapped at a barrier, settled.

- *Stage*: everything that can fail and needs no pause. New exporters, extensions and receivers are built beside the
  old ones, which go on; an exporter that is replaced begins no further call, so that what it sent is acknowledged.
- *Swap*, in the driver's order: the old graph's last checkpoint is written, the new stages are built from the store,
  and the engine goes on with them. Until that line nothing has changed, and whatever was raised is undone.
- *Settle*: new senders start, receivers that changed are stopped and started, what is left of the old graph is closed.

Receivers whose configuration is the same notice nothing of it: they hold the driver, and the driver stays.
"""

import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial

import anyio
import anyio.to_thread
import msgspec

from pipeline.errors import RetryableError
from pipeline.runtime.exporting import ExporterUnit, rows_of
from pipeline.runtime.host import close_all
from pipeline.runtime.inherit import Bequest
from pipeline.runtime.lanes import Lane
from pipeline.runtime.orphans import bequest, drop_unsent, forgets_unsent, refuse_unsent
from pipeline.runtime.plan_change import compared, exporters_compared, owners_changed
from pipeline.runtime.receiving import ReceiverUnit, stop_all
from pipeline.runtime.running import ExtensionUnit, Running, listened, nodes_of, open_extension, served
from pipeline.runtime.sharing import Sharing
from pipeline.runtime.sites import Mount
from pipeline.runtime.status import Status
from pipeline.topology.plan import Plan

log = logging.getLogger("dagtel.reload")

PUBLISH_S = 5.0
"""How long the old figures stay on show for a new exporter to have its own."""


class Takeover:
    """One change from the plan that runs to another. `run` it once."""

    def __init__(self, running: Running, sharing: Sharing, plan: Plan) -> None:
        self._running, self._sharing, self._plan, self._old = running, sharing, plan, running.plan
        self._here = sharing.here(plan)
        here = msgspec.structs.replace(plan, exporters=self._here)
        self.exporters = exporters_compared(running.plan, here, nodes_of(running.exporters))
        self.receivers = compared(running.plan.receivers, plan.receivers)
        self.extensions = compared(nodes_of(running.extensions), plan.extensions)
        self.stages = owners_changed(running.plan, plan)
        self.pause_s = 0.0
        """How long the old graph had stopped and the new one had not begun."""
        self.new_receivers: dict[str, ReceiverUnit] = {}
        self._new_exporters: dict[str, ExporterUnit] = {}
        self._new_extensions: dict[str, ExtensionUnit] = {}
        self._replaced_exporters: list[ExporterUnit] = []
        self._lanes: list[Lane] = []

    async def run(self) -> None:
        """Raises what staging or building raised: then everything is as it was."""
        async with AsyncExitStack() as undo:
            await self._stage(undo)
            await self._running.driver.ask(self._swap)
            undo.pop_all()
        await self._settle()

    def facts(self) -> dict[str, object]:
        """What has changed, for the log."""
        kinds = {"receivers": self.receivers, "exporters": self.exporters, "extensions": self.extensions}
        said: dict[str, object] = {
            f"{kind}_{what}": ",".join(sorted(ids))
            for kind, found in kinds.items()
            for what in ("changed", "added", "gone")
            if (ids := getattr(found, what))
        }
        return said | {"stages_changed": ",".join(sorted(self.stages)), "pause_ms": round(self.pause_s * 1000)}

    @property
    def _dropped(self) -> frozenset[str]:
        """Exporters that go away and whose payloads the configuration throws away."""
        return frozenset(id for id in self.exporters.gone if forgets_unsent(self._plan, id))

    # --- stage ---

    async def _stage(self, undo: AsyncExitStack) -> None:
        running = self._running
        if not running.driver.store_ok:
            raise RetryableError("the state store cannot be written now; reload again when it can")
        await anyio.to_thread.run_sync(bequest, running.store, self._old, self._plan)
        self._refuse_unsent()
        await self._quiet(undo)
        for id in self._in_order(self.exporters.changed | self.exporters.added, self._here):
            unit = await self._sharing.open(self._here[id], self._plan)
            undo.push_async_callback(unit.close)
            self._new_exporters[id] = unit
        for id in self._in_order(self.extensions.changed | self.extensions.added, self._plan.extensions):
            extension = await open_extension(self._plan.extensions[id], running)
            undo.push_async_callback(extension.host.close)
            self._new_extensions[id] = extension
        wanted = self._in_order(self.receivers.changed | self.receivers.added, self._plan.receivers)
        undo.push_async_callback(running.show)
        await running.sites.reserve(self._mounts([]), listened(self._plan))
        self.new_receivers = await running.receivers.built([self._plan.receivers[id] for id in wanted])
        undo.push_async_callback(stop_all, self.new_receivers.values())

    def _refuse_unsent(self) -> None:
        running = self._running
        waiting = {id: len(unit.outbox) for id, unit in running.exporters.items()}
        statuses = {id: running.statuses.of(unit.owner) for id, unit in running.exporters.items()}
        failing = {id: reason for id, (status, reason) in statuses.items() if status is Status.RECOVERABLE}
        leaving = [id for id in self.exporters.gone if id in self._old.exporters]
        refuse_unsent(sorted(leaving), waiting, failing, self._plan)

    async def _quiet(self, undo: AsyncExitStack) -> None:
        """No call of an exporter that is replaced is under way, and what it delivered is committed."""
        units = [self._running.exporters[id] for id in sorted(self.exporters.changed | self._dropped)]
        if not units:
            return
        async with anyio.create_task_group() as waiting:
            for unit in units:
                undo.callback(unit.go_on)
                waiting.start_soon(self._quiet_one, unit)
        await self._running.driver.ask(self._running.driver.checkpoint_now)

    async def _quiet_one(self, unit: ExporterUnit) -> None:
        if not await unit.quiet():
            log.warning("A call takes too long; it will be made again.", extra={"exporter": unit.node.id})

    def _in_order(self, ids: Iterable[str], nodes: Iterable[str]) -> list[str]:
        chosen = frozenset(ids)
        return [id for id in nodes if id in chosen]

    def _mounts(self, stages: list[Mount]) -> list[Mount]:
        """What the new graph wants to be served."""
        running = self._running
        exporters = [
            self._new_exporters.get(id) or running.exporters[id]
            for id in self._here
            if id in self._new_exporters or id in running.exporters
        ]
        kept = [running.extensions[id] for id in self.extensions.kept]
        units = running.receivers.units
        receivers = [units[id] for id in self.receivers.kept if id in units]
        mounts = [mount for unit in (*receivers, *self.new_receivers.values()) for mount in unit.mounts]
        return served(running.own_pages(self._plan), exporters, [*kept, *self._new_extensions.values()], stages, mounts)

    # --- swap ---

    async def _swap(self) -> None:
        """In the driver's order: nothing else touches a component meanwhile."""
        running, began = self._running, anyio.current_time()
        if self._sharing.here(self._plan).keys() != self._here.keys():
            raise RetryableError("what is for all has changed hands meanwhile; reload again")
        await running.driver.checkpoint_now()
        inherited = await anyio.to_thread.run_sync(bequest, running.store, self._old, self._plan)
        with anyio.CancelScope(shield=True):
            await self._swap_stages(inherited)
            running.driver.follow(*settings(self._plan))
        self.pause_s = anyio.current_time() - began

    async def _swap_stages(self, inherited: Bequest) -> None:
        running = self._running
        outboxes = {
            id: self._new_exporters[id].outbox if id in self._new_exporters else running.outboxes[id]
            for id in self._here
        }
        workshop = msgspec.structs.replace(running.workshop, plan=self._plan, outboxes=outboxes)
        old_sides = running.engine.sides()
        replaced = await running.engine.rebuild(workshop, inherited, self._reserve)
        # From here on the new graph is the one that runs.
        self._lanes = replaced.lanes
        for id in self.exporters.changed | self._dropped:
            unit = running.exporters.pop(id)
            await unit.stop()
            self._replaced_exporters.append(unit)
            if id in self._new_exporters:
                self._new_exporters[id].context.receipt = unit.context.receipt  # some may have come since it was built
        for id, unit in self._new_exporters.items():
            unit.outbox.restore(rows_of(replaced.waiting, id))
            running.exporters[id] = unit
        for id in self.exporters.gone - self._dropped:
            outboxes[id] = running.outboxes[id]
        running.outboxes.clear()
        running.outboxes.update(outboxes)
        running.workshop = running.engine.adopt(running.outboxes)
        running.plan = self._plan
        self._drop_statuses()
        await running.sides.replace(old_sides, running.engine.sides(), self.stages)

    async def _reserve(self, stages: list[Mount]) -> None:
        await self._running.sites.reserve(self._mounts(stages), listened(self._plan))

    def _drop_statuses(self) -> None:
        present = {f"processors.{n.id}" for p in self._plan.pipelines.values() for n in p.processors}
        present |= {f"connectors.{id}" for id in self._plan.connectors}
        gone = [owner for owner in self.stages if owner not in present]
        gone += [f"exporters.{id}" for id in self.exporters.changed | self._dropped]
        for owner in gone:
            self._running.statuses.drop(owner)

    # --- settle ---

    async def _settle(self) -> None:
        running = self._running
        for unit in self._new_exporters.values():
            unit.start()
        for id in self._dropped:
            await anyio.to_thread.run_sync(drop_unsent, running.store, id)
        await running.receivers.replace(self.receivers.changed | self.receivers.gone, self.new_receivers)
        await self._published()
        await running.show()
        old = [running.extensions.pop(id) for id in self.extensions.changed | self.extensions.gone]
        running.extensions.update(self._new_extensions)
        for lane in self._lanes:
            await lane.close()
        for unit in self._replaced_exporters:
            await unit.close()
        await close_all(extension.host for extension in old)
        for id in (self.exporters.gone - self._dropped) & self._old.exporters.keys():
            running.dispatch.tasks.start_soon(partial(retire, running, running.exporters[id]))

    async def _published(self) -> None:
        """A new exporter that serves has its first figures before the old one's are taken down."""
        shown = [unit for unit in self._new_exporters.values() if unit.mounts]
        if not shown:
            return
        await self._running.driver.ask(self._running.driver.checkpoint_now)
        with anyio.move_on_after(PUBLISH_S):
            for unit in shown:
                await unit.delivered_all()


async def retire(running: Running, unit: ExporterUnit) -> None:
    """An exporter that the configuration no longer has delivers what it has, then goes; one that comes back stays."""
    id = unit.node.id
    await unit.delivered_all()
    await running.driver.ask(running.driver.checkpoint_now)  # its last acknowledgements
    if running.exporters.get(id) is unit and id not in running.plan.exporters:
        del running.exporters[id], running.outboxes[id]
        await unit.stop()
        await unit.close()
        running.statuses.drop(unit.owner)
        log.info("An exporter has delivered what it had, and is gone.", extra={"exporter": id})


def settings(plan: Plan) -> tuple[float, int, int]:
    """What the driver follows: checkpoint interval in seconds, bytes of dead letters, items in a batch."""
    service = plan.service
    return service.checkpoint_interval, service.dead_letters.queue_size, service.intake.max_items
