"""What the event log does not say, onto each event: its run's tags and parent, the asset graph in force."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import msgspec

from pipeline import events
from pipeline.batch import Batch
from pipeline.clock import Clock, SystemClock
from pipeline.components import Context, Processor, ProcessorSpec
from pipeline.dagster_home import find_storage
from pipeline.events import Event, RunQueued
from pipeline.facts import RunFacts
from pipeline.native import HAS_NATIVE, native
from pipeline.options import Duration, Secret
from pipeline.run_rows import HEADER, RunRow, RunRows
from pipeline.signals import Signal
from processors.enrichment_assets import AssetOption, KnownAssets, Said, facts_of
from processors.enrichment_runs import ENDS, KnownRuns
from processors.enrichment_sources import (
    FileSource,
    GraphqlOption,
    WebserverSource,
    read_asset_graph,
    read_table,
)

FILE_WAIT_S: Final = 10.0
"""How long a start waits for local files: they are read in far less, and `--once` needs them with its first event."""
_AT_ONCE: Final = 500

_twin = native.Enricher(events, HEADER, sorted(ENDS)) if HAS_NATIVE else None


class StorageOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dagster's storage, asked for runs that come without the bridge's header."""

    home: str = ""
    """The folder that DAGSTER_HOME names. Empty, and no `postgres_url`: it is not asked."""
    postgres_url: Secret = Secret("")
    """The database of a Dagster that stores in PostgreSQL. Goes before `home`."""
    interval: Duration = Duration("1s")
    """How often to ask, for all new runs together. Nothing waits for the answer: it is on later events."""


class EnrichmentConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Adds what the event log does not say: run tags, parent, partition and code location to the events of a run, and
    the asset graph (owners, group, kinds, freshness, description, metadata) to every event.

    Runs are known from the header that `dagtel bridge` and the `dagster` receiver send, from the run's own first
    event, and from Dagster's storage. Of assets, single values come from the first that has one: `assets`, `table`,
    `graphql`, `asset_graph`. What each said last is kept in state, so a restart without a webserver knows the same.
    """

    headers: bool = True
    """Read the `dagster-run` header."""
    dagster: StorageOption = StorageOption()
    """Dagster's storage."""
    graphql: GraphqlOption = GraphqlOption()
    """Dagster's webserver."""
    asset_graph: str = ""
    """A file with a webserver's answer to an `assetNodes` query. Empty: none."""
    table: str = ""
    """A YAML file with `assets`, as below, read again when it changes. Empty: none."""
    assets: dict[str, AssetOption] = {}
    """Facts by asset key (`raw/orders`) or by pattern (`raw/*`)."""
    interval: Duration = Duration("30s")
    """How often files are looked at."""
    enrichment_wait: Duration = Duration("500ms")
    """How long the first events wait for the webserver's first answer."""
    max_runs: int = 20000
    """Runs going on that are remembered at most, for each shard; the oldest are forgotten first. Of runs that have
    ended the last 1,000 are, too, but no more than these."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.graphql.url and not self.graphql.url.startswith(("http://", "https://")):
            yield "graphql.url", "begins with http:// or https://"
        spans = {"graphql.interval": self.graphql.interval, "dagster.interval": self.dagster.interval}
        for path, every in {**spans, "interval": self.interval}.items():
            if every <= 0:
                yield path, "must be more than 0"
        if self.max_runs < 1:
            yield "max_runs", "must be at least 1"


class Enrichment:
    """Partition-scoped. A run's facts are one object for all its events."""

    def __init__(self, runs: KnownRuns, assets: KnownAssets, *, headers: bool) -> None:
        self._runs, self._assets, self._headers = runs, assets, headers

    async def process(self, batch: Batch[Event], /) -> Batch[Event]:
        """The same events, with `run` and `catalog`."""
        catalog, headers, runs = self._assets.catalog, self._headers, self._runs
        items = batch.items
        runs.begin()
        if _twin is not None:
            items = items[_twin.enrich(items, catalog, runs, headers) :]
        forgotten = runs.forgotten
        seen: dict[str, tuple[bytes, RunFacts | None]] = {}
        for event in items:
            event.catalog = catalog
            if not (run_id := event.run_id):
                continue
            header = b""
            if headers and (carried := event.headers):
                name, header = carried[-1]  # where the bridge puts it
                if name != HEADER:
                    header = _header(carried)
            known = seen.get(run_id)
            # What can change a run's facts, or how long they are remembered: a new header, its first event, its last.
            if known is None or known[0] != header or event.detail.__class__ is RunQueued or event.type in ENDS:
                known = header, runs.facts(event, header)
                if runs.forgotten != forgotten:
                    seen, forgotten = {}, runs.forgotten
                seen[run_id] = known
            if known[1] is not None:
                event.run = known[1]  # else it stays as another process found it
        return batch


def _header(headers: tuple[tuple[str, bytes], ...]) -> bytes:
    for name, value in headers:
        if name == HEADER:
            return value
    return b""


@asynccontextmanager
async def build(config: EnrichmentConfig, context: Context) -> AsyncIterator[Processor[Event]]:
    clock = SystemClock()
    storage = config.dagster
    asks = bool(storage.home or storage.postgres_url.reveal())
    runs = KnownRuns(context.state, config.max_runs, asks=asks)
    sources = _sources(config, context, clock)
    assets = KnownAssets(context.state, facts_of(config.assets), sources)
    for name, (fetch, every, wait) in sources.items():
        context.side_input(name, every, fetch, partial(assets.apply, name), wait)
    if asks:
        from pipeline.dagster_sql import open_run_rows  # psycopg: 100 ms of imports, for those who ask a database

        rows = open_run_rows(find_storage(storage.home, storage.postgres_url), clock)
        # Each shard asks for its own runs, so each has a side input of its own.
        context.side_input(
            f"runs {context.shard}", storage.interval, partial(_look_up, runs, rows), partial(_answered, runs), wait_s=0
        )
    yield Enrichment(runs, assets, headers=config.headers)


def _sources(
    config: EnrichmentConfig, context: Context, clock: Clock
) -> dict[str, tuple[Callable[[], Awaitable[Said]], float, float]]:
    """How to ask each source that is configured, how often, and how long to wait for it at the start (seconds)."""
    found: dict[str, tuple[Callable[[], Awaitable[Said]], float, float]] = {}
    if config.table:
        read_table_now = FileSource(config.table, read_table, clock)
        found["table"] = (read_table_now.fetch, config.interval, FILE_WAIT_S)
    if config.graphql.url:
        webserver = WebserverSource(context.http, config.graphql, clock)
        found["graphql"] = (webserver.fetch, config.graphql.interval, config.enrichment_wait)
    if config.asset_graph:
        answer = FileSource(config.asset_graph, read_asset_graph, clock)
        found["asset_graph"] = (answer.fetch, config.interval, FILE_WAIT_S)
    return found


async def _look_up(runs: KnownRuns, rows: RunRows) -> tuple[list[str], Mapping[str, RunRow]]:
    asked = runs.wanted(_AT_ONCE)
    return asked, await rows.look_up(asked) if asked else {}


def _answered(runs: KnownRuns, answer: tuple[list[str], Mapping[str, RunRow]]) -> None:
    runs.answered(*answer)


SPEC = ProcessorSpec("enrichment", EnrichmentConfig, build, takes=frozenset({Signal.EVENTS}))
