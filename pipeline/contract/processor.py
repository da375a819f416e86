"""Processors and connectors: items in, items out; and what they may do beside that, each a protocol of its own."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar, runtime_checkable

from pipeline.batch import Batch

T = TypeVar("T")
U_co = TypeVar("U_co", covariant=True)


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
