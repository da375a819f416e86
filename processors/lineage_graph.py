"""All that is known of lineage, by source, in state; and the catalog that is built from it.

A source's last good word stays until it says something else, so a restart without a webserver knows the same. Edges of
the event log are only ever added. The catalog is built when it is asked for and dropped when a source says something
new. An edge that is learned is put into it: edges come at any time, what sources say once a minute or less.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, TypeVar

from pipeline.asset_graph import merged
from pipeline.components import State, Table
from pipeline.lineage import AssetFacts, Catalog, Exposure, Impact
from pipeline.signals import Edges
from processors.lineage_told import Told

V = TypeVar("V")

MAX_UPSTREAM: Final = 200
"""Assets upstream that an alert names."""


class LineageGraph:
    """`sources` are the names of those that may speak, in the order of their word; `inline` comes before them all."""

    def __init__(self, state: State, sources: Sequence[str], inline: Told) -> None:
        self._sources, self._inline = sources, inline
        self._edges: Table[str, tuple[str, ...]] = state.table("edges", str, tuple[str, ...], version=1)
        self._assets: Table[tuple[str, str], AssetFacts] = state.table("assets", tuple[str, str], AssetFacts, version=1)
        self._exposures: Table[tuple[str, str], Exposure] = state.table(
            "exposures", tuple[str, str], Exposure, version=1
        )
        self._catalog: Catalog | None = None
        self._impacts: dict[tuple[str, ...], Impact] = {}
        self._last: dict[str, Told] = {}
        self._whole = True

    def begin(self) -> None:
        """A call begins. If the one before was undone, the catalog may hold what it had learned."""
        if not self._whole:
            self._changed()
        self._whole = False

    def done(self) -> None:
        """The call has come to its end."""
        self._whole = True

    def learn(self, edges: Edges) -> None:
        """The event log told of edges."""
        known = self._edges.get(edges.asset)
        joined = tuple(dict.fromkeys((*(known or ()), *edges.upstream)))
        if joined != known:
            self._edges.put(edges.asset, joined)
            self._widen(edges.asset)

    def apply(self, source: str, said: Told) -> None:
        """What a source says now, instead of what it said before.

        No assets at all is no answer where there were some: a webserver whose code locations do not load says so, and
        that is when the impact matters.
        """
        if said is self._last.get(source) or (not said.assets and _of(self._assets, source)):
            return
        changed = _replace(self._assets, source, said.assets)
        changed |= _replace(self._exposures, source, {exposure.name: exposure for exposure in said.exposures})
        self._last[source] = said
        if changed:
            self._changed()

    def keep_only(self, sources: Collection[str]) -> None:
        """Forget what sources said that are configured no more."""
        for source in self._sources:
            if source not in sources:
                _replace(self._assets, source, {})
                _replace(self._exposures, source, {})
        self._changed()

    def facts(self, asset: str) -> AssetFacts | None:
        """What is known of the asset."""
        return self._current().assets.get(asset)

    def impact(self, assets: tuple[str, ...]) -> Impact:
        """What goes stale with them; one object for equal questions to the same graph."""
        catalog = self._current()
        impact = self._impacts.get(assets)
        if impact is None:
            impact = self._impacts[assets] = catalog.impact(*assets)
        return impact

    def upstream(self, asset: str) -> tuple[str, ...]:
        """What it is made from, nearest first."""
        return self._current().upstream(asset, MAX_UPSTREAM)

    def _current(self) -> Catalog:
        if self._catalog is None:
            stream = {key: AssetFacts(key, upstream=upstream) for key, upstream in self._edges.items()}
            assets = merged(self._inline.assets, *(_of(self._assets, name) for name in self._sources), stream)
            said = [self._inline.exposures, *(_of(self._exposures, name).values() for name in self._sources)]
            known = {exposure.name: exposure for group in reversed(said) for exposure in group}
            shown = {facts.key: _shown(facts) for facts in assets.values() if "exposure" in facts.metadata}
            # Sorted: tables come back from a restart in another order, and what is told must not depend on it.
            exposures = [exposure for _, exposure in sorted({**shown, **known}.items())]
            self._catalog, self._impacts = Catalog(assets, exposures), {}
        return self._catalog

    def _widen(self, asset: str) -> None:
        """The catalog, if it is built, with what the event log says of the asset by now.

        Exposures stay as they are: what is shown, and how, is no matter of edges (11 ms → 11 µs at 10,000 assets).
        """
        if self._catalog is None:
            return
        said = [self._inline.assets.get(asset), *(self._assets.get((name, asset)) for name in self._sources)]
        stream = AssetFacts(asset, upstream=self._edges.get(asset) or ())
        self._catalog.widen(merged(*({asset: facts} for facts in (*said, stream) if facts is not None))[asset])
        self._impacts.clear()

    def _changed(self) -> None:
        self._catalog = None


def _shown(facts: AssetFacts) -> Exposure:
    """By convention an asset with metadata `exposure` (its kind) is what people look at, under its own key."""
    kind = facts.metadata["exposure"] or "dashboard"
    return Exposure(facts.key, (facts.key,), kind, facts.owners, facts.metadata.get("url", ""))


def _of(table: Table[tuple[str, str], V], source: str) -> dict[str, V]:
    return {key: value for (name, key), value in table.items() if name == source}


def _replace(table: Table[tuple[str, str], V], source: str, rows: Mapping[str, V]) -> bool:
    """Make `rows` the source's rows, touching only what differs. Says whether anything did."""
    before = _of(table, source)
    changed = False
    for key, value in rows.items():
        if before.get(key) != value:
            table.put((source, key), value)
            changed = True
    for key in before.keys() - rows.keys():
        table.delete((source, key))
        changed = True
    return changed
