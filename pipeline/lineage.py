"""The asset graph as a value: what exists, who owns it, what depends on what. Pure; no I/O.

Edges come from several places (a webserver's answer, a dbt manifest, YAML, the stream); whoever reads them builds
an `AssetGraph`, and `merged` joins them. An asset key is its parts joined by "/".
"""

from collections import deque
from collections.abc import Iterable, Mapping

import msgspec


class Freshness(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A freshness policy: a time window (seconds) or a cron deadline. Source: Dagster's FreshnessPolicy."""

    fail_s: int | None = None
    warn_s: int | None = None
    deadline_cron: str | None = None
    lower_bound_s: int | None = None
    timezone: str | None = None


class AssetFacts(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What definitions say of an asset. `upstream` are the keys that it reads."""

    key: str
    upstream: tuple[str, ...] = ()
    group: str = ""
    owners: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    description: str = ""
    code_location: str = ""
    jobs: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    partitioned: bool = False
    executable: bool = True
    freshness: Freshness | None = None
    metadata: dict[str, str] = {}  # text of plain metadata: alert_severity_override, alert_channels, layer, …


class Exposure(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Something outside Dagster that people look at, made from assets: a dashboard, a report, an API.

    Source: dbt's `exposures`, or `exposures:` in our YAML. `upstream` are asset keys.
    """

    name: str
    upstream: tuple[str, ...]
    kind: str = "dashboard"
    owners: tuple[str, ...] = ()
    url: str = ""


class Impact(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What goes stale when an asset fails. `assets` maps each to its shortest distance in hops, nearest first.

    `exposure_kinds` says of each of `exposures` what it is ("dashboard").
    """

    assets: dict[str, int] = {}
    exposures: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    exposure_kinds: tuple[str, ...] = ()


class Catalog:
    """An asset graph in force. Immutable for whoever is handed one; `version` counts up with each change.

    Children are indexed, so that `impact` costs O(edges below the asset).
    """

    __slots__ = ("_children", "_known", "assets", "exposures", "version")

    def __init__(
        self,
        assets: Mapping[str, AssetFacts],
        exposures: Iterable[Exposure] = (),
        version: int = 0,
    ) -> None:
        self._known = dict(assets)
        self.assets: Mapping[str, AssetFacts] = self._known
        self.exposures: tuple[Exposure, ...] = tuple(exposures)
        self.version = version
        self._children: dict[str, list[str]] = {}  # in no order: what is walked is sorted in the end
        for key, facts in self._known.items():
            self._index(key, set(facts.upstream))

    def widen(self, facts: AssetFacts) -> None:
        """Put `facts` in the place of what was known of their asset; they read all that it read, or more. O(its edges).

        For whoever built the catalog and has shown it to nobody: others count on its staying as it is.
        """
        known = self._known.get(facts.key)
        self._known[facts.key] = facts
        self._index(facts.key, set(facts.upstream).difference(known.upstream if known else ()))
        self.version += 1

    def _index(self, key: str, parents: Iterable[str]) -> None:
        for parent in parents:
            self._children.setdefault(parent, []).append(key)

    def downstream(self, asset: str) -> dict[str, int]:
        """Every asset that reads `asset`, directly or not, with its shortest distance; nearest first, then by key.

        An unknown asset has none. Cycles are walked once; `asset` itself is never part of the answer.
        """
        distances: dict[str, int] = {}
        queue: deque[tuple[str, int]] = deque([(asset, 0)])
        while queue:
            key, distance = queue.popleft()
            for child in self._children.get(key, ()):
                if child != asset and child not in distances:
                    distances[child] = distance + 1
                    queue.append((child, distance + 1))
        return dict(sorted(distances.items(), key=lambda item: (item[1], item[0])))

    def upstream(self, asset: str, most: int) -> tuple[str, ...]:
        """What `asset` is made from, directly or not, nearest first and then by key; at most so many."""
        found: dict[str, None] = {}
        level = [asset]
        while level and len(found) < most:
            parents = {parent for key in level if key in self.assets for parent in self.assets[key].upstream}
            level = sorted(parents - found.keys() - {asset})
            found.update(dict.fromkeys(level))
        return tuple(found)[:most]

    def impact(self, *assets: str) -> Impact:
        """What goes stale when `assets` fail: others, the exposures that show any of all these, and who owns what."""
        stale = self.downstream(assets[0]) if len(assets) == 1 else self._downstream(assets)
        touched = {*assets, *stale}
        shown = [e for e in self.exposures if touched.intersection(e.upstream)]
        owners: dict[str, None] = {}
        for key in stale:
            facts = self.assets.get(key)
            owners.update(dict.fromkeys(facts.owners or ((facts.group,) if facts.group else ()) if facts else ()))
        for exposure in shown:
            owners.update(dict.fromkeys(exposure.owners))
        return Impact(stale, tuple(e.name for e in shown), tuple(owners), tuple(e.kind for e in shown))

    def _downstream(self, assets: tuple[str, ...]) -> dict[str, int]:
        """Of several: each at its shortest distance, nearest first, and none of themselves."""
        hops: dict[str, int] = {}
        for asset in assets:
            for key, distance in self.downstream(asset).items():
                hops[key] = min(distance, hops.get(key, distance))
        return dict(
            sorted(((key, n) for key, n in hops.items() if key not in assets), key=lambda found: (found[1], found[0]))
        )


EMPTY = Catalog({})
