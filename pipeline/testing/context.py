"""A context for tests of one component: state in memory, HTTP by a function, side inputs applied by hand."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar, cast

from opentelemetry import metrics, trace

from pipeline.alert_records import Keeper
from pipeline.batch import WHOLE
from pipeline.components import State, Table
from pipeline.errors import RetryableError
from pipeline.http import Asgi, HttpClient, Response, Tls
from pipeline.runtime.changes import Row
from pipeline.runtime.context import ComponentLog
from pipeline.runtime.tables import StateTable
from pipeline.signals import Alert
from pipeline.store.history_writes import HistoryWriter
from pipeline.store.place import Place

T = TypeVar("T")
K = TypeVar("K", bound="str | int | tuple[str, ...]")
V = TypeVar("V")


class MemoryState:
    """State tables that survive a `restart()` as they would survive a crash after a checkpoint."""

    def __init__(self, owner: str = "component") -> None:
        self.owner = owner
        self.tables: dict[str, StateTable[object, object]] = {}  # type: ignore[type-var]  # any key
        self.stored: dict[tuple[str, bytes], Row] = {}

    def table(
        self,
        name: str,
        key: type[K],
        value: type[V],
        version: int,
        migrate: Mapping[int, Callable[[object], object]] | None = None,
    ) -> Table[K, V]:
        table = StateTable(self.owner, name, key, value, version)
        rows = [(r.key, r.version, r.value) for (t, _), r in self.stored.items() if t == name and r.value is not None]
        table.load(rows, migrate or {})
        self.tables[name] = cast("StateTable[object, object]", table)  # type: ignore[type-var]  # any key
        return table

    def checkpoint(self) -> list[Row]:
        """Store what changed, as a checkpoint does; gives the rows."""
        rows = [row for table in self.tables.values() for row in table.take_dirty()]
        for row in rows:
            if row.value is None:
                self.stored.pop((row.table, row.key), None)
            else:
                self.stored[row.table, row.key] = row
        return rows

    def restart(self) -> "MemoryState":
        """A new state that holds what was stored, and nothing since."""
        again = MemoryState(self.owner)
        again.stored = dict(self.stored)
        return again


class FakeHttp:
    """Answers with what `answer(method, url, body)` gives, and keeps every request in `requests`."""

    def __init__(self, answer: Callable[[str, str, bytes], Response] | None = None) -> None:
        self.answer = answer
        self.requests: list[tuple[str, str, bytes, dict[str, str]]] = []

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 5.0,
        tls: Tls | None = None,
    ) -> Response:
        self.requests.append((method, url, body, dict(headers or {})))
        if self.answer is None:
            raise RetryableError(f"nothing answers at {url}")
        return self.answer(method, url, body)


class FakeContext:
    """What `build` is given, for tests. `await context.poll()` fetches and applies the side inputs."""

    def __init__(
        self,
        id: str = "component",
        shard: str = WHOLE,
        state: MemoryState | None = None,
        http: HttpClient | None = None,
        once: bool = False,
        receipt: bytes | None = None,
        worker: str = "",
        exporters: Sequence[str] = (),
        leaves: bool = False,
        recorded: bool = False,
    ) -> None:
        self.leaves = leaves
        self.id, self.shard, self.once, self.receipt, self.worker = id, shard, once, receipt, worker
        self.exporters, self.recorded = exporters, recorded
        self.memory = state or MemoryState(id)
        self.state: State = self.memory
        self.http: HttpClient = http or FakeHttp()
        self.log = ComponentLog(logging.getLogger(f"dagtel.test.{id}"), {"component": id})
        self.meter = metrics.get_meter("dagtel.test")
        self.tracer = trace.get_tracer("dagtel.test")
        self.links: Callable[[Alert], Alert] = lambda alert: alert
        self.mounted: dict[tuple[str, str], Asgi] = {}
        self.sides: dict[str, Callable[[], Awaitable[None]]] = {}
        self.receipts: list[bytes] = []

    async def store_receipt(self, receipt: bytes) -> None:
        """It waits in `receipts`; a test commits it by setting `receipt`."""
        self.receipts.append(receipt)

    def with_links(self, alert: Alert) -> Alert:
        """What `links` makes of it."""
        return self.links(alert)

    def keeper(self, path: str, url: str, schema: str, keep: int) -> Keeper:
        return HistoryWriter(Place(path, url, schema), keep)

    def mount(self, address: str, path: str, app: Asgi) -> None:
        self.mounted[address, path] = app

    def side_input(
        self,
        name: str,
        every_s: float,
        fetch: Callable[[], Awaitable[T]],
        apply: Callable[[T], None],
        wait_s: float = 0.5,
    ) -> None:
        async def poll() -> None:
            apply(await fetch())

        self.sides[name] = poll

    async def poll(self) -> None:
        """Fetch and apply every side input once."""
        for side in self.sides.values():
            await side()
