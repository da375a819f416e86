"""The `freshness` connector: what was promised of assets, and when it is not kept.

Updates come from the log (materializations, and observations that say when an external asset was updated); targets
from `sla:` and, with `enrichment`, from Dagster's freshness policies. Breaches are found by timers on domain time and
by Dagster's own word, and are findings like any other: `dedup` makes messages of them. `connectors.freshness_watch`
decides; here are the tables, the order of the timers, and the words.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec

from connectors import freshness_watch, sla_budget
from connectors.freshness_gauges import Gauges
from connectors.freshness_watch import LEAD_NS, Turn, Watch
from connectors.sla import SlaOption, Slas, Target, availability, target_of
from connectors.sla_budget import Executions
from connectors.timers import Timers
from pipeline.batch import Batch
from pipeline.clock import DAY, SECOND
from pipeline.components import Connector, ConnectorSpec, Context, Table
from pipeline.conditions import Conditions, Of, moment, span, url_problems
from pipeline.events import Event
from pipeline.facts import Metadata
from pipeline.lineage import AssetFacts, Catalog
from pipeline.options import Duration
from pipeline.outcomes import AssetFailed, AssetGone, AssetMaterialized, AssetObserved, AssetPlanned, FreshnessState
from pipeline.signals import Alert, Labels, Sample, Signal

Item = Alert | Sample
Key = tuple[str, str]
"""Asset and partition; "" is the asset itself."""

UPDATED: Final = "dagster/last_updated_timestamp"
"""Metadata of observations: when an asset outside of Dagster was updated (seconds since the epoch)."""


class FreshnessConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Finds assets that are later than promised (`sla_breach`) and that fail more often (`availability_breach`).

    Stands at the end of an events pipeline behind `run_ledger` (and `enrichment`, for Dagster's freshness policies,
    owners and overrides), and begins an alerts pipeline, a metrics pipeline, or both. docs/sources.md explains it.
    """

    sla: dict[str, SlaOption] = {}
    """Service levels by asset key or pattern (`raw/*`): `orders: {freshness: "2 hours", availability: "99.9%"}`."""
    policies: bool = True
    """Keep watch over the freshness policies that assets have in Dagster, too."""
    dagster_states: bool = True
    """Take Dagster's own word (FRESHNESS_STATE_CHANGE) for assets whose target is not in `sla`. A breach that both
    notice is told once."""
    critical_after: float = 2.0
    """So many times the target late is CRITICAL; at the target it is WARNING. 0: never."""
    again: Duration = Duration("6h")
    """A breach that lasts is found again this often: by that it persists, and `dedup` escalates it. 0: never."""
    availability_window: Duration = Duration("30d")
    """The time over which availability is promised and the error budget is spent."""
    gone_after: Duration = Duration("1h")
    """A policy ends this long after its asset left the asset graph, if it has not come back."""
    every: Duration = Duration("15s")
    """How often figures that change by time alone (ages, budgets) are given."""
    deployment: str = ""
    """Name of the deployment (`prod`): part of fingerprints, and a label on every series."""
    dashboard_url: str = ""
    """Where an asset can be seen: `https://dagster.example.com/assets/{asset}`."""
    max_assets: int = 50_000
    """Assets that are watched at most."""
    max_partitions: int = 100_000
    """Partitions that are watched at most, of assets whose SLA is for each partition."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """Path and message of each fault."""
        if self.critical_after and self.critical_after <= 1:
            yield "critical_after", "must be more than 1 (times the target), or 0 for never"
        if self.again and self.again < 60:
            yield "again", "must be at least a minute, or 0 for never"
        if not DAY <= self.availability_window.ns <= 90 * DAY:
            yield "availability_window", "must be from 1 to 90 days"
        if self.every < 1:
            yield "every", "must be at least `1s`"
        for name in ("max_assets", "max_partitions"):
            if getattr(self, name) < 1:
                yield name, "must be at least 1"
        yield from url_problems("dashboard_url", self.dashboard_url)


class Freshness:
    """Whole-scoped: any shard's run may update an asset."""

    lead_ns = LEAD_NS

    def __init__(self, config: FreshnessConfig, context: Context) -> None:
        state = context.state
        self._watches: Table[Key, Watch] = state.table("watches", tuple[str, str], Watch, version=1)
        self._facts: Table[str, AssetFacts] = state.table("facts", str, AssetFacts, version=1)
        self._executions: Table[str, Executions] = state.table("executions", str, Executions, version=1)
        self._config, self._log = config, context.log
        self._slas = Slas(config.sla)
        self._shares = _Shares(self._slas)
        self._again_ns, self._window_ns = config.again.ns, config.availability_window.ns
        self._findings = Conditions(config.deployment, config.dashboard_url)
        self._late: Timers[Key] = Timers(
            lambda: ((watch.due_ns, key) for key, watch in self._watches.items()),
            lambda key: watch.due_ns if (watch := self._watches.get(key)) else None,
        )
        self._spent: Timers[str] = Timers(
            lambda: ((row.due_ns, asset) for asset, row in self._executions.items()),
            lambda asset: row.due_ns if (row := self._executions.get(asset)) else None,
        )
        extra: Labels = (("deployment", config.deployment),) if config.deployment else ()
        self._gauges = Gauges(round(config.every), extra, self._figures)
        self._said: set[str] = set()
        self._reckon()
        # Looked up by type: most outcomes are none of ours and cost one lookup.
        self._handlers: dict[type, Callable[[Event, Any], Sequence[Alert]]] = {
            AssetMaterialized: self._materialized,
            AssetObserved: self._observed,
            AssetPlanned: self._planned,
            AssetFailed: self._failed,
            AssetGone: self._wiped,
            FreshnessState: self._dagster_said,
        }

    def _reckon(self) -> None:
        """What is kept beside the tables, from the tables: after a start, and after a call that raised."""
        self._parts: dict[str, set[str]] = {}  # of each asset, perhaps with some that are gone
        self._assets = 0
        for key, _ in self._watches.items():
            self._noted(key)
        for asset, _ in self._executions.items():
            self._gauges.add(asset)
        self._settled, self._version = False, -1
        self._in_doubt = False

    # --- the contract ---

    async def process(self, batch: Batch[Event], /) -> Sequence[Item]:
        """Findings in the order of the events that led to them."""
        handlers, given = self._handlers, list[Alert]()
        if not batch.items:
            return given
        self._begin()
        if not self._settled:
            self._settle(batch.items[0].now_ns)
        for event in batch.items:
            if event.catalog is not None and event.catalog.version != self._version:
                self._learn(event.catalog, event.now_ns)
            for outcome in event.outcomes:
                handler = handlers.get(type(outcome))
                if handler is not None:
                    given += handler(event, outcome)
        self._done()
        return given

    def due(self) -> int | None:
        """The next target that is reached, or budget to be looked at again."""
        times = [time for time in (self._late.due(), self._spent.due()) if time is not None]
        return min(times, default=None)

    async def on_time(self, now_ns: int) -> Sequence[Item]:
        """What is late by now."""
        self._begin()
        given: list[Alert] = []
        for key in self._late.over(now_ns):
            watch = self._watches.get(key)
            if watch is not None:
                given += self._turned(key, freshness_watch.judged(watch, now_ns, self._again_ns), now_ns)
        for asset in self._spent.over(now_ns):
            given += self._spending(asset, now_ns)
        self._done()
        return given

    async def flush(self, now_ns: int) -> Sequence[Item]:
        """The figures whose turn it is."""
        if now_ns and (self._in_doubt or not self._settled):
            self._begin()
            self._settle(now_ns)
            self._done()
        return self._gauges.flush(now_ns)

    # --- what was promised ---

    def _settle(self, now_ns: int) -> None:
        """Once after a start: assets that are written out are watched from now on, and changed targets hold."""
        self._settled = True
        for asset in self._slas.named():
            self._watched(asset, now_ns)
        for key, watch in list(self._watches.items()):
            self._aim(key, watch, now_ns)

    def _learn(self, catalog: Catalog, now_ns: int) -> None:
        """A graph is in force. One that is older than the last, or empty (nobody could be asked), says nothing."""
        if not catalog.assets or catalog.version < self._version:
            return
        self._version = catalog.version
        for asset, facts in catalog.assets.items():
            if self._slas.of(asset) is None and not (facts.freshness and self._config.policies):
                self._facts.delete(asset)
                continue
            kept = _kept(facts)
            if self._facts.get(asset) != kept:
                self._facts.put(asset, kept)
            self._watched(asset, now_ns)
        for key, watch in list(self._watches.items()):
            if key[0] in catalog.assets:
                self._aim(key, watch, now_ns)
            elif watch.target is not None and watch.target.source == "policy" and not watch.ends_ns:
                leaving = freshness_watch.leaving(watch, now_ns, self._config.gone_after.ns, self._again_ns)
                self._put(key, leaving)

    def _aim(self, key: Key, watch: Watch, now_ns: int) -> None:
        """The target of today, if it is another."""
        target = self._target(key)
        if target != watch.target or (watch.ends_ns and key[0] in self._facts):
            self._put(key, freshness_watch.retargeted(watch, target, now_ns))

    def _target(self, key: Key) -> Target | None:
        asset, partition = key
        facts = self._facts.get(asset) if self._config.policies else None
        try:
            target = target_of(self._slas.of(asset), facts, self._config.critical_after)
        except ValueError as error:
            self._say_once(f"policy {asset}", "A freshness policy cannot be read.", asset=asset, error=str(error))
            return None
        if target is None or target.each == bool(partition):
            return target
        return target if target.each and not self._parts.get(asset) else None

    def _watched(self, asset: str, now_ns: int) -> Watch | None:
        """The asset's watch, begun if it is new; None when there is no room."""
        key = (asset, "")
        watch = self._watches.get(key)
        if watch is None and self._assets < self._config.max_assets:
            watch = freshness_watch.begun(now_ns, self._target(key), self._again_ns)
            self._put(key, watch)
            self._noted(key)
        elif watch is None:
            self._say_once("assets", "Too many assets, further ones are not watched.", most=self._config.max_assets)
        return watch

    # --- what happens ---

    def _materialized(self, event: Event, o: AssetMaterialized) -> Sequence[Alert]:
        given = self._updated(o.asset, o.partition, o.at_ns, event.now_ns)
        if o.execution and self._shares.of(o.asset) is not None:
            given += self._executed(o.asset, False, event.now_ns)
        return given

    def _observed(self, event: Event, o: AssetObserved) -> Sequence[Alert]:
        at_ns = _updated_at(o.metadata)
        return self._updated(o.asset, o.partition, at_ns, event.now_ns) if at_ns else ()

    def _planned(self, event: Event, o: AssetPlanned) -> Sequence[Alert]:
        if self._slas.of(o.asset) is not None:
            self._watched(o.asset, event.now_ns)
        return ()

    def _failed(self, event: Event, o: AssetFailed) -> Sequence[Alert]:
        # What was stopped from outside says nothing of how well the asset works.
        if o.interrupted or self._shares.of(o.asset) is None:
            return ()
        return self._executed(o.asset, True, event.now_ns)

    def _updated(self, asset: str, partition: str | None, at_ns: int, now_ns: int) -> list[Alert]:
        watch = self._watched(asset, now_ns)
        if watch is None:
            return []
        at_ns = now_ns if at_ns > now_ns + DAY else at_ns
        given = self._turned((asset, ""), freshness_watch.updated(watch, at_ns, now_ns, self._again_ns), now_ns)
        if partition and (option := self._slas.of(asset)) is not None and option.partitions == "each":
            given += self._partition_updated((asset, partition), at_ns, now_ns)
        return given

    def _partition_updated(self, key: Key, at_ns: int, now_ns: int) -> list[Alert]:
        watch = self._watches.get(key)
        if watch is None:
            if len(self._watches) - self._assets >= self._config.max_partitions:
                most = self._config.max_partitions
                self._say_once("partitions", "Too many partitions, further ones are not watched.", most=most)
                return []
            self._noted(key)
            watch = freshness_watch.begun(now_ns, self._target(key), self._again_ns)
            whole = self._watches.get((key[0], ""))
            if whole is not None:
                self._aim((key[0], ""), whole, now_ns)  # its partitions speak for it from now on
        return self._turned(key, freshness_watch.updated(watch, at_ns, now_ns, self._again_ns), now_ns)

    def _dagster_said(self, event: Event, o: FreshnessState) -> Sequence[Alert]:
        watch = self._watched(o.asset, event.now_ns) if self._config.dagster_states else None
        if watch is None:
            return ()
        at_ns = min(o.at_ns, event.now_ns + DAY)
        turn = freshness_watch.said(watch, o.state, o.previous, at_ns, event.now_ns, self._again_ns)
        return self._turned((o.asset, ""), turn, event.now_ns)

    def _wiped(self, event: Event, o: AssetGone) -> Sequence[Alert]:
        given: list[Alert] = []
        partitions = o.partitions or (*self._parts.get(o.asset, ()), "")
        for key in sorted((o.asset, partition) for partition in partitions):
            watch = self._watches.get(key)
            if watch is None:
                continue
            given += self._turned(key, freshness_watch.wiped(watch, event.now_ns), event.now_ns)
            if key[1]:
                self._watches.delete(key)
        if not o.partitions and (row := self._executions.get(o.asset)) is not None:
            if row.told:
                given.append(self._findings.recovered("availability_breach", Of(o.asset), event.now_ns))
            self._executions.delete(o.asset)
        return given

    # --- availability ---

    def _executed(self, asset: str, failed: bool, now_ns: int) -> list[Alert]:
        row = self._executions.get(asset)
        if row is None:
            if len(self._executions) >= self._config.max_assets:
                return []
            self._gauges.add(asset)
        self._executions.put(asset, sla_budget.counted(row or Executions(), failed, now_ns, self._window_ns))
        return self._spending(asset, now_ns)

    def _spending(self, asset: str, now_ns: int) -> list[Alert]:
        row, share = self._executions.get(asset), self._shares.of(asset)
        if row is None:
            return []
        burn = sla_budget.burning(row, share, now_ns, self._window_ns) if share is not None else None
        of, given = Of(asset), list[Alert]()
        if burn is not None and share is not None:
            severity, again_ns = burn.rule.severity, self._again_ns
            worse = _RANKS.index(severity) > _RANKS.index(row.told)
            if worse or (again_ns and row.told_ns + again_ns <= now_ns):
                words = sla_budget.in_words(row, burn, share, now_ns, self._window_ns)
                told = severity if worse else row.told
                finding = self._findings.failing(
                    "availability_breach", _SEVERITIES[told], "Availability SLA Breached", words, of, now_ns,
                    facts=self._facts.get(asset),
                )  # fmt: skip
                given.append(finding)
                row = msgspec.structs.replace(row, told=told, told_ns=now_ns)
        elif row.told:
            given.append(self._findings.recovered("availability_breach", of, now_ns))
            row = msgspec.structs.replace(row, told="", told_ns=0)
        step = sla_budget.FINE_NS  # while it burns the windows move on without executions, too
        due_ns = max((now_ns // step + 1) * step, now_ns + LEAD_NS) if row.told else 0
        self._executions.put(asset, msgspec.structs.replace(row, due_ns=due_ns))
        self._spent.set(due_ns, asset)
        return given

    # --- what comes of it ---

    def _turned(self, key: Key, turn: Turn, now_ns: int) -> list[Alert]:
        self._put(key, turn.watch)
        of = Of(asset=key[0], partition=key[1] or None)
        if turn.recovered:
            return [self._findings.recovered("sla_breach", of, now_ns, turn.watch.last_ns)]
        if turn.severity is None:
            return []
        words, facts = _words(turn.watch, now_ns), self._facts.get(key[0])
        return [
            self._findings.failing(
                "sla_breach", turn.severity, "Freshness SLA Breached", words, of, now_ns, facts=facts
            )
        ]

    def _put(self, key: Key, watch: Watch) -> None:
        if self._watches.get(key) != watch:
            self._watches.put(key, watch)
            self._late.set(watch.due_ns, key)

    def _noted(self, key: Key) -> None:
        if key[1]:
            self._parts.setdefault(key[0], set()).add(key[1])
        else:
            self._assets += 1
            self._gauges.add(key[0])

    def _begin(self) -> None:
        """A call begins. If the one before has raised, its rows were undone, and what is beside them must follow."""
        if self._in_doubt:
            self._reckon()
        self._in_doubt = True
        self._late.begin()
        self._spent.begin()

    def _done(self) -> None:
        self._late.done()
        self._spent.done()
        self._in_doubt = False

    def _say_once(self, what: str, message: str, **facts: object) -> None:
        if what not in self._said and len(self._said) < 100:
            self._said.add(what)
            self._log.warning(message, extra=facts)

    # --- figures ---

    def _figures(self, asset: str, now_ns: int) -> Iterator[tuple[str, float]]:
        watch, target = self._watches.get((asset, "")), None
        if watch is not None and not watch.gone:
            if watch.last_ns:
                yield "asset_freshness_seconds", max(0.0, (now_ns - watch.last_ns) / SECOND)
            parts = [self._watches.get((asset, partition)) for partition in self._parts.get(asset, ())]
            all_of = [each for each in (watch, *parts) if each is not None]
            target = next((each.target for each in all_of if each.target is not None), None)
            if target is not None and target.promised_ns:
                yield "asset_sla_freshness_target_seconds", target.promised_ns / SECOND
            if target is not None or watch.told:
                yield "asset_sla_freshness_breached", float(any(each.told for each in all_of))
        share, row = self._shares.of(asset), self._executions.get(asset)
        if share is not None:
            yield "asset_sla_availability_target_ratio", share
            good, bad = sla_budget.totals(row, now_ns, self._window_ns) if row else (0, 0)
            if good + bad:
                yield "asset_sla_availability_ratio", good / (good + bad)
                yield "asset_sla_error_budget_remaining_ratio", sla_budget.remaining(good, bad, share)


class _Shares:
    """The availability that is promised of each asset, looked up once."""

    def __init__(self, slas: Slas) -> None:
        self._slas = slas
        self._known: dict[str, float | None] = {}

    def of(self, asset: str) -> float | None:
        if asset not in self._known:
            if len(self._known) > 100_000:
                self._known.clear()
            option = self._slas.of(asset)
            written = option.availability if option is not None else None
            self._known[asset] = None if written is None else availability(written)
        return self._known[asset]


_RANKS: Final = ("", "INFO", "WARNING", "ERROR", "CRITICAL")
_SEVERITIES: Final[dict[str, Any]] = {rank: rank for rank in _RANKS}


def _words(watch: Watch, now_ns: int) -> str:
    if watch.last_ns:
        since = f"Last updated {span(max(0, now_ns - watch.last_ns))} ago ({moment(watch.last_ns)})"
    else:
        since = f"No update seen since {moment(watch.base_ns)} ({span(max(0, now_ns - watch.base_ns))})"
    target = watch.target
    if target is None:
        return f"{since}. Dagster calls it late."
    if target.cron:
        return f"{since}; the deadline `{target.cron}` ({target.zone}) was missed."
    promise = "its SLA allows" if target.source == "sla" else "its freshness policy allows"
    return f"{since}; {promise} {span(target.promised_ns)}."


def _kept(facts: AssetFacts) -> AssetFacts:
    """What an alert needs of them, and the policy."""
    metadata = {name: text for name, text in facts.metadata.items() if name in _ALERT_METADATA}
    return AssetFacts(
        facts.key,
        group=facts.group,
        owners=facts.owners,
        code_location=facts.code_location,
        freshness=facts.freshness,
        metadata=metadata,
    )


_ALERT_METADATA: Final = ("alert_severity_override", "alert_channels")


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
