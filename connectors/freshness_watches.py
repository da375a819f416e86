"""The watches over all assets and partitions: kept in state, in the order in which they are due, and what is told of
them. `connectors.freshness_watch` decides for one.
"""

from collections.abc import Callable, Iterator

from connectors import freshness_watch
from connectors.freshness_options import FreshnessConfig
from connectors.freshness_promises import Promises
from connectors.freshness_watch import Turn, Watch
from connectors.sla import Target
from connectors.timers import Timers
from pipeline.clock import DAY, SECOND
from pipeline.components import Context, Table
from pipeline.conditions import Conditions, Of
from pipeline.lineage import Catalog
from pipeline.signals import Alert

Key = tuple[str, str]
"""Asset and partition; "" is the asset itself."""


class Watches:
    """`noted` is told each asset that is watched from now on."""

    def __init__(
        self,
        config: FreshnessConfig,
        context: Context,
        promises: Promises,
        findings: Conditions,
        noted: Callable[[str], None],
    ) -> None:
        self._watches: Table[Key, Watch] = context.state.table("watches", tuple[str, str], Watch, version=1)
        self._config, self._log, self._again_ns = config, context.log, config.again.ns
        self._promises, self._findings, self._new = promises, findings, noted
        self.timers: Timers[Key] = Timers(
            lambda: ((watch.due_ns, key) for key, watch in self._watches.items()),
            lambda key: watch.due_ns if (watch := self._watches.get(key)) else None,
        )
        self._said: set[str] = set()
        self.reckon()

    def reckon(self) -> None:
        """What is kept beside the table, from the table: after a start, and after a call that raised."""
        self._parts: dict[str, set[str]] = {}  # of each asset
        self._assets = 0
        for key, _ in self._watches.items():
            self._noted(key)
        self.settled = False
        """Whether what is promised today holds for every watch; `settle` sees to it."""
        self.version = -1
        """Of the asset graph that is in force."""

    # --- what was promised ---

    def settle(self, now_ns: int) -> None:
        """Once after a start: assets that are written out are watched from now on, and changed targets hold."""
        self.settled = True
        for asset in self._promises.named():
            self.watched(asset, now_ns)
        for key, watch in list(self._watches.items()):
            self._aim(key, watch, now_ns)

    def learn(self, catalog: Catalog, now_ns: int) -> None:
        """A graph is in force. One that is older than the last, or empty (nobody could be asked), says nothing."""
        if not catalog.assets or catalog.version < self.version:
            return
        self.version = catalog.version
        for asset in self._promises.learn(catalog):
            self.watched(asset, now_ns)
        for key, watch in list(self._watches.items()):
            if key[0] in catalog.assets:
                self._aim(key, watch, now_ns)
            elif watch.target is not None and watch.target.source == "policy" and not watch.ends_ns:
                leaving = freshness_watch.leaving(watch, now_ns, self._config.gone_after.ns, self._again_ns)
                self._put(key, leaving)

    def watched(self, asset: str, now_ns: int) -> Watch | None:
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

    def _aim(self, key: Key, watch: Watch, now_ns: int) -> None:
        """The target of today, if it is another."""
        target = self._target(key)
        if target != watch.target or (watch.ends_ns and self._promises.facts(key[0]) is not None):
            self._put(key, freshness_watch.retargeted(watch, target, now_ns))

    def _target(self, key: Key) -> Target | None:
        asset, partition = key
        try:
            return self._promises.target(asset, partition, bool(self._parts.get(asset)))
        except ValueError as error:
            self._say_once(f"policy {asset}", "A freshness policy cannot be read.", asset=asset, error=str(error))
            return None

    # --- what happens ---

    def updated(self, asset: str, partition: str | None, at_ns: int, now_ns: int) -> list[Alert]:
        """The asset, or a partition of it, was updated at `at_ns`."""
        watch = self.watched(asset, now_ns)
        if watch is None:
            return []
        at_ns = now_ns if at_ns > now_ns + DAY else at_ns
        given = self._turned((asset, ""), freshness_watch.updated(watch, at_ns, now_ns, self._again_ns), now_ns)
        if partition and self._promises.each(asset):
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

    def said(self, asset: str, state: str, before: str, at_ns: int, now_ns: int) -> list[Alert]:
        """Dagster's own word of the asset."""
        watch = self.watched(asset, now_ns)
        if watch is None:
            return []
        turn = freshness_watch.said(watch, state, before, min(at_ns, now_ns + DAY), now_ns, self._again_ns)
        return self._turned((asset, ""), turn, now_ns)

    def wiped(self, asset: str, partitions: tuple[str, ...], now_ns: int) -> list[Alert]:
        """These partitions were wiped; none named: all of the asset."""
        given: list[Alert] = []
        for key in sorted((asset, part) for part in partitions or (*self._parts.get(asset, ()), "")):
            watch = self._watches.get(key)
            if watch is None:
                continue
            given += self._turned(key, freshness_watch.wiped(watch, now_ns), now_ns)
            if key[1]:
                self._watches.delete(key)
                self._parts[asset].discard(key[1])
        whole = self._watches.get((asset, ""))
        if whole is not None:
            self._aim((asset, ""), whole, now_ns)  # without partitions it speaks for itself again
        return given

    def over(self, now_ns: int) -> list[Alert]:
        """What is late by now."""
        given: list[Alert] = []
        for key in self.timers.over(now_ns):
            watch = self._watches.get(key)
            if watch is not None:
                given += self._turned(key, freshness_watch.judged(watch, now_ns, self._again_ns), now_ns)
        return given

    # --- what comes of it ---

    def figures(self, asset: str, now_ns: int) -> Iterator[tuple[str, float]]:
        """How old it is, what is promised, and whether that is kept."""
        watch = self._watches.get((asset, ""))
        if watch is None or watch.gone:
            return
        if watch.last_ns:
            yield "asset_freshness_seconds", max(0.0, (now_ns - watch.last_ns) / SECOND)
        parts = [self._watches.get((asset, partition)) for partition in self._parts.get(asset, ())]
        all_of = [each for each in (watch, *parts) if each is not None]
        target = next((each.target for each in all_of if each.target is not None), None)
        if target is not None and target.promised_ns:
            yield "asset_sla_freshness_target_seconds", target.promised_ns / SECOND
        if target is not None or watch.told:
            yield "asset_sla_freshness_breached", float(any(each.told for each in all_of))

    def _turned(self, key: Key, turn: Turn, now_ns: int) -> list[Alert]:
        self._put(key, turn.watch)
        of = Of(asset=key[0], partition=key[1] or None)
        if turn.recovered:
            return [self._findings.recovered("sla_breach", of, now_ns, turn.watch.last_ns)]
        if turn.severity is None:
            return []
        words, facts = freshness_watch.in_words(turn.watch, now_ns), self._promises.facts(key[0])
        return [
            self._findings.failing(
                "sla_breach", turn.severity, "Freshness SLA Breached", words, of, now_ns, facts=facts
            )
        ]

    def _put(self, key: Key, watch: Watch) -> None:
        if self._watches.get(key) != watch:
            self._watches.put(key, watch)
            self.timers.set(watch.due_ns, key)

    def _noted(self, key: Key) -> None:
        if key[1]:
            self._parts.setdefault(key[0], set()).add(key[1])
        else:
            self._assets += 1
            self._new(key[0])

    def _say_once(self, what: str, message: str, **facts: object) -> None:
        if what not in self._said and len(self._said) < 100:
            self._said.add(what)
            self._log.warning(message, extra=facts)
