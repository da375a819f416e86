"""The contract between components and the runtime: what a plugin implements, declares and is given.

There is no base class to inherit: a component is any object with these methods, built by an async context manager
`build(config, context)` that a `…Spec` names and an entry point publishes. What each promise means:

- Calls of one component never overlap, and all calls of a process run one after another: no locks inside.
- Components never sleep and never read a clock: `now_ns` comes with the batch, timers are `due` and `on_time`.
- When a call raises, the runtime undoes what it did to state tables and goes item by item; an item that raises
  again goes to the dead letters, the others go on.
- Nothing leaves the process before the checkpoint that covers it is committed; payloads are sent afterwards and,
  after a crash, again, byte for byte.

Optional methods are protocols of their own (`Timed`, `Flushes`, `Finishes`, `Seals`, `Joins`); the runtime looks for
them. What each kind does and is given stands in `pipeline.contract`, a page a kind; here is what it declares. All of it
is imported from here.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Literal, Protocol, TypeVar

import msgspec

from pipeline.contract.context import Context, State, Table
from pipeline.contract.exporter import Exporter, Joins, Payload, Receipt, Seals
from pipeline.contract.processor import CatchesUp, Connector, Finishes, Flushes, Limits, Obeys, Processor, Timed
from pipeline.contract.receiver import Intake, Position, Read, Receiver, Rejected
from pipeline.delivery import Delivery
from pipeline.signals import Signal

__all__ = [
    "AnySpec",
    "CatchesUp",
    "Connector",
    "ConnectorSpec",
    "Context",
    "Exporter",
    "ExporterSpec",
    "Extension",
    "ExtensionSpec",
    "Finishes",
    "Flushes",
    "Intake",
    "Joins",
    "Limits",
    "Obeys",
    "Payload",
    "Position",
    "Processor",
    "ProcessorSpec",
    "Read",
    "Receipt",
    "Receiver",
    "ReceiverSpec",
    "Rejected",
    "Scope",
    "Seals",
    "State",
    "Table",
    "Timed",
    "given_by",
]

C = TypeVar("C", bound=msgspec.Struct)

Scope = Literal["partition", "whole"]
"""Which shards a component's state is split into: one a partition of the input, or one for everything."""


class Extension(Protocol):
    """Serves the daemon itself (health, a socket); lives as long as the service."""


# The item types are erased here (`Any`): the topology checks by signal what the type checker cannot see.


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
