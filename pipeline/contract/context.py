"""What a component is given: its state, and the runtime's gifts.

`pipeline.runtime.context` is what the daemon gives, `pipeline.testing.context` what tests give.
"""

import logging
from collections.abc import Awaitable, Callable, ItemsView, Mapping, Sequence
from typing import Protocol, TypeVar

from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer

from pipeline.alert_records import Keeper
from pipeline.contract.exporter import Receipt
from pipeline.http import Asgi, HttpClient
from pipeline.signals import Alert

T = TypeVar("T")
K = TypeVar("K", bound="str | int | tuple[str, ...]")
V = TypeVar("V")


class Table(Protocol[K, V]):
    """State of one component and shard, committed together with the positions. Works like a dict.

    Values are encoded at the checkpoint, so only what was touched costs: `put` a new value, or `edit` one in place.
    Where `V` is a number, text, bytes, or a frozen struct or tuple of such, the intake does not wait for the encoding.
    """

    def get(self, key: K, /) -> V | None:
        """The value, to be read only."""
        ...

    def put(self, key: K, value: V, /) -> None: ...

    def edit(self, key: K, /) -> V | None:
        """The value, to be changed in place within this call."""
        ...

    def delete(self, key: K, /) -> None:
        """Remove it; a key that is not there is fine."""
        ...

    def items(self) -> ItemsView[K, V]: ...

    def __contains__(self, key: object, /) -> bool: ...

    def __len__(self) -> int: ...


class State(Protocol):
    """Opens the tables of one component in one shard."""

    def table(
        self,
        name: str,
        key: type[K],
        value: type[V],
        version: int,
        migrate: Mapping[int, Callable[[object], object]] | None = None,
    ) -> Table[K, V]:
        """The table `name`, loaded. `migrate[n]` lifts a value (as plain data) from version n to n + 1.

        Raises StateError when stored values are newer than `version` or there is no way up from theirs.
        """
        ...


class Context(Protocol):
    """The runtime's gifts to one component, for as long as its `build` is open."""

    @property
    def id(self) -> str:
        """Its id in the configuration: `type` or `type/name`."""
        ...

    @property
    def shard(self) -> str: ...

    @property
    def once(self) -> bool:
        """The service reads its input to the present end and stops."""
        ...

    @property
    def worker(self) -> str:
        """The number of this process among those that `dagtel run --workers` started, "" where it is the only one."""
        ...

    @property
    def leaves(self) -> bool:
        """This process gives its share of the work up when it stops (`dagtel run --leave`): others need not wait."""
        ...

    @property
    def exporters(self) -> Sequence[str]:
        """Ids of the service's exporters, of processors and connectors: to find names that name none."""
        ...

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]: ...

    @property
    def meter(self) -> Meter: ...

    @property
    def tracer(self) -> Tracer: ...

    @property
    def state(self) -> State: ...

    @property
    def http(self) -> HttpClient: ...

    @property
    def receipt(self) -> Receipt | None:
        """Exporters: what `send` returned last and was committed; it goes on with each committed acknowledgement."""
        ...

    async def store_receipt(self, receipt: Receipt) -> None:
        """Exporters: keep this with the next checkpoint, as what `send` returns is kept; the last one given is kept."""
        ...

    def with_links(self, alert: Alert) -> Alert:
        """A notification with links that act on it (silence, acknowledge, retry), for whoever is told; as it is where
        `service.api` names no `url`."""
        ...

    @property
    def recorded(self) -> bool:
        """An exporter of the service takes records (`pipeline.alert_records`): who decides something says it."""
        ...

    def keeper(self, path: str, url: str, schema: str, keep: int) -> Keeper:
        """A history in the file at `path`, or where there is a `url` in that schema of PostgreSQL; of one life `keep`
        occurrences are kept. It is opened when it is first needed; who asked for it closes it."""
        ...

    def mount(self, address: str, path: str, app: Asgi) -> None:
        """Serve `app` (bare ASGI) at `path` of `address` ("127.0.0.1:8889") from the service's start to its end."""
        ...

    def side_input(
        self,
        name: str,
        every_s: float,
        fetch: Callable[[], Awaitable[T]],
        apply: Callable[[T], None],
        wait_s: float = 0.5,
    ) -> None:
        """Poll something beside the data's way (a webserver's asset graph).

        `fetch` runs in the background every `every_s` seconds (0: once) and may raise RetryableError; `apply` is
        called between batches, never while a component works, and may write state: it is covered by the next
        checkpoint. The first batch waits up to `wait_s` for the first answer. Of an exporter both run beside its
        sends, as long as it sends.
        """
        ...
