"""Pipelines as a graph: connectors are its edges. Order, cycles, and what stands upstream."""

from collections.abc import Collection, Iterator, Mapping

from pipeline.config.model import PipelineConfig


class Graph:
    """Which pipelines feed which. Pure; ids that are no connectors are ignored."""

    def __init__(self, pipelines: Mapping[str, PipelineConfig], connectors: Collection[str]) -> None:
        self.feeds: dict[str, tuple[str, ...]] = {
            id: tuple(
                other
                for other, fed in pipelines.items()
                if any(c in connectors and c in fed.receivers for c in pipeline.exporters)
            )
            for id, pipeline in pipelines.items()
        }

    def upstream(self, pipeline: str) -> frozenset[str]:
        """The pipelines that feed it, directly or not; itself only in a cycle."""
        found: set[str] = set()
        waiting = [pipeline]
        while waiting:
            current = waiting.pop()
            above = [id for id, feeds in self.feeds.items() if current in feeds and id not in found]
            found.update(above)
            waiting.extend(above)
        return frozenset(found)

    def ordered(self) -> tuple[str, ...]:
        """Pipelines upstream first, else as they are written. Those in or behind a cycle are left out."""
        order: list[str] = []
        left = list(self.feeds)
        while ready := [id for id in left if not any(id in self.feeds[other] for other in left)]:
            order.append(ready[0])
            left.remove(ready[0])
        return tuple(order)

    def cycles(self) -> Iterator[tuple[str, ...]]:
        """Ways round, each once: `("a", "b")` for a → b → a. Each pipeline of a cycle is in one of them."""
        told: set[str] = set()
        for start in self.feeds:
            if start not in told and (way := self._way_round(start)):
                told.update(way)
                yield way

    def _way_round(self, start: str) -> tuple[str, ...] | None:
        """The shortest way from `start` back to itself, None where there is none."""
        ways: dict[str, tuple[str, ...]] = {start: (start,)}
        waiting = [start]
        while waiting:
            current = waiting.pop(0)
            for fed in self.feeds[current]:
                if fed == start:
                    return ways[current]
                if fed not in ways:
                    ways[fed] = (*ways[current], fed)
                    waiting.append(fed)
        return None
