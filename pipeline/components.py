"""The contract between components and the runtime: what a plugin implements, declares and is given.

There is no base class to inherit: a component is any object with these methods, built by an async context manager
`build(config, context)` that a `…Spec` names and an entry point publishes. What each promise means:

- Calls of one component never overlap, and all calls of a process run one after another: no locks inside.
- Components never sleep and never read a clock: `now_ns` comes with the batch, timers are `due` and `on_time`.
- When a call raises, the runtime undoes what it did to state tables and goes item by item; an item that raises
  again goes to the dead letters, the others go on.
- Nothing leaves the process before the checkpoint that covers it is committed; payloads are sent afterwards and,
  after a crash, again, byte for byte.

Optional methods are protocols of their own (`Timed`, `Flushes`, `Finishes`, `Seals`): the runtime looks for them.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, ItemsView, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, Protocol, TypeVar, runtime_checkable

import msgspec
from opentelemetry.metrics import Meter
from opentelemetry.trace import Tracer

from pipeline.alert_records import Keeper
from pipeline.batch import Batch
from pipeline.delivery import Delivery
from pipeline.http import Asgi, HttpClient
from pipeline.signals import Alert, Signal

T = TypeVar("T")
U = TypeVar("U")
U_co = TypeVar("U_co", covariant=True)
C = TypeVar("C", bound=msgspec.Struct)
K = TypeVar("K", bound="str | int | tuple[str, ...]")
V = TypeVar("V")

Scope = Literal["partition", "whole"]
"""Which shards a component's state is split into: one a partition of the input, or one for everything."""

# --- reading ---------------------------------------------------------------------------------------------------------


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where reading goes on. `next` is the offset (line, storage id) to be read next.

    `at_ns` is the timestamp of the last record read and `crc` the CRC-32 of its key and value: they tell on the next
    start whether the input is still the one that was read. `note` is the receiver's own (cursors, gaps).
    """

    next: int
    at_ns: int = 0
    crc: int = 0
    note: bytes = b""


class Rejected(msgspec.Struct, frozen=True):
    """Input that could not be decoded, for the dead letters. `origin` says where it was: "dagster.events/3@1042".

    The rest is what decoding it again needs: source and offset, the timestamp of its record (Unix ns, 0 where it has
    none), its headers.
    """

    body: bytes
    reason: str
    origin: str
    source: str = ""
    offset: int = -1
    record_ns: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()


class Read(msgspec.Struct, Generic[T], frozen=True):
    """What one read gave: items of one source in order, and the position after them (also when there are none).

    `behind`: more is known to be there already, so domain time follows the records instead of the wall.
    `size` is the bytes taken from the input.
    """

    source: str
    items: Sequence[T]
    position: Position
    rejected: Sequence[Rejected] = ()
    behind: bool = False
    size: int = 0


class Intake(Protocol[T]):
    """The runtime's door for a receiver. A source is one ordered input ("dagster.events/3") and becomes a shard."""

    @property
    def once(self) -> bool:
        """Read to the present end, then return from `run`."""
        ...

    @property
    def alone(self) -> str:
        """Why this process must have all sources of the input; "" if others may have a part of them."""
        ...

    async def assign(self, sources: Iterable[str]) -> Mapping[str, Position | None]:
        """Take sources on: their state is loaded. Gives the stored position of each; None where there is none."""
        ...

    async def revoke(self, sources: Iterable[str]) -> None:
        """Give sources up: what was put is processed and committed, then their state is let go."""
        ...

    async def put(self, read: "Read[T]") -> None:
        """Hand over what was read; waits while the pipelines or a blocking exporter have no room."""
        ...

    def has_room(self) -> bool:
        """Whether a `put` would not wait: a receiver that must keep polling pauses its input instead."""
        ...

    def committed(self) -> Mapping[str, Position]:
        """The last committed position of each source of this receiver, for courtesy commits at the broker."""
        ...


class Receiver(Protocol[U_co]):
    """Reads input, decodes it, and hands it over. Cancelled when it is told to stop; `put` is atomic."""

    async def run(self, intake: "Intake[object]") -> None:
        """Read until cancelled; with `intake.once` return at the end that was there at the start.

        Raises RetryableError (the runtime starts it again after a backoff), PermanentError (the daemon ends).
        """
        ...


# --- processing ------------------------------------------------------------------------------------------------------


class Processor(Protocol[T]):
    """Items in, items out; an empty batch is a good answer."""

    async def process(self, batch: Batch[T], /) -> Batch[T]: ...


class Connector(Protocol[T, U_co]):
    """The end of one pipeline and the start of the next: items of one signal become items of another."""

    async def process(self, batch: "Batch[T]", /) -> Sequence[U_co]: ...


@runtime_checkable
class Timed(Protocol[U_co]):
    """A processor or connector with timers, all on domain time. Items at time t apply before timers due at t.

    `lead_ns` is the shortest time between an item and a timer that it can set: while no timer is due within a batch
    and the batch spans less than that, the runtime hands it over whole, else item by item. 0 is always right.
    """

    lead_ns: int

    def due(self) -> int | None:
        """When the next timer is due (Unix ns), None if there is none."""
        ...

    async def on_time(self, now_ns: int) -> Sequence[U_co]:
        """Run the timers due at or before `now_ns`; what it gives goes on downstream."""
        ...


@runtime_checkable
class Flushes(Protocol[U_co]):
    """A processor or connector that gathers: `flush` is called at each barrier, and after a start at the first one."""

    async def flush(self, now_ns: int) -> Sequence[U_co]:
        """What has gathered since the last flush; covered by the checkpoint that follows."""
        ...


@runtime_checkable
class Finishes(Protocol[U_co]):
    """A processor or connector that has a last word at the end of `--once`."""

    async def finish(self, now_ns: int) -> Sequence[U_co]:
        """Group waits are over, open runs are unfinished; windows and repeats do not advance."""
        ...


@runtime_checkable
class Limits(Protocol):
    """A component that can close the intake (`memory_limiter`)."""

    def refuses(self, now_s: float) -> bool:
        """Whether no more input may be taken now; asked before each read. `now_s` is monotonic."""
        ...


@runtime_checkable
class CatchesUp(Protocol):
    """A component of scope `whole` that wants to know when it is working on old news."""

    def lags(self, behind_ns: int, now_ns: int) -> None:
        """How far domain time (`now_ns`) is behind the wall's; said before and after each read, 0 once caught up.

        May write state. Never called with `clock: events`, which knows no present.
        """
        ...


@runtime_checkable
class Obeys(Protocol):
    """A processor of alerts, of scope `whole`, to which commands are given (`pipeline.alert_commands`), as items of a
    batch in order of domain time. What a command does is committed together with how far commands were read.
    """

    obeys_commands: Literal[True]


class Table(Protocol[K, V]):
    """State of one component and shard, committed together with the positions. Works like a dict.

    Values are encoded at the checkpoint, so only what was touched costs: `put` a new value, or `edit` one in place.
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


# --- sending ---------------------------------------------------------------------------------------------------------


class Payload(msgspec.Struct, frozen=True, omit_defaults=True):
    """Bytes ready to be sent, and how many items they cover. Stored as it is until it is acknowledged.

    Payloads with the same non-empty `key` are sent in the order they were built (a notifier's fingerprint).
    `headers` are the exporter's own, for `send`.

    What waits can be overtaken: a newer payload of the same non-empty `life` and at least the same `rank` says all
    that is left to say, and so does one that names the life in `ends`. Then the older one is acknowledged unsent.

    `about` names the notifications that it tells of (`pipeline.alert_records.notification_id`): what became of it goes
    to exporters that keep records.
    """

    body: bytes
    items: int
    key: str = ""
    headers: dict[str, str] = {}
    life: str = ""
    rank: int = 0
    ends: tuple[str, ...] = ()
    about: tuple[str, ...] = ()


Receipt = bytes
"""What an exporter wants to be given back at its next start, stored with the acknowledgement (a file's length)."""


class Exporter(Protocol[T]):
    """Builds payloads and sends them. Queue, retry, timeout, dead letters and metrics are the runtime's."""

    def build(self, batch: "Batch[T]", /) -> Sequence[Payload]:
        """Pure: the same batch gives the same bytes."""
        ...

    async def send(self, payload: Payload, /) -> Receipt | None:
        """Returns once it is delivered. Raises RetryableError, PermanentError or PartialError."""
        ...


@runtime_checkable
class Seals(Protocol):
    """An exporter whose payloads are compressed before they are stored."""

    def seal(self, payload: Payload) -> Payload:
        """Pure, called off the loop's thread."""
        ...


class Extension(Protocol):
    """Serves the daemon itself (health, a socket); lives as long as the service."""


# --- what a component is given ---------------------------------------------------------------------------------------


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


# The item types are erased here (`Any`): the topology checks by signal what the type checker cannot see.
# --- what a component declares ---------------------------------------------------------------------------------------


class ReceiverSpec(msgspec.Struct, Generic[C], frozen=True):
    """A kind of receiver: the name in YAML, its options, how to build it, what it gives.

    With several signals each pipeline gets the items of its own. `now_ns` of alerts that is 0 becomes the domain time.
    `listens` gives the addresses on which it mounts, from its options: they are bound before receivers are built.
    `brings` names processor types whose work its items have been through before. `shares`: several processes can read
    it side by side, each a part; the input itself says which.
    `redecode` gives the items of input that it rejected before, for `dagtel dlq replay`; it raises DecodeError.
    `history` gives what its input held from one time to before another (Unix ns), in order of time and not decoded, for
    `dagtel replay`; it raises RetryableError and PermanentError.
    """

    name: str
    config: type[C]
    build: Callable[[C, Context], AbstractAsyncContextManager[Receiver[Any]]]
    gives: Signal | frozenset[Signal] = Signal.EVENTS
    listens: Callable[[C], tuple[str, ...]] = lambda options: ()
    redecode: "Callable[[C, Rejected], Sequence[Any]] | None" = None
    brings: Callable[[C], tuple[str, ...]] = lambda options: ()
    shares: bool = False
    history: "Callable[[C, int, int], AsyncGenerator[Rejected, None]] | None" = None


class ProcessorSpec(msgspec.Struct, Generic[C], frozen=True):
    """A kind of processor. `takes`: the signals in whose pipelines it may stand.

    `needs` names processor types that must stand before it (or upstream of its pipeline); `resets_state` names
    the options whose change makes its stored state worthless.
    """

    name: str
    config: type[C]
    build: Callable[[C, Context], AbstractAsyncContextManager[Processor[Any]]]
    takes: frozenset[Signal]
    scope: Scope = "partition"
    needs: tuple[str, ...] = ()
    resets_state: tuple[str, ...] = ()


class ConnectorSpec(msgspec.Struct, Generic[C], frozen=True):
    """A kind of connector: exporter of a pipeline of `takes`, receiver of one of `gives`.

    With several signals each pipeline that it feeds gets the items of its own.
    """

    name: str
    config: type[C]
    build: Callable[[C, Context], AbstractAsyncContextManager[Connector[Any, Any]]]
    takes: Signal
    gives: Signal | frozenset[Signal]
    scope: Scope = "partition"
    needs: tuple[str, ...] = ()
    resets_state: tuple[str, ...] = ()


class ExporterSpec(msgspec.Struct, Generic[C], frozen=True):
    """A kind of exporter. `serial`: one sender, payloads in order. `urgent`: a notifier; what reaches it asks for a
    checkpoint now, and its acknowledgements are committed at once. `delivery` are its defaults for the options that
    the runtime adds to every exporter (`timeout`, `retry_on_failure`, `circuit_breaker`, `sending_queue`).
    `records`: it takes what is decided of alerts, too (`pipeline.alert_records`); others never see that.
    """

    name: str
    config: type[C]
    build: Callable[[C, Context], AbstractAsyncContextManager[Exporter[Any]]]
    takes: frozenset[Signal]
    serial: bool = False
    urgent: bool = False
    delivery: Delivery = Delivery()
    records: bool = False


class ExtensionSpec(msgspec.Struct, Generic[C], frozen=True):
    """A kind of extension."""

    name: str
    config: type[C]
    build: Callable[[C, Context], AbstractAsyncContextManager[Extension]]


AnySpec = ReceiverSpec[Any] | ProcessorSpec[Any] | ConnectorSpec[Any] | ExporterSpec[Any] | ExtensionSpec[Any]


def given_by(spec: ReceiverSpec[Any] | ConnectorSpec[Any]) -> frozenset[Signal]:
    """The signals that it gives, one or several."""
    return frozenset({spec.gives}) if isinstance(spec.gives, Signal) else spec.gives
