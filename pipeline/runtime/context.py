"""What a component is given: the runtime's side of `pipeline.components.Context`."""

import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any, TypeVar

import msgspec
from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer

from pipeline.alert_records import Keeper
from pipeline.components import Receipt, Table
from pipeline.errors import ConfigError
from pipeline.http import Asgi, HttpClient
from pipeline.runtime.sites import Mount
from pipeline.runtime.tables import StateTable
from pipeline.signals import Alert
from pipeline.store.late_keeper import LateKeeper
from pipeline.store.place import Place
from pipeline.store.state import StoredRow

T = TypeVar("T")
K = TypeVar("K", bound="str | int | tuple[str, ...]")
V = TypeVar("V")


class Side(msgspec.Struct, frozen=True):
    """A side input as a component asked for it; times in seconds."""

    owner: str
    name: str
    every_s: float
    fetch: Callable[[], Awaitable[Any]]
    apply: Callable[[Any], None]
    wait_s: float


class ShardTables:
    """Opens the tables of one component in one shard, out of the shard's stored rows."""

    def __init__(self, owner: str, shard: str, stored: Mapping[tuple[str, str], Sequence[StoredRow]]) -> None:
        self.opened: list[StateTable[Any, Any]] = []
        self._owner, self._shard, self._stored = owner, shard, stored

    def table(
        self,
        name: str,
        key: type[K],
        value: type[V],
        version: int,
        migrate: Mapping[int, Callable[[object], object]] | None = None,
    ) -> Table[K, V]:
        table: StateTable[K, V] = StateTable(self._owner, name, key, value, version)
        if any(t.name == name for t in self.opened):
            raise ConfigError(f"{self._owner} opens its table {name} twice")
        table.load(self._stored.get((self._owner, name), ()), migrate or {})
        self.opened.append(table)
        return table


class Gifts(msgspec.Struct, frozen=True):
    """What all components of one process share."""

    once: bool
    http: HttpClient
    meter: Meter
    tracer: Tracer
    worker: str = ""
    leaves: bool = False
    with_links: Callable[[Alert], Alert] = lambda alert: alert


class ComponentLog(logging.LoggerAdapter[logging.Logger]):
    """A component's log: its facts (`extra`) beside who and where it is. The standard adapter drops a call's own."""

    def process(self, msg: object, kwargs: MutableMapping[str, Any]) -> tuple[object, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs


class ComponentContext:
    """One component's context. `sides` are the side inputs that it asked for, `mounts` what it wants to be served."""

    def __init__(
        self,
        owner: str,
        id: str,
        shard: str,
        gifts: Gifts,
        tables: ShardTables,
        receipt: Receipt | None = None,
        exporters: Sequence[str] = (),
        recorded: bool = False,
    ) -> None:
        self.exporters, self.recorded = exporters, recorded
        self.id, self.shard, self.once, self.receipt = id, shard, gifts.once, receipt
        self.http, self.meter, self.tracer = gifts.http, gifts.meter, gifts.tracer
        self.worker, self.leaves = gifts.worker, gifts.leaves
        self._with_links = gifts.with_links
        self.state = tables
        self.log = ComponentLog(logging.getLogger(f"dagtel.{owner}"), {"component": owner, "shard": shard})
        self.mounts: list[Mount] = []
        self.receipts: Callable[[Receipt], Awaitable[None]] | None = None
        """Where an exporter's receipts go."""
        self.sides: list[Side] = []
        self._owner = owner

    async def store_receipt(self, receipt: Receipt) -> None:
        if self.receipts is None:
            raise TypeError(f"{self._owner} is no exporter and has no receipts")
        await self.receipts(receipt)

    def with_links(self, alert: Alert) -> Alert:
        return self._with_links(alert)

    def keeper(self, path: str, url: str, schema: str, keep: int) -> Keeper:
        return LateKeeper(Place(path, url, schema), keep)

    def mount(self, address: str, path: str, app: Asgi) -> None:
        self.mounts.append(Mount(address, path, app))

    def side_input(
        self,
        name: str,
        every_s: float,
        fetch: Callable[[], Awaitable[T]],
        apply: Callable[[T], None],
        wait_s: float = 0.5,
    ) -> None:
        self.sides.append(Side(self._owner, name, every_s, fetch, apply, wait_s))
