"""What goes stale when an asset fails: the impact is walked on the asset graph and frozen into the alert.

The graph is joined from all that is known: YAML (ours, so its word comes first), a webserver's answer, a file that
holds one, a dbt manifest, and the edges that the event log told, which the `alerts` connector sends along
(docs/decisions/0010). `processors.lineage_graph` keeps and joins them; here is what it is asked for.
"""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from pipeline.alert_facts import facts_said
from pipeline.asset_graph import fetch_asset_graph, parse_asset_nodes
from pipeline.batch import Batch
from pipeline.components import Context, Processor, ProcessorSpec
from pipeline.options import Duration, Secret
from pipeline.signals import Alert, Edges, Signal
from processors.lineage_dbt import read_manifest
from processors.lineage_files import WatchedFile
from processors.lineage_graph import LineageGraph
from processors.lineage_told import ExposureOption, ExternalOption, Told, read_lineage_file, told

Item = Alert | Edges

FILE_WAIT_S: Final = 10.0
"""How long a start waits for local files: they are read in far less, and `--once` needs them with its first alert."""

_CAUSES: Final = ("asset_failure", "check_failure")
"""Kinds of alerts that are no consequence of what fails upstream: the others say what they are made from."""

_SOURCES: Final = ("file", "graphql", "asset_graph", "dbt_manifest")
"""What is kept in state, in the order of its word."""


class GraphqlOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Dagster webserver to ask for the asset graph."""

    url: str = ""
    """Its address, `http://localhost:3000`. Empty: none is asked."""
    headers: dict[str, Secret] = {}
    """Further headers, such as `Dagster-Cloud-Api-Token`."""
    interval: Duration = Duration("60s")
    """How often to ask."""
    timeout: Duration = Duration("30s")
    """How long an answer may take."""


class LineageImpactConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Adds to each failure what goes stale with it: assets, dashboards, owners.

    Stands first in an alerts pipeline. Edges come from the event log (what was materialized with its inputs) and from
    the sources below; what they said last is kept in state.
    """

    graphql: GraphqlOption = GraphqlOption()
    """Dagster's webserver."""
    asset_graph: str = ""
    """A file with a webserver's answer to an `assetNodes` query. Empty: none."""
    dbt_manifest: str = ""
    """dbt's `target/manifest.json`: models, sources and exposures, under dagster-dbt's default keys. Empty: none."""
    dbt_key_prefix: tuple[str, ...] = ()
    """Stands before each key of the manifest, where the project's translator adds one."""
    file: str = ""
    """A YAML file with `exposures`, `externals` and `assets`, read again when it changes. Empty: none."""
    exposures: tuple[ExposureOption, ...] = ()
    """What people look at: dashboards, reports, APIs."""
    externals: tuple[ExternalOption, ...] = ()
    """What assets are made from outside Dagster."""
    interval: Duration = Duration("30s")
    """How often files are looked at."""
    enrichment_wait: Duration = Duration("500ms")
    """How long the first alert waits for the webserver's first answer."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.graphql.url and not self.graphql.url.startswith(("http://", "https://")):
            yield "graphql.url", "begins with http:// or https://"
        for path, every in (("graphql.interval", self.graphql.interval), ("interval", self.interval)):
            if every <= 0:
                yield path, "must be more than 0"


class LineageImpact:
    """Whole-scoped."""

    def __init__(self, graph: LineageGraph) -> None:
        self._graph = graph

    async def process(self, batch: Batch[Item], /) -> Batch[Item]:
        """The batch's alerts, failures with their impact; edges are taken out of it."""
        self._graph.begin()
        given: list[Item] = []
        for item in batch.items:
            if isinstance(item, Edges):
                self._graph.learn(item)
            elif isinstance(item, Alert) and item.state == "failing" and item.asset:
                given.append(self._frozen(item))
            else:
                given.append(item)
        self._graph.done()
        return batch.carrying(given)

    def _frozen(self, alert: Alert) -> Alert:
        upstream = () if alert.kind in _CAUSES else self._graph.upstream(alert.asset)
        impact = self._graph.impact(alert.assets or (alert.asset,))
        said = facts_said(alert, self._graph.facts, "lineage_impact")
        return msgspec.structs.replace(alert, impact=impact, upstream=upstream, **said)


@asynccontextmanager
async def build(config: LineageImpactConfig, context: Context) -> AsyncIterator[Processor[Item]]:
    graph = LineageGraph(context.state, _SOURCES, told(config.exposures, config.externals, {}))
    files = _files(config)
    graph.keep_only({*files, *(("graphql",) if config.graphql.url else ())})
    if config.file:
        read_lineage_file(Path(config.file))  # a mistake of ours stops the start; a later one keeps what was
    for name, file in files.items():
        context.side_input(name, config.interval, file.fetch, partial(graph.apply, name), FILE_WAIT_S)
    if config.graphql.url:
        asking = config.graphql

        async def ask() -> Told:
            headers = {name: value.reveal() for name, value in asking.headers.items()}
            return Told(await fetch_asset_graph(context.http, asking.url, headers, asking.timeout))

        apply = partial(graph.apply, "graphql")
        context.side_input("graphql", asking.interval, ask, apply, config.enrichment_wait)
    yield LineageImpact(graph)


def _files(config: LineageImpactConfig) -> dict[str, WatchedFile]:
    readers: dict[str, tuple[str, Callable[[Path], Told]]] = {
        "file": (config.file, read_lineage_file),
        "asset_graph": (config.asset_graph, _read_asset_graph),
        "dbt_manifest": (config.dbt_manifest, partial(_read_manifest, prefix=config.dbt_key_prefix)),
    }
    return {name: WatchedFile(path, read) for name, (path, read) in readers.items() if path}


def _read_asset_graph(path: Path) -> Told:
    return Told(parse_asset_nodes(path.read_bytes()))


def _read_manifest(path: Path, prefix: tuple[str, ...]) -> Told:
    return read_manifest(path.read_bytes(), prefix)


SPEC = ProcessorSpec("lineage_impact", LineageImpactConfig, build, takes=frozenset({Signal.ALERTS}), scope="whole")
