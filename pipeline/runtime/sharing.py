"""One store, several processes: which exporters are at work in this one, and what a receiver may share.

Exporters that only the owner of `whole` has anything for (the figures for Prometheus, notifiers) live as long as this
process is that owner. So figures are shown by one process at a time, and a new owner begins with the receipt of the
one before, not with what this process knew when it had them last.
"""

import logging

import anyio
import anyio.to_thread

from pipeline.batch import WHOLE
from pipeline.errors import ConfigError
from pipeline.runtime.exporting import ExporterUnit, open_unit
from pipeline.runtime.running import Running
from pipeline.store.state import StateStore
from pipeline.topology.plan import Node, Plan
from pipeline.topology.scopes import whole_components, whole_exporters

log = logging.getLogger("dagtel.sharing")

SHOW_AGAIN_S = 1.0
"""The owner before may be a process of this machine that holds its port a little longer."""


def why_alone(store: StateStore, plan: Plan, receiver: str) -> str:
    """Why this process must have all that a receiver reads; "" if others may have a part of it."""
    if not store.shared:
        return (
            f"{store.name} is this process's own: another member of the group would begin without the state that is in "
            "it. Keep the state in PostgreSQL (service.state.postgresql) to share the work"
        )
    whole = whole_components(plan, receiver)
    if whole:
        return (
            f"{', '.join(whole)} must see every event. Run one process of this group, or the configuration for "
            "several, configs/cluster.yaml, in which one of them gets the outcomes of all"
        )
    return ""


class Sharing:
    """The exporters of one process."""

    def __init__(self, running: Running, place: str) -> None:
        self._running, self._place = running, place
        self._is_owner = False

    def here(self, plan: Plan) -> dict[str, Node]:
        """The exporters of a plan that are to work in this process now."""
        running = self._running
        if not running.store.shared or running.engine.has(WHOLE):
            return plan.exporters
        elsewhere = whole_exporters(plan)
        return {id: node for id, node in plan.exporters.items() if id not in elsewhere}

    async def open(self, node: Node, plan: Plan) -> ExporterUnit:
        """Build an exporter with the receipt that was kept for it."""
        store = self._running.store
        place = ""
        if store.shared:
            place = WHOLE if node.id in whole_exporters(plan) else self._place
        receipts = await anyio.to_thread.run_sync(store.receipts, place)
        return await open_unit(node, self._running.dispatch, receipts.get(node.id), place)

    async def open_all(self) -> None:
        """At the start: those of this process."""
        for node in self.here(self._running.plan).values():
            await self._add(node)

    async def open_whole(self) -> None:
        """This process becomes the owner of `whole`."""
        running = self._running
        if not running.store.shared:
            return
        log.info("This process owns what is for all: figures and alerts.")
        self._is_owner = True
        for id in whole_exporters(running.plan):
            await self._add(running.plan.exporters[id])

    def begin_whole(self) -> None:
        """It has taken over what waited to be sent."""
        running = self._running
        if not running.store.shared:
            return
        for id in whole_exporters(running.plan):
            running.exporters[id].start()
        running.dispatch.tasks.start_soon(self._show)

    async def close_whole(self) -> None:
        """Another process is the owner from now on."""
        if not self._running.store.shared:
            return
        running, self._is_owner = self._running, False
        units = [running.exporters.pop(id) for id in whole_exporters(running.plan) if id in running.exporters]
        for unit in units:
            running.outboxes.pop(unit.node.id, None)
            running.statuses.drop(unit.owner)
            await unit.stop()
        await running.show()
        for unit in units:
            await unit.close()

    async def _add(self, node: Node) -> ExporterUnit:
        running = self._running
        unit = await self.open(node, running.plan)
        running.exporters[node.id], running.outboxes[node.id] = unit, unit.outbox
        return unit

    async def _show(self) -> None:
        """Serve what the whole's components want to be served, as soon as its addresses can be had."""
        running, told = self._running, False
        while self._is_owner:
            try:
                await running.show()
                return
            except ConfigError as error:
                if not told:
                    log.warning("Cannot serve the figures yet, trying again.", extra={"error": str(error)})
                told = True
                await anyio.sleep(SHOW_AGAIN_S)
