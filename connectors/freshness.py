"""The `freshness` connector: what was promised of assets, and when it is not kept.

Updates come from the log (materializations, and observations that say when an external asset was updated); targets
from `sla:` and, with `enrichment`, from Dagster's freshness policies. Breaches are found by timers on domain time and
by Dagster's own word, and are findings like any other: `dedup` makes messages of them. Here is what happens, and to
whom it matters: `freshness_watches` has how late everything is, `freshness_budgets` how often it fails.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from connectors.freshness_budgets import Budgets
from connectors.freshness_gauges import Gauges
from connectors.freshness_options import FreshnessConfig
from connectors.freshness_promises import Promises
from connectors.freshness_watch import LEAD_NS
from connectors.freshness_watches import Watches
from pipeline.batch import Batch
from pipeline.clock import SECOND
from pipeline.components import Connector, ConnectorSpec, Context
from pipeline.conditions import Conditions
from pipeline.events import Event
from pipeline.facts import Metadata
from pipeline.outcomes import AssetFailed, AssetGone, AssetMaterialized, AssetObserved, AssetPlanned, FreshnessState
from pipeline.signals import Alert, Labels, Sample, Signal

Item = Alert | Sample

UPDATED: Final = "dagster/last_updated_timestamp"
"""Metadata of observations: when an asset outside of Dagster was updated (seconds since the epoch)."""


class Freshness:
    """Whole-scoped: any shard's run may update an asset."""

    lead_ns = LEAD_NS

    def __init__(self, config: FreshnessConfig, context: Context) -> None:
        extra: Labels = (("deployment", config.deployment),) if config.deployment else ()
        findings = Conditions(config.deployment, config.dashboard_url)
        self._asks_dagster = config.dagster_states
        self._gauges = Gauges(round(config.every), extra, self._figures)
        self._promises = Promises(config, context.state)
        self._watches = Watches(config, context, self._promises, findings, self._gauges.add)
        self._budgets = Budgets(config, context.state, self._promises, findings, self._gauges.add)
        self._in_doubt = False
        # Looked up by type: most outcomes are none of ours and cost one lookup.
        self._handlers: dict[type, Callable[[Event, Any], Sequence[Alert]]] = {
            AssetMaterialized: self._materialized,
            AssetObserved: self._observed,
            AssetPlanned: self._planned,
            AssetFailed: self._failed,
            AssetGone: self._wiped,
            FreshnessState: self._dagster_said,
        }

    async def process(self, batch: Batch[Event], /) -> Sequence[Item]:
        """Findings in the order of the events that led to them."""
        handlers, watches, given = self._handlers, self._watches, list[Alert]()
        if not batch.items:
            return given
        self._begin()
        if not watches.settled:
            watches.settle(batch.items[0].now_ns)
        for event in batch.items:
            if event.catalog is not None and event.catalog.version != watches.version:
                watches.learn(event.catalog, event.now_ns)
            for outcome in event.outcomes:
                handler = handlers.get(type(outcome))
                if handler is not None:
                    given += handler(event, outcome)
        self._done()
        return given

    def due(self) -> int | None:
        """The next target that is reached, or budget to be looked at again."""
        times = [time for time in (self._watches.timers.due(), self._budgets.timers.due()) if time is not None]
        return min(times, default=None)

    async def on_time(self, now_ns: int) -> Sequence[Item]:
        """What is late by now."""
        self._begin()
        given = self._watches.over(now_ns) + self._budgets.over(now_ns)
        self._done()
        return given

    async def flush(self, now_ns: int) -> Sequence[Item]:
        """The figures whose turn it is."""
        if now_ns and (self._in_doubt or not self._watches.settled):
            self._begin()
            self._watches.settle(now_ns)
            self._done()
        return self._gauges.flush(now_ns)

    # --- what happens ---

    def _materialized(self, event: Event, o: AssetMaterialized) -> Sequence[Alert]:
        given = self._watches.updated(o.asset, o.partition, o.at_ns, event.now_ns)
        if o.execution:
            given += self._budgets.executed(o.asset, False, event.now_ns)
        return given

    def _observed(self, event: Event, o: AssetObserved) -> Sequence[Alert]:
        at_ns = _updated_at(o.metadata)
        return self._watches.updated(o.asset, o.partition, at_ns, event.now_ns) if at_ns else ()

    def _planned(self, event: Event, o: AssetPlanned) -> Sequence[Alert]:
        if self._promises.written(o.asset):
            self._watches.watched(o.asset, event.now_ns)
        return ()

    def _failed(self, event: Event, o: AssetFailed) -> Sequence[Alert]:
        # What was stopped from outside says nothing of how well the asset works.
        return () if o.interrupted else self._budgets.executed(o.asset, True, event.now_ns)

    def _dagster_said(self, event: Event, o: FreshnessState) -> Sequence[Alert]:
        if not self._asks_dagster:
            return ()
        return self._watches.said(o.asset, o.state, o.previous, o.at_ns, event.now_ns)

    def _wiped(self, event: Event, o: AssetGone) -> Sequence[Alert]:
        given = self._watches.wiped(o.asset, o.partitions, event.now_ns)
        if not o.partitions:
            given += self._budgets.wiped(o.asset, event.now_ns)
        return given

    def _figures(self, asset: str, now_ns: int) -> Iterator[tuple[str, float]]:
        yield from self._watches.figures(asset, now_ns)
        yield from self._budgets.figures(asset, now_ns)

    # --- what a call that raises leaves behind ---

    def _begin(self) -> None:
        """A call begins. If the one before has raised, its rows were undone, and what is beside them must follow."""
        if self._in_doubt:
            self._gauges.forget()
            self._watches.reckon()
            self._budgets.reckon()
        self._in_doubt = True
        self._watches.timers.begin()
        self._budgets.timers.begin()

    def _done(self) -> None:
        self._watches.timers.done()
        self._budgets.timers.done()
        self._in_doubt = False


def _updated_at(metadata: Metadata) -> int:
    value = metadata.get(UPDATED)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**33:
        return 0
    return round(value * SECOND)


@asynccontextmanager
async def build(config: FreshnessConfig, context: Context) -> AsyncIterator[Connector[Event, Item]]:
    yield Freshness(config, context)


SPEC = ConnectorSpec(
    "freshness",
    FreshnessConfig,
    build,
    takes=Signal.EVENTS,
    gives=frozenset({Signal.ALERTS, Signal.METRICS}),
    scope="whole",
    needs=("run_ledger",),
)
