"""Receivers at work: built, run, started again where trying again may help, stopped and replaced one by one."""

import logging
from collections.abc import Callable, Iterable, Mapping

import anyio
import msgspec
from anyio.abc import TaskGroup, TaskStatus

from pipeline.batch import WHOLE
from pipeline.components import ReceiverSpec
from pipeline.errors import DagtelError, PermanentError, RetryableError
from pipeline.runtime.context import ComponentContext, Gifts, ShardTables
from pipeline.runtime.driver import Driver
from pipeline.runtime.intake import Door, ReceiverIntake
from pipeline.runtime.side_inputs import SideInputs
from pipeline.runtime.sites import Mount
from pipeline.runtime.status import Status
from pipeline.topology.plan import Node

log = logging.getLogger("dagtel.receiving")

RESTART_WAITS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STOP_S = 10.0
"""A receiver that takes longer to stop is left behind; what it still puts is not taken."""


class Reception(msgspec.Struct, frozen=True):
    """What every receiver needs, alike for all. `rebuilt` is told when one was built anew after a failure."""

    tasks: TaskGroup
    gifts: Gifts
    driver: Driver
    sides: SideInputs
    door: Door
    rebuilt: Callable[[], None]


class ReceiverUnit:
    """One receiver. `build`, or not, then `start`; it is over when `ended` is set, `failure` says why if it failed."""

    def __init__(self, node: Node, reception: Reception) -> None:
        assert isinstance(node.spec, ReceiverSpec)
        self.node, self.name = node, f"receivers.{node.id}"
        self.ended = anyio.Event()
        self.failure: DagtelError | None = None
        self.mounts: list[Mount] = []
        self._spec, self._reception = node.spec, reception
        self._intake = ReceiverIntake(node.id, reception.driver, reception.sides, reception.door)
        self._scope, self._go = anyio.CancelScope(), anyio.Event()
        self._building = True

    @property
    def proven(self) -> bool:
        """It has put something: what it names is there."""
        return self._intake.used

    async def build(self) -> None:
        """Enter its `build`; raises whatever that raises."""
        error = await self._reception.tasks.start(self._built_and_live)
        if error is not None:
            raise error
        self._building = False

    def start(self) -> None:
        """Let it read; built first where it is not, again and again if need be."""
        self._go.set()
        if self._building:
            self._reception.tasks.start_soon(self._live, None)

    async def stop(self) -> None:
        """Cancel it and wait until it has let go."""
        self._scope.cancel()
        with anyio.move_on_after(STOP_S, shield=True):
            await self.ended.wait()

    async def give_up(self) -> None:
        """After `stop`: what it put is processed and committed, its sources are let go."""
        await self._intake.revoke_all()

    async def _built_and_live(self, *, task_status: TaskStatus[Exception | None]) -> None:
        await self._live(task_status)

    async def _live(self, first: TaskStatus[Exception | None] | None) -> None:
        """Build and run, in one task, again and again where that may help."""
        failures = 0
        try:
            with self._scope:
                while True:
                    problem = await self._once(first)
                    if not problem:
                        return
                    first = None
                    failures = 0 if self._intake.took_any() else failures + 1
                    wait = RESTART_WAITS_S[min(max(failures - 1, 0), len(RESTART_WAITS_S) - 1)]
                    self._set(Status.RECOVERABLE, problem)
                    facts = {"receiver": self.node.id, "error": problem, "wait": wait}
                    log.warning("Receiver failed, starting again.", extra=facts)
                    await anyio.sleep(wait)
        except DagtelError as error:
            self.failure = error
        finally:
            self.ended.set()

    async def _once(self, first: TaskStatus[Exception | None] | None) -> str:
        """Build and run once. Gives what went wrong and may go right the next time, "" when it is done."""
        self._set(Status.STARTING)
        context = ComponentContext(
            self.name, self.node.id, WHOLE, self._reception.gifts, ShardTables(self.name, WHOLE, {})
        )
        built = False
        try:
            async with self._spec.build(self.node.options, context) as receiver:
                built, self.mounts = True, context.mounts
                if first is not None:
                    first.started(None)
                elif self.mounts:
                    self._reception.rebuilt()
                await self._go.wait()
                await receiver.run(self._intake)
            self._set(Status.STOPPED)
            return ""
        except Exception as error:  # noqa: BLE001  # a plugin may raise anything: reported, and tried again
            if first is not None and not built:
                first.started(error)
                return ""
            return self._reported(error)

    def _reported(self, error: Exception) -> str:
        if isinstance(error, RetryableError):
            return str(error)
        if isinstance(error, PermanentError):
            self._set(Status.PERMANENT, str(error))
            raise PermanentError(f"{self.name}: {error}") from error
        if isinstance(error, DagtelError):
            raise error
        log.error("A receiver raised.", extra={"component": self.name}, exc_info=error)
        return repr(error)

    def _set(self, status: Status, reason: str = "") -> None:
        self._reception.door.statuses.set(self.name, status, reason)


class Receivers:
    """The receivers of one process, by id."""

    def __init__(self, reception: Reception) -> None:
        self.units: dict[str, ReceiverUnit] = {}
        self._reception = reception
        self._changed = anyio.Event()
        self._held = 0

    @property
    def mounts(self) -> list[Mount]:
        return [mount for unit in self.units.values() for mount in unit.mounts]

    async def built(self, nodes: Iterable[Node]) -> dict[str, ReceiverUnit]:
        """Units of these, built and not running yet. Raises what a `build` raises; then none is left."""
        units: dict[str, ReceiverUnit] = {}
        try:
            for node in nodes:
                unit = ReceiverUnit(node, self._reception)
                await unit.build()
                units[node.id] = unit
        except BaseException:
            await stop_all(units.values())
            raise
        return units

    def begin(self, nodes: Iterable[Node]) -> None:
        """Build these and let them read; one whose `build` raises is tried again."""
        self.start({node.id: ReceiverUnit(node, self._reception) for node in nodes})

    def start(self, units: Mapping[str, ReceiverUnit]) -> None:
        """Let these read."""
        self.units.update(units)
        for unit in units.values():
            unit.start()
            self._reception.tasks.start_soon(self._watch, unit)
        self._changed.set()

    async def replace(self, gone: Iterable[str], new: Mapping[str, ReceiverUnit]) -> None:
        """Stop those of `gone`, let their sources go, and start `new`."""
        self._held += 1
        try:
            for id in gone:
                unit = self.units.pop(id)
                await unit.stop()
                await unit.give_up()
                self._reception.door.statuses.drop(unit.name)
            self.start(new)
        finally:
            self._held -= 1
            self._changed.set()

    async def stop(self) -> None:
        """Stop all; their sources stay, to be committed."""
        await stop_all(self.units.values())

    async def over(self) -> ReceiverUnit | None:
        """Wait until one fails for good (gives it), or all are done (None)."""
        while True:
            changed = self._changed = anyio.Event()
            failed = next((unit for unit in self.units.values() if unit.failure is not None), None)
            if failed is not None:
                return failed
            if not self._held and all(unit.ended.is_set() for unit in self.units.values()):
                return None
            await changed.wait()

    async def _watch(self, unit: ReceiverUnit) -> None:
        await unit.ended.wait()
        self._changed.set()


async def stop_all(units: Iterable[ReceiverUnit]) -> None:
    """Stop them side by side."""
    async with anyio.create_task_group() as stopping:
        for unit in units:
            stopping.start_soon(unit.stop)
