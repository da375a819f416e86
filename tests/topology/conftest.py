"""A registry made by hand: components that are declared and never built."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Literal

import msgspec
import pytest

from pipeline.components import ConnectorSpec, Context, ExporterSpec, ExtensionSpec, ProcessorSpec, ReceiverSpec
from pipeline.delivery import Delivery, QueueBatch, SendingQueue
from pipeline.options import Duration, Secret, Size
from pipeline.signals import Signal
from pipeline.topology.registry import Registry


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """No options."""


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    user: str
    password: Secret = Secret("")


class TapOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    brokers: tuple[str, ...]
    start: Literal["earliest", "latest"] = "latest"
    poll: Duration = Duration("1s")
    fetch: Size = Size("1MiB")
    limit: Annotated[int, msgspec.Meta(ge=1)] = 500
    login: Login | None = None
    check: bool = True
    key: Secret = Secret("")
    ratio: float = 0.5
    top: int | None = None

    def problems(self) -> list[tuple[str, str]]:
        return [("start", "`earliest` needs `check: true`")] if self.start == "earliest" and not self.check else []


class LinesOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    url: str
    labels: dict[str, str] = {}
    tries: list[Duration] = []


class DedupOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    window: Duration = Duration("1h")


def build(config: msgspec.Struct, context: Context) -> AbstractAsyncContextManager[Any]:
    raise AssertionError("a plan is made without building anything")


@pytest.fixture
def registry() -> Registry:
    every = frozenset(Signal)
    return Registry.of(
        ReceiverSpec("tap", TapOptions, build),
        ProcessorSpec("ledger", Options, build, takes=frozenset({Signal.EVENTS})),
        ProcessorSpec("filter", Options, build, takes=every),
        ProcessorSpec("dedup", DedupOptions, build, takes=frozenset({Signal.ALERTS}), scope="whole"),
        ConnectorSpec("spans", Options, build, takes=Signal.EVENTS, gives=Signal.TRACES, needs=("ledger",)),
        ConnectorSpec("alerts", Options, build, takes=Signal.EVENTS, gives=Signal.ALERTS),
        ConnectorSpec("again", Options, build, takes=Signal.TRACES, gives=Signal.TRACES),
        ExporterSpec("sink", Options, build, takes=every),
        ExporterSpec(
            "lines",
            LinesOptions,
            build,
            takes=frozenset({Signal.LOGS, Signal.TRACES}),
            delivery=Delivery(timeout=Duration("9s"), sending_queue=SendingQueue(batch=QueueBatch(max_size=7))),
        ),
        ExporterSpec("pager", Options, build, takes=frozenset({Signal.ALERTS})),
        ExtensionSpec("pprof", Options, build),
    )
