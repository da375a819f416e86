"""Config + Registry → Plan: pure, but for the plugins that are imported. Reports everything that is wrong at once."""

from collections.abc import Mapping

import msgspec

from pipeline.components import ExporterSpec
from pipeline.config.fields import fields
from pipeline.config.model import Config, ServiceConfig
from pipeline.delivery import Delivery
from pipeline.errors import ConfigError
from pipeline.signals import Signal
from pipeline.topology.blocks import Blocks, decoded
from pipeline.topology.faults import Faults
from pipeline.topology.plan import Node, PipelinePlan, Plan
from pipeline.topology.registry import KINDS, Kind, NoComponent, Registry
from pipeline.topology.wiring import Wiring


def resolve(config: Config, registry: Registry) -> Plan:
    """The plan of a configuration; components that nothing uses are left out of it and named in its warnings.

    Raises ConfigError with all problems, those of reading too, in the order of the files.
    """
    faults = Faults(config)
    blocks = decoded(config, registry, faults.problems)
    wiring = Wiring(config, blocks, faults)
    wiring.check()
    if faults.problems:
        raise ConfigError(faults.in_order(faults.problems))
    warnings = faults.in_order(faults.at(path, message) for path, message in wiring.unused())
    nodes = {kind: _nodes(blocks, kind, wiring.used(kind)) for kind in KINDS}
    return Plan(
        receivers=nodes["receivers"],
        connectors=nodes["connectors"],
        exporters=nodes["exporters"],
        extensions=nodes["extensions"],
        pipelines={id: _pipeline(id, config, nodes["processors"]) for id in wiring.graph.ordered()},
        service=config.service,
        warnings=warnings,
    )


def options(config: Config, registry: Registry) -> dict[str, Mapping[str, object] | None]:
    """The types of each block's options by path (`service`, `exporters.loki`), None where its type is not there."""
    found: dict[str, Mapping[str, object] | None] = {"service": _hints(ServiceConfig)}
    for kind in KINDS:
        for id in getattr(config, kind):
            try:
                spec = registry.spec(kind, id.partition("/")[0])
            except NoComponent:
                found[f"{kind}.{id}"] = None
            else:
                common = _hints(Delivery) if isinstance(spec, ExporterSpec) else {}
                found[f"{kind}.{id}"] = {**_hints(spec.config), **common}
    return found


def _hints(cls: type[msgspec.Struct]) -> dict[str, object]:
    return {field.name: field.hint for field in fields(cls)}


def _nodes(blocks: Blocks, kind: Kind, ids: tuple[str, ...]) -> dict[str, Node]:
    return {id: node for id in ids if (node := blocks[kind][id].node) is not None}


def _pipeline(id: str, config: Config, processors: dict[str, Node]) -> PipelinePlan:
    pipeline = config.service.pipelines[id]
    return PipelinePlan(
        id,
        Signal(id.partition("/")[0]),
        pipeline.receivers,
        tuple(processors[name] for name in pipeline.processors),
        pipeline.exporters,
    )
