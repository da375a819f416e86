"""What is promised of each asset: the service levels that are written, else its freshness policy in Dagster.

Of the asset graph only that is kept which a promise or an alert needs, so that both are known before the first graph.
"""

from collections.abc import Iterator
from typing import Final

from connectors.freshness_options import FreshnessConfig
from connectors.sla import Slas, Target, availability, target_of
from pipeline.components import State, Table
from pipeline.lineage import AssetFacts, Catalog

_ALERT_METADATA: Final = ("alert_severity_override", "alert_channels")


class Promises:
    """`sla:` and the policies of the latest asset graph."""

    def __init__(self, config: FreshnessConfig, state: State) -> None:
        self._config = config
        self._facts: Table[str, AssetFacts] = state.table("facts", str, AssetFacts, version=1)
        self._slas = Slas(config.sla)
        self._shares: dict[str, float | None] = {}

    def named(self) -> list[str]:
        """The assets that are written out in `sla:`."""
        return self._slas.named()

    def written(self, asset: str) -> bool:
        """Whether `sla:` says something of it."""
        return self._slas.of(asset) is not None

    def each(self, asset: str) -> bool:
        """Whether each of its partitions is promised something by itself."""
        option = self._slas.of(asset)
        return option is not None and option.partitions == "each"

    def share(self, asset: str) -> float | None:
        """The availability that is promised of it, looked up once."""
        if asset not in self._shares:
            if len(self._shares) > 100_000:
                self._shares.clear()
            option = self._slas.of(asset)
            written = option.availability if option is not None else None
            self._shares[asset] = None if written is None else availability(written)
        return self._shares[asset]

    def facts(self, asset: str) -> AssetFacts | None:
        """What the asset graph said of it; None of one to which nothing is promised."""
        return self._facts.get(asset)

    def learn(self, catalog: Catalog) -> Iterator[str]:
        """The assets of this graph of which something is promised, each once its facts are kept."""
        for asset, facts in catalog.assets.items():
            if not self.written(asset) and not (facts.freshness and self._config.policies):
                self._facts.delete(asset)
                continue
            kept = _kept(facts)
            if self._facts.get(asset) != kept:
                self._facts.put(asset, kept)
            yield asset

    def target(self, asset: str, partition: str, by_parts: bool) -> Target | None:
        """When it is late ("": the asset itself). `by_parts`: it has partitions, that speak for it where each has to.

        Raises ValueError for a policy that cannot be read.
        """
        facts = self._facts.get(asset) if self._config.policies else None
        target = target_of(self._slas.of(asset), facts, self._config.critical_after)
        if target is None or target.each == bool(partition):
            return target
        return target if target.each and not by_parts else None


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
