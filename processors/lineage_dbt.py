"""The lineage in a dbt manifest: models, seeds, snapshots, sources and exposures.

Asset keys are those that dagster-dbt gives by default: `meta.dagster.asset_key` where it is set; a source's name and
table; a versioned model's alias; else the configured schema, if there is one, and the name. Ephemeral models are no
assets: their parents are their children's. Source: https://schemas.getdbt.com/dbt/manifest/v12.json.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from pipeline.errors import DecodeError
from pipeline.lineage import AssetFacts, Exposure
from processors.lineage_told import Told

_ASSETS: Final = frozenset({"model", "seed", "snapshot"})


class _DagsterMeta(msgspec.Struct):
    asset_key: list[str] | None = None


class _Meta(msgspec.Struct):
    dagster: _DagsterMeta | None = None


class _Config(msgspec.Struct):
    schema: str | None = None
    materialized: str | None = None
    enabled: bool | None = None
    meta: _Meta | None = None


class _DependsOn(msgspec.Struct):
    nodes: list[str] | None = None


class _Node(msgspec.Struct):
    name: str
    resource_type: str
    alias: str | None = None
    version: str | int | float | None = None
    description: str | None = None
    source_name: str | None = None
    config: _Config | None = None
    meta: _Meta | None = None
    depends_on: _DependsOn | None = None


class _Owner(msgspec.Struct):
    name: str | list[str] | None = None
    email: str | list[str] | None = None


class _Exposure(msgspec.Struct):
    name: str
    label: str | None = None
    type: str | None = None
    url: str | None = None
    owner: _Owner | None = None
    depends_on: _DependsOn | None = None


class _Manifest(msgspec.Struct):
    nodes: dict[str, _Node]
    sources: dict[str, _Node] = {}
    exposures: dict[str, _Exposure] = {}


_decode = msgspec.json.Decoder(_Manifest).decode


def read_manifest(manifest: bytes, prefix: tuple[str, ...] = ()) -> Told:
    """What the manifest says; `prefix` stands before each key. Raises DecodeError."""
    try:
        decoded = _decode(manifest)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"no dbt manifest: {error}") from error
    nodes = {**decoded.sources, **decoded.nodes}
    keys = {id: "/".join((*prefix, *_key(node))) for id, node in nodes.items() if _is_asset(node)}
    assets = {
        keys[id]: AssetFacts(
            keys[id],
            upstream=_assets(_parents(node.depends_on), nodes, keys),
            kinds=("dbt",),
            description=node.description or "",
            executable=node.resource_type != "source",
        )
        for id, node in nodes.items()
        if id in keys
    }
    exposures = tuple(
        Exposure(
            exposure.label or exposure.name,
            _assets(_parents(exposure.depends_on), nodes, keys),
            exposure.type or "dashboard",
            _owners(exposure.owner),
            exposure.url or "",
        )
        for exposure in decoded.exposures.values()
    )
    return Told(assets, exposures)


def _is_asset(node: _Node) -> bool:
    if node.resource_type == "source":
        return True
    return node.resource_type in _ASSETS and not _is_ephemeral(node)


def _is_ephemeral(node: _Node) -> bool:
    return node.config is not None and node.config.materialized == "ephemeral"


def _key(node: _Node) -> list[str]:
    for meta in (node.config.meta if node.config else None, node.meta):
        if meta and meta.dagster and meta.dagster.asset_key:
            return meta.dagster.asset_key
    if node.resource_type == "source":
        return [node.source_name or "", node.name]
    if node.version is not None:
        return [node.alias or node.name]
    schema = node.config.schema if node.config else None
    return [schema, node.name] if schema else [node.name]


def _parents(depends_on: _DependsOn | None) -> Iterable[str]:
    return (depends_on.nodes or ()) if depends_on else ()


def _assets(ids: Iterable[str], nodes: Mapping[str, _Node], keys: Mapping[str, str]) -> tuple[str, ...]:
    """The asset keys behind `ids`; through what is no asset (an ephemeral model) to its own parents."""
    found: dict[str, None] = {}
    seen: set[str] = set()
    waiting = list(ids)[::-1]
    while waiting:
        id = waiting.pop()
        if id in seen:
            continue
        seen.add(id)
        if id in keys:
            found[keys[id]] = None
        elif id in nodes:
            waiting += list(_parents(nodes[id].depends_on))[::-1]
    return tuple(found)


def _owners(owner: _Owner | None) -> tuple[str, ...]:
    said = (owner.email or owner.name or ()) if owner else ()
    return (said,) if isinstance(said, str) else tuple(said)
