"""One component at work: calls, timers, rollback, dead letters, and the way on.

A stage pushes what its component gives to the stages and exporters behind it. Everything runs one after another:
`push` returns when the items have gone as far as they go. A call that raises is undone and tried again item by item;
an item that raises again is a dead letter, the others go on.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Protocol

from pipeline.batch import Batch
from pipeline.clock import SECOND
from pipeline.components import Connector, Finishes, Flushes, Processor, Timed
from pipeline.events import Event
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.tables import StateTable

log = logging.getLogger("dagtel.stage")

TIMER_HOLD_NS = 10 * SECOND
"""A timer that raised is tried again after this much domain time."""


class Sink(Protocol):
    """Where a stage's items go: another stage, or the edge of an exporter."""

    async def push(self, items: Sequence[Any], now_ns: int) -> None: ...


class Stage:
    """A processor or connector in one shard."""

    def __init__(
        self,
        id: str,
        shard: str,
        component: Processor[Any] | Connector[Any, Any],
        tables: Sequence[StateTable[Any, Any]],
        next: Sequence[Sink],
        dead: DeadLetters,
        count: Callable[[int, int], None] = lambda taken, given: None,
    ) -> None:
        self.id, self.shard, self.component = id, shard, component
        self.pipeline = ""
        """The pipeline that it stands in; "" of a connector, which stands in several."""
        self.limit_ns: int | None = None
        """Domain time beyond which no timer may fire within a batch (other sources are behind)."""
        self._tables, self._next, self._dead, self._count = tables, next, dead, count
        self._timed: Timed[Any] | None = component if isinstance(component, Timed) else None
        self._held_ns = 0

    async def push(self, items: Sequence[Any], now_ns: int) -> None:
        """Process items and hand on what comes of them."""
        given = await (self._in_time(items, now_ns) if self._timed else self._process(items, now_ns))
        self._count(len(items), len(given))
        await self._forward(given, now_ns)

    def due(self) -> int | None:
        """When the component's next timer is due."""
        due = self._timed.due() if self._timed else None
        return None if due is None else max(due, self._held_ns)

    async def fire(self, now_ns: int) -> None:
        """Run the timers due before `now_ns`, each at its own time."""
        given = await self._fire_before(now_ns)
        await self._forward(given, now_ns)

    async def flush(self, now_ns: int) -> None:
        """What the component has gathered goes on."""
        if isinstance(self.component, Flushes):
            await self._last_word(self.component.flush, now_ns)

    async def finish(self, now_ns: int) -> None:
        """The component's last word at the end of `--once`."""
        if isinstance(self.component, Finishes):
            await self._last_word(self.component.finish, now_ns)

    async def _last_word(self, call: Callable[[int], Awaitable[Sequence[Any]]], now_ns: int) -> None:
        try:
            given = await self._undoable(partial(call, now_ns))
        except Exception as error:  # noqa: BLE001  # a component's bug: reported, and stops nothing
            self._report(error, now_ns)
            return
        await self._forward(_stamped(given, now_ns), now_ns)

    async def _forward(self, items: Sequence[Any], now_ns: int) -> None:
        if items:
            for sink in self._next:
                await sink.push(items, now_ns)

    async def _process(self, items: Sequence[Any], now_ns: int) -> Sequence[Any]:
        batch = Batch(items, self.shard, now_ns)
        try:
            result = await self._undoable(partial(self.component.process, batch))
        except Exception as error:  # noqa: BLE001  # whatever a plugin raises must not stop the others
            if len(items) == 1:
                self._dead.add_item(items[0], error, self.id, now_ns, self.shard, self.pipeline)
                return ()
            log.warning("A batch raised, going item by item.", extra={"component": self.id, "error": repr(error)})
            kept: list[Any] = []
            for item in items:
                kept += await self._process((item,), now_ns)
            return kept
        return result.items if isinstance(result, Batch) else result

    async def _in_time(self, items: Sequence[Any], now_ns: int) -> Sequence[Any]:
        """Items and timers in the order of domain time, so that results do not depend on how input was batched."""
        assert self._timed is not None
        first, last = _time(items[0], now_ns), _time(items[-1], now_ns)
        due = self.due()
        if (due is None or due >= last) and last - first < self._timed.lead_ns:
            return await self._process(items, now_ns)
        given: list[Any] = []
        for item in items:
            at = _time(item, now_ns)
            until, due = at if self.limit_ns is None else min(at, self.limit_ns), self.due()
            if due is not None and due < until:
                given += await self._fire_before(until)
            given += await self._process((item,), at)
        return given

    async def _fire_before(self, now_ns: int) -> Sequence[Any]:
        given: list[Any] = []
        if self._timed is None:
            return given
        while (due := self.due()) is not None and due < now_ns:
            try:
                given += _stamped(await self._undoable(partial(self._timed.on_time, due)), due)
                again = self.due()
                if again is not None and again <= due:
                    raise RuntimeError(f"on_time({due}) left a timer due at {again} in place")
            except Exception as error:  # noqa: BLE001  # a component's bug: held back, and stops nothing
                self._report(error, due)
                self._held_ns = now_ns + TIMER_HOLD_NS
        return given

    async def _undoable(self, call: Callable[[], Awaitable[Any]]) -> Any:
        for table in self._tables:
            table.begin()
        try:
            return await call()
        except Exception:
            for table in self._tables:
                table.undo()
            raise

    def _report(self, error: Exception, now_ns: int) -> None:
        log.error("A component raised outside of items.", extra={"component": self.id}, exc_info=error)
        self._dead.add_item(None, error, self.id, now_ns)


def _time(item: object, now_ns: int) -> int:
    at = getattr(item, "now_ns", 0)
    return at if at else now_ns


def _stamped(items: Sequence[Any], now_ns: int) -> Sequence[Any]:
    if not any(issubclass(kind, Event) for kind in set(map(type, items))):
        return items  # a flush of samples, of which there may be many
    for item in items:
        if isinstance(item, Event) and not item.now_ns:
            item.now_ns = now_ns
    return items
