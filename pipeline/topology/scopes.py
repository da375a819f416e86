"""Which components of a plan need to see everything, and what follows from it. Pure.

Behind the first component of scope `whole` on a way everything belongs to the one owner of `whole`.
"""

from collections.abc import Iterator

import msgspec

from pipeline.topology.plan import Node, PipelinePlan, Plan


class Reached(msgspec.Struct, frozen=True):
    """A place on a way from a receiver. `wholly`: at or behind a component of scope `whole`."""

    owner: str
    wholly: bool
    scoped: bool
    """It is itself of scope `whole`."""


def whole_components(plan: Plan, receiver: str) -> list[str]:
    """Components of scope `whole` that a receiver leads to (`connectors.metrics`), each once."""
    return list(dict.fromkeys(place.owner for place in _ways(plan, receiver) if place.scoped))


def whole_exporters(plan: Plan) -> frozenset[str]:
    """Exporters that only the owner of `whole` has anything for."""
    wholly: dict[str, bool] = {}
    for receiver in plan.receivers:
        for place in _ways(plan, receiver):
            kind, _, id = place.owner.partition(".")
            if kind == "exporters":
                wholly[id] = wholly.get(id, True) and place.wholly
    return frozenset(id for id, only in wholly.items() if only) - set(plan.service.dead_letters.exporters)


def _ways(plan: Plan, receiver: str) -> Iterator[Reached]:
    for pipeline in plan.pipelines.values():
        if receiver in pipeline.receivers:
            yield from _along(plan, pipeline, False)


def _along(plan: Plan, pipeline: PipelinePlan, wholly: bool) -> Iterator[Reached]:
    for node in pipeline.processors:
        wholly = wholly or is_whole(node)
        yield Reached(f"processors.{node.id}", wholly, is_whole(node))
    for id in pipeline.exporters:
        if id in plan.exporters:
            yield Reached(f"exporters.{id}", wholly, False)
        else:
            node = plan.connectors[id]
            behind = wholly or is_whole(node)
            yield Reached(f"connectors.{id}", behind, is_whole(node))
            for fed in plan.pipelines.values():
                if id in fed.receivers:
                    yield from _along(plan, fed, behind)


def is_whole(node: Node) -> bool:
    """Whether a component is of scope `whole`."""
    return getattr(node.spec, "scope", "partition") == "whole"
