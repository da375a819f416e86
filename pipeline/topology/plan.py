"""What will run: the configuration with its references resolved and its types known."""

import msgspec

from pipeline.components import AnySpec
from pipeline.config.model import ServiceConfig
from pipeline.delivery import Delivery
from pipeline.errors import Problem
from pipeline.signals import Signal


class Node(msgspec.Struct, frozen=True):
    """A component as configured. `delivery` is set for exporters."""

    id: str
    spec: AnySpec
    options: msgspec.Struct
    delivery: Delivery | None


class PipelinePlan(msgspec.Struct, frozen=True):
    """A pipeline: what feeds it, what works in it, where it goes. Ids of receivers and exporters, or of connectors."""

    id: str
    signal: Signal
    receivers: tuple[str, ...]
    processors: tuple[Node, ...]
    exporters: tuple[str, ...]


class Plan(msgspec.Struct, frozen=True):
    """Everything that is used, and only that; pipelines upstream first."""

    receivers: dict[str, Node]
    connectors: dict[str, Node]
    exporters: dict[str, Node]
    extensions: dict[str, Node]
    pipelines: dict[str, PipelinePlan]
    service: ServiceConfig
    warnings: tuple[Problem, ...] = ()
