"""What differs between two plans: which components may stay as they are, and what no reload can change. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from pipeline.components import ExporterSpec
from pipeline.config.model import ServiceConfig
from pipeline.signals import Signal
from pipeline.topology.plan import Node, Plan


class Changed(msgspec.Struct, frozen=True):
    """Components of one kind, by what becomes of them."""

    kept: frozenset[str]
    changed: frozenset[str]
    added: frozenset[str]
    gone: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.changed or self.added or self.gone)


def compared(old: Mapping[str, Node], new: Mapping[str, Node]) -> Changed:
    """By id; one whose type, options and delivery are equal is kept."""
    both = old.keys() & new.keys()
    kept = frozenset(id for id in both if same(old[id], new[id]))
    return Changed(kept, frozenset(both) - kept, frozenset(new.keys() - both), frozenset(old.keys() - both))


def same(old: Node, new: Node) -> bool:
    """Whether two nodes are one component."""
    return old.spec is new.spec and old.options == new.options and old.delivery == new.delivery


def exporters_compared(old: Plan, new: Plan, running: Mapping[str, Node]) -> Changed:
    """As `compared`, of the exporters that run now. One of metrics alone, to which others lead than before, is
    changed: it shows the last figure of every series, and some of them may come no more.
    """
    found = compared(running, new.exporters)
    stale = frozenset(
        id for id in found.kept if _shows_figures(new.exporters[id]) and _leading_to(old, id) != _leading_to(new, id)
    )
    return msgspec.structs.replace(found, kept=found.kept - stale, changed=found.changed | stale)


def owners_changed(old: Plan, new: Plan) -> frozenset[str]:
    """Processors and connectors (`processors.dedup`) that are new, gone or configured otherwise."""
    before, after = _stages(old), _stages(new)
    different = compared(before, after)
    return different.changed | different.added | different.gone


def needs_restart(old: ServiceConfig, new: ServiceConfig) -> Iterator[str]:
    """Paths of the options that a running daemon cannot follow."""
    for name in old.state.__struct_fields__:
        if name not in ("moved", "forget") and getattr(old.state, name) != getattr(new.state, name):
            yield f"service.state.{name}"
    if old.clock != new.clock:
        yield "service.clock"
    if old.telemetry.metrics.level != new.telemetry.metrics.level:
        yield "service.telemetry.metrics.level"
    if old.telemetry.traces != new.telemetry.traces:
        yield "service.telemetry.traces"


def _shows_figures(node: Node) -> bool:
    return isinstance(node.spec, ExporterSpec) and node.spec.takes == frozenset({Signal.METRICS})


def _leading_to(plan: Plan, exporter: str) -> list[Any]:
    """The components whose items reach an exporter, and how they are configured. Receivers only by their ids."""
    found: list[Any] = []
    waiting, seen = [exporter], {exporter}
    while waiting:
        sink = waiting.pop()
        for pipeline in plan.pipelines.values():
            if sink not in pipeline.exporters:
                continue
            found.append((pipeline.id, [(n.id, n.spec, n.options) for n in pipeline.processors]))
            for source in pipeline.receivers:
                node = plan.connectors.get(source)
                found.append((source, node and (node.spec, node.options)))
                if node is not None and source not in seen:
                    seen.add(source)
                    waiting.append(source)
    return found


def _stages(plan: Plan) -> dict[str, Node]:
    processors = {f"processors.{n.id}": n for p in plan.pipelines.values() for n in p.processors}
    return processors | {f"connectors.{id}": n for id, n in plan.connectors.items()}
