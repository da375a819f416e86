"""What is known of assets, by source: the last good word of each stays in state, and a catalog is made of all.

Single values come from the first source that has one, in the order: `assets` in the configuration, the `table` file,
the webserver, the `asset_graph` file; edges, owners, kinds and tags add up. Each shard makes its own catalog, out of
answers that are parsed once: equal versions mean equal content, whichever shard it is.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from fnmatch import translate
from functools import reduce
from typing import Final

import msgspec

from pipeline.asset_graph import merged
from pipeline.components import State, Table
from pipeline.lineage import AssetFacts, Catalog, Freshness
from pipeline.options import Duration

SOURCES: Final = ("table", "graphql", "asset_graph")
"""What is kept in state, in the order of its word."""
_WILD: Final = re.compile(r"[*?[]")


class FreshnessOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How fresh an asset has to be: within a window, or by a deadline."""

    fail: Duration | None = None
    """Its last update may be this old."""
    warn: Duration | None = None
    """From this age on it is worth a warning."""
    deadline_cron: str = ""
    """When it has to be there, as cron says it: `0 9 * * *`."""
    lower_bound: Duration | None = None
    """With `deadline_cron`: an update this long before the deadline counts."""
    timezone: str = ""
    """With `deadline_cron`: the time zone of the deadline, `Europe/Berlin`."""


class AssetOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What definitions would say of an asset, where no webserver can be asked, or say otherwise."""

    upstream: tuple[str, ...] = ()
    """Keys of the assets that it reads."""
    group: str = ""
    """Its group."""
    owners: tuple[str, ...] = ()
    """Addresses, or `team:name`."""
    kinds: tuple[str, ...] = ()
    """Kinds, such as `dbt`."""
    tags: dict[str, str] = {}
    """Its tags."""
    description: str = ""
    """What it is."""
    code_location: str = ""
    """The code location that defines it."""
    freshness: FreshnessOption | None = None
    """How fresh it has to be."""
    metadata: dict[str, str] = {}
    """Plain metadata: `alert_severity_override`, `alert_channels`, `layer`, …"""


class Said(msgspec.Struct, frozen=True):
    """What one source says: assets by key or pattern (`raw/*`). `version` grows with each change."""

    assets: Mapping[str, AssetFacts]
    version: int


def facts_of(options: Mapping[str, AssetOption]) -> dict[str, AssetFacts]:
    """What was written, as facts; keys and patterns alike."""
    return {key: _facts(key, option) for key, option in options.items()}


def _facts(key: str, option: AssetOption) -> AssetFacts:
    return AssetFacts(
        key,
        upstream=option.upstream,
        group=option.group,
        owners=option.owners,
        kinds=option.kinds,
        tags=option.tags,
        description=option.description,
        code_location=option.code_location,
        freshness=_freshness(option.freshness),
        metadata=option.metadata,
    )


def _freshness(option: FreshnessOption | None) -> Freshness | None:
    if option is None:
        return None
    return Freshness(
        fail_s=_whole(option.fail),
        warn_s=_whole(option.warn),
        deadline_cron=option.deadline_cron or None,
        lower_bound_s=_whole(option.lower_bound),
        timezone=option.timezone or None,
    )


def _whole(span: Duration | None) -> int | None:
    return None if span is None else round(span)


class Patterns:
    """Facts that were written for all keys of a shape; `*` also stands for a `/`. The first that fits comes first."""

    def __init__(self, assets: Mapping[str, AssetFacts]) -> None:
        self._patterns = [(re.compile(translate(key)), facts) for key, facts in assets.items() if _WILD.search(key)]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def of(self, key: str) -> AssetFacts | None:
        """What the patterns say of this key, None if none fits."""
        found = [msgspec.structs.replace(facts, key=key) for shape, facts in self._patterns if shape.match(key)]
        return reduce(lambda a, b: merged({key: a}, {key: b})[key], found) if found else None


class PatternedAssets(Mapping[str, AssetFacts]):
    """Assets of a graph; one that the graph does not have is found if a pattern fits its key. Counts the graph's."""

    def __init__(self, assets: Mapping[str, AssetFacts], patterns: Patterns) -> None:
        self._assets, self._patterns = assets, patterns

    def __getitem__(self, key: str) -> AssetFacts:
        found = self._assets.get(key) or self._patterns.of(key)
        if found is None:
            raise KeyError(key)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._assets)

    def __len__(self) -> int:
        return len(self._assets)


class KnownAssets:
    """All that is known of assets in one shard. `inline` is what the configuration says; its word comes first."""

    def __init__(self, state: State, inline: Mapping[str, AssetFacts], sources: Collection[str]) -> None:
        self._inline = inline
        self._rows: Table[tuple[str, str], AssetFacts] = state.table("assets", tuple[str, str], AssetFacts, version=1)
        self._versions: Table[str, int] = state.table("versions", str, int, version=1)
        self._last: dict[str, Said] = {}
        for source in SOURCES:
            if source not in sources:
                self._replace(source, {})
                self._versions.delete(source)
        self.catalog = self._joined()
        """The graph in force; None while nothing is known."""

    def apply(self, source: str, said: Said) -> None:
        """What a source says now, instead of what it said before.

        No assets at all is no answer where there were some: a webserver whose code locations do not load says so.
        """
        if said is self._last.get(source) or (not said.assets and self._of(source)):
            return
        if self._replace(source, said.assets):
            self._versions.put(source, said.version)
            self.catalog = self._joined()
        self._last[source] = said

    def _replace(self, source: str, assets: Mapping[str, AssetFacts]) -> bool:
        """Make these the source's rows, touching only what differs. Whether anything did."""
        before = self._of(source)
        for key, facts in assets.items():
            if before.get(key) != facts:
                self._rows.put((source, key), facts)
        for key in before.keys() - assets.keys():
            self._rows.delete((source, key))
        return before != assets

    def _of(self, source: str) -> dict[str, AssetFacts]:
        return {key: facts for (name, key), facts in self._rows.items() if name == source}

    def _joined(self) -> Catalog | None:
        written = [self._inline, self._of("table")]
        told = [self._of("graphql"), self._of("asset_graph")]
        keys = {key for graph in (*written, *told) for key in graph if not _WILD.search(key)}
        assets = merged(*(_for_keys(graph, keys) for graph in written), *told)
        patterns = Patterns({key: facts for graph in reversed(written) for key, facts in graph.items()})
        if not assets and not patterns:
            return None
        catalog = Catalog(assets, version=max((version for _, version in self._versions.items()), default=0))
        if patterns:
            catalog.assets = PatternedAssets(catalog.assets, patterns)
        return catalog


def _for_keys(written: Mapping[str, AssetFacts], keys: Collection[str]) -> dict[str, AssetFacts]:
    """What was written for exactly these keys, and what patterns say of them."""
    patterns = Patterns(written)
    exact = {key: facts for key, facts in written.items() if not _WILD.search(key)}
    by_pattern = {key: facts for key in sorted(keys) if patterns and (facts := patterns.of(key))}
    return merged(exact, by_pattern)
