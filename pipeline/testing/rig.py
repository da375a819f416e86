"""One processor or connector on the runtime's own `Stage`, without the rest of a process.

What it gives ends in `given`; items on which it raised in `dead` (None stands for a timer, flush or finish that
raised). A rig is one life of the component: `checkpoint` stores its tables, and a new rig on `memory.restart()` is
the life after a crash.
"""

import copy
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from pipeline.components import ConnectorSpec, ProcessorSpec
from pipeline.events import Event
from pipeline.runtime.dead_letters import DeadLetters
from pipeline.runtime.ids import Ids
from pipeline.runtime.stage import Stage
from pipeline.testing.context import FakeContext, MemoryState

T = TypeVar("T")

StageSpec = ProcessorSpec[Any] | ConnectorSpec[Any]


class Rig:
    """See above. `now_ns` is the domain time of the last items."""

    def __init__(self, id: str, context: FakeContext, component: Any) -> None:
        self.component, self.memory = component, context.memory
        self.given: list[Any] = []
        self.dead: list[Any] = []
        self.now_ns = 0
        tables = list(self.memory.tables.values())
        self.stage = Stage(id, context.shard, component, tables, [_Collects(self.given)], _Dead(self.dead))

    async def push(self, items: Sequence[Any]) -> None:
        """One batch; none for no items."""
        if items:
            self.now_ns = max(self.now_ns, *(getattr(item, "now_ns", 0) for item in items))
            await self.stage.push(items, self.now_ns)

    async def push_cut(self, items: Sequence[Any], cuts: Iterable[int]) -> None:
        """The items in batches that end at these places."""
        start = 0
        for end in [*sorted(cuts), len(items)]:
            await self.push(items[start:end])
            start = max(start, end)

    async def barrier(self) -> None:
        """As at a checkpoint: flush, then store the tables."""
        await self.stage.flush(self.now_ns)
        self.memory.checkpoint()

    async def wait(self, ns: int) -> None:
        """Domain time goes on with nothing to read: timers fire."""
        self.now_ns += ns
        await self.stage.fire(self.now_ns)

    def taken(self) -> list[Any]:
        """What was given since the last time."""
        given = list(self.given)
        self.given.clear()
        return given

    def state(self) -> dict[str, dict[Any, Any]]:
        """All tables as plain data."""
        tables = self.memory.tables.items()
        return {name: {key: plain(value) for key, value in table.items()} for name, table in tables}


@asynccontextmanager
async def rig(spec: StageSpec, options: msgspec.Struct, memory: MemoryState | None = None) -> AsyncIterator[Rig]:
    """A component built from its spec, for as long as the block."""
    context = FakeContext(spec.name, state=memory)
    async with spec.build(options, context) as component:
        yield Rig(spec.name, context, component)


def fresh(items: Iterable[T]) -> list[T]:
    """The items for another run of them: events are annotated in place, so each run has copies."""
    return [copy.copy(item) if isinstance(item, Event) else item for item in items]


def plain(value: object) -> object:
    """A value as data that can be compared: NaN equals NaN, and a tuple the list that it was stored as."""
    return msgspec.msgpack.decode(_encode(value))


_encode = msgspec.msgpack.Encoder(order="deterministic").encode


class _Collects:
    def __init__(self, given: list[Any]) -> None:
        self._given = given

    async def push(self, items: Sequence[Any], now_ns: int) -> None:
        self._given.extend(items)


class _Dead(DeadLetters):
    """Keeps the items, too."""

    def __init__(self, dead: list[Any]) -> None:
        super().__init__(Ids(0))
        self._items = dead

    def add_item(
        self, item: object, error: BaseException, component: str, at_ns: int, shard: str = "", pipeline: str = ""
    ) -> None:
        self._items.append(item)
        super().add_item(item, error, component, at_ns, shard, pipeline)
