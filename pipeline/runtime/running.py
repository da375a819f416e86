"""What runs in one process and what of it a reload may change: the parts, and who wants to be served where."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from pipeline.batch import WHOLE
from pipeline.components import ReceiverSpec
from pipeline.runtime.context import ComponentContext, Gifts, ShardTables
from pipeline.runtime.driver import Driver
from pipeline.runtime.engine import Engine
from pipeline.runtime.exporting import Dispatch, ExporterUnit
from pipeline.runtime.host import Host
from pipeline.runtime.lanes import Workshop
from pipeline.runtime.outbox import Outbox
from pipeline.runtime.receiving import Receivers
from pipeline.runtime.side_inputs import SideInputs
from pipeline.runtime.sites import Mount, Sites
from pipeline.runtime.status import Statuses
from pipeline.store.state import StateStore
from pipeline.topology.plan import Node, Plan


class ExtensionUnit(msgspec.Struct, frozen=True):
    """An open extension."""

    node: Node
    host: Host[Any]
    mounts: list[Mount]


class Running(msgspec.Struct):
    """The parts. `plan`, `exporters` and `extensions` are those of now; `exporters` also holds those that went away
    and still have payloads to deliver. `outboxes` is one dict for all, kept in step with `exporters`.
    """

    plan: Plan
    store: StateStore
    engine: Engine
    driver: Driver
    workshop: Workshop
    dispatch: Dispatch
    receivers: Receivers
    sites: Sites
    sides: SideInputs
    statuses: Statuses
    own_pages: Callable[[Plan], list[Mount]]
    outboxes: dict[str, Outbox]
    exporters: dict[str, ExporterUnit] = {}
    extensions: dict[str, ExtensionUnit] = {}

    def mounts(self) -> list[Mount]:
        """All that is to be served now."""
        exporters = [unit for id, unit in self.exporters.items() if id in self.plan.exporters]
        return served(
            self.own_pages(self.plan), exporters, self.extensions.values(), self.engine.mounts(), self.receivers.mounts
        )

    async def show(self) -> None:
        """Serve what is to be served now."""
        await self.sites.show(self.mounts(), listened(self.plan))


async def open_extension(node: Node, running: Running) -> ExtensionUnit:
    """Build an extension; raises whatever its `build` raises."""
    gifts, tasks = running.dispatch.gifts, running.dispatch.tasks
    context = context_of("extensions", node, gifts)
    host: Host[Any] = await Host.open(tasks, node.spec.build(node.options, context))
    return ExtensionUnit(node, host, context.mounts)


def context_of(kind: str, node: Node, gifts: Gifts) -> ComponentContext:
    """The context of a component without state."""
    owner = f"{kind}.{node.id}"
    return ComponentContext(owner, node.id, WHOLE, gifts, ShardTables(owner, WHOLE, {}))


def served(
    pages: Iterable[Mount],
    exporters: Iterable[ExporterUnit],
    extensions: Iterable[ExtensionUnit],
    stages: Iterable[Mount],
    receivers: Iterable[Mount],
) -> list[Mount]:
    """Everything that wants to be served, in one list."""
    mounts = [*pages, *(mount for unit in exporters for mount in unit.mounts)]
    mounts += [mount for extension in extensions for mount in extension.mounts]
    return [*mounts, *stages, *receivers]


def listened(plan: Plan) -> list[str]:
    """Addresses of receivers, which are bound before these are built."""
    specs = [(node.spec, node.options) for node in plan.receivers.values()]
    return [a for spec, options in specs if isinstance(spec, ReceiverSpec) for a in spec.listens(options)]


def nodes_of(units: Mapping[str, ExporterUnit] | Mapping[str, ExtensionUnit]) -> dict[str, Node]:
    """The nodes of what runs."""
    return {id: unit.node for id, unit in units.items()}
