"""The runtime's door for tests of receivers: keeps what comes through it, and can be full."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import anyio

from pipeline.components import Position, Read


class FakeIntake:
    """Takes reads, "commits" each at once, and keeps the positions, so that a second receiver can go on from them.

    `stored` are the committed positions by source (None or missing: never read). `put` waits while `full` is set.
    A put for a source that is not assigned is an error of the receiver's. `calls` is the order of all calls.
    """

    def __init__(self, stored: Mapping[str, Position] | None = None, once: bool = False, full: bool = False) -> None:
        self.stored: dict[str, Position] = dict(stored or {})
        self.once, self.full, self.max_items = once, full, 5000
        self.alone = ""
        self.reads: list[Read[object]] = []
        self.assigned: set[str] = set()
        self.calls: list[tuple[str, object]] = []
        self.on_put: Callable[[Read[object]], None] | None = None
        self._changed = anyio.Event()

    async def assign(self, sources: Iterable[str]) -> Mapping[str, Position | None]:
        new = set(sources)
        self._note("assign", frozenset(new))
        self.assigned |= new
        return {source: self.stored.get(source) for source in new}

    async def revoke(self, sources: Iterable[str]) -> None:
        gone = set(sources)
        self._note("revoke", frozenset(gone))
        self.assigned -= gone

    async def put(self, read: Read[object]) -> None:
        while self.full:
            await self._changed.wait()
        if read.source not in self.assigned:
            raise AssertionError(f"put of {read.source}, which is not assigned")
        self.reads.append(read)
        self.stored[read.source] = read.position
        if self.on_put is not None:
            self.on_put(read)
        self._note("put", read.source)

    def has_room(self) -> bool:
        return not self.full

    def committed(self) -> Mapping[str, Position]:
        return dict(self.stored)

    def fill(self, full: bool = True) -> None:
        """Be full, or have room again."""
        self.full = full
        self._note("full", full)

    @property
    def items(self) -> list[object]:
        """All items, in the order in which they were put."""
        return [item for read in self.reads for item in read.items]

    def by_source(self) -> dict[str, list[object]]:
        """All items of each source."""
        found: dict[str, list[object]] = defaultdict(list)
        for read in self.reads:
            found[read.source].extend(read.items)
        return dict(found)

    async def until(self, holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Wait for something that only a call can bring about. Raises TimeoutError."""
        with anyio.fail_after(timeout_s):
            while not holds():
                await self._changed.wait()

    def _note(self, what: str, value: object) -> None:
        self.calls.append((what, value))
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
