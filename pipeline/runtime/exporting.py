"""One exporter at work: its component, outbox and senders, from its building to its end.

A unit outlives a reload when its configuration is the same. Else the one that takes over is built while the old one's
valve is closed, gets the waiting payloads from the store, and starts once the old one has stopped.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Any

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskGroup

from pipeline.batch import WHOLE
from pipeline.clock import Clock
from pipeline.components import ExporterSpec, Payload, Receipt
from pipeline.errors import DagtelError
from pipeline.runtime.breaker import Circuit
from pipeline.runtime.context import ComponentContext, Gifts, ShardTables, Side
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.delivery import Delivery
from pipeline.runtime.fence import Fence
from pipeline.runtime.host import Host, close_all
from pipeline.runtime.ids import Ids
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.sites import Mount
from pipeline.runtime.status import Status, Statuses
from pipeline.runtime.telemetry import Telemetry
from pipeline.runtime.valve import Valve
from pipeline.store.records import NO_PAYLOAD
from pipeline.store.state import Ack, StateStore, Waiting
from pipeline.topology.plan import Node

log = logging.getLogger("dagtel.exporting")

QUIET_S = 10.0
"""Calls that take longer when their exporter is replaced are cut off, and made again by its successor."""
CHECK_S = 0.05


class Dispatch(msgspec.Struct, frozen=True):
    """What every exporter unit needs, alike for all. `changed` says that dead letters wait for a checkpoint. `calm` is
    the driver's."""

    tasks: TaskGroup
    gifts: Gifts
    ids: Ids
    dead: DeadLetters
    clock: Clock
    store: StateStore
    statuses: Statuses
    telemetry: Telemetry
    fence: Fence
    ack: Callable[[Ack, bool], Awaitable[None]]
    urge: Callable[[], None]
    changed: Callable[[], None]
    calm: Callable[[], Awaitable[None]]


class ExporterUnit:
    """See above. Make it with `open_unit`, then `start`; `stop` and `close` in the end."""

    def __init__(self, node: Node, dispatch: Dispatch, host: Host[Any], context: ComponentContext, place: str) -> None:
        assert isinstance(node.spec, ExporterSpec)
        assert node.delivery is not None
        self.node, self.context = node, context
        self._dispatch, self._host = dispatch, host
        self._valve = Valve(host.component, dispatch.ack)
        self._senders, self._stopped = anyio.CancelScope(), anyio.Event()
        self._stopped.set()
        self.outbox = Outbox(
            node.id,
            node.spec,
            host.component,
            node.delivery,
            dispatch.ids,
            dispatch.dead,
            dispatch.urge,
            self._receive,
        )
        self._delivery = Delivery(
            self.outbox,
            self._load,
            self._valve.ack,
            self._refuse,
            lambda spread: random.uniform(-spread, spread),
            dispatch.statuses,
            dispatch.telemetry.exporter(node.id),
            dispatch.fence.look,
            dispatch.clock,
            self._valve.send,
            dispatch.calm,
        )
        self.outbox.place = place
        context.receipts = self._store_receipt

    @property
    def owner(self) -> str:
        return f"exporters.{self.node.id}"

    @property
    def circuit(self) -> Circuit:
        """The state of its circuit breaker."""
        return self._delivery.circuit

    @property
    def mounts(self) -> list[Mount]:
        """What it wants to be served; it is, as long as nobody else can have its shards."""
        fence = self._dispatch.fence
        return [Mount(m.address, m.path, fence.guarding(m.app)) for m in self.context.mounts]

    def start(self) -> None:
        """Begin to send."""
        self._stopped = anyio.Event()
        self._dispatch.tasks.start_soon(self._send)

    async def quiet(self) -> bool:
        """Let no further call begin, and wait for those under way. False: some still are after QUIET_S."""
        self._valve.close()
        with anyio.move_on_after(QUIET_S):
            await self._valve.still()
            return True
        return False

    def go_on(self) -> None:
        """The end of `quiet`."""
        self._valve.open()

    async def delivered_all(self) -> None:
        """Wait until nothing waits to be sent."""
        while len(self.outbox):  # noqa: ASYNC110  # an acknowledgement is no event of the outbox; this is rare
            await anyio.sleep(CHECK_S)

    async def let_go(self, shards: Collection[str]) -> None:
        """Send no more payloads of these shards: their next owner does. A call under way has QUIET_S to end; one that
        failed before is not waited for."""
        self.outbox.withdraw(shards)
        with anyio.move_on_after(QUIET_S):
            while any(not entry.failures for entry in self.outbox.sending(shards)):
                with anyio.move_on_after(CHECK_S):
                    await self.outbox.settled()
        while left := self.outbox.sending(shards):
            for entry in left:
                if entry.scope is not None:
                    entry.scope.cancel()
            await self.outbox.settled()

    async def stop(self) -> None:
        """End the senders; a call under way is cut off."""
        self._senders.cancel()
        await self._stopped.wait()

    async def close(self) -> None:
        """Leave the component."""
        await close_all([self._host])

    async def _send(self) -> None:
        try:
            with self._senders:
                async with anyio.create_task_group() as tasks:
                    for side in self.context.sides:
                        tasks.start_soon(self._poll, side)
                    await self._delivery.run()
        finally:
            self._stopped.set()

    async def _poll(self, side: Side) -> None:
        """Fetch and apply a side input, again and again; an exporter has no state, so it needs no driver's order."""
        failed = False
        while True:
            try:
                side.apply(await side.fetch())
            except DagtelError as error:
                failed = True
                self._dispatch.statuses.set(self.owner, Status.RECOVERABLE, f"{side.name}: {error}")
            except Exception:
                log.exception("An exporter raised.", extra={"exporter": self.node.id, "side_input": side.name})
            else:
                if failed:
                    self._dispatch.statuses.set(self.owner, Status.OK)
                failed = False
                if not side.every_s:
                    return
            await anyio.sleep(side.every_s or 5.0)

    async def _store_receipt(self, receipt: Receipt) -> None:
        """Of one that was stopped its successor keeps them."""
        if not self._stopped.is_set():
            await self._valve.ack(Ack(NO_PAYLOAD, self.node.id, receipt, place=self.outbox.place), False)

    def _receive(self, receipt: Receipt) -> None:
        self.context.receipt = receipt

    async def _load(self, id: int) -> Payload | None:
        return await anyio.to_thread.run_sync(self._dispatch.store.payload, id)

    def _refuse(self, payload: Payload, reason: str, partly: bool, shard: str) -> None:
        at = self._dispatch.clock.wall_ns()
        self._dispatch.dead.add_payload(payload, reason, self.node.id, at, partly, shard)
        self._dispatch.changed()


async def open_unit(node: Node, dispatch: Dispatch, receipt: Receipt | None, place: str = "") -> ExporterUnit:
    """Build the exporter, whose receipts are kept under `place`; raises whatever its `build` raises."""
    owner = f"exporters.{node.id}"
    context = ComponentContext(owner, node.id, WHOLE, dispatch.gifts, ShardTables(owner, WHOLE, {}), receipt)
    host: Host[Any] = await Host.open(dispatch.tasks, node.spec.build(node.options, context))
    return ExporterUnit(node, dispatch, host, context, place)


def rows_of(waiting: Sequence[Waiting], exporter: str) -> list[Waiting]:
    """The waiting payloads of one exporter."""
    return [row for row in waiting if row.exporter == exporter]
