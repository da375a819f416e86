"""Lineage that people write down: exposures, externals and assets in YAML, inline or in a file of their own."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from pipeline.asset_graph import merged
from pipeline.errors import ConfigError
from pipeline.lineage import AssetFacts, Exposure
from pipeline.yaml_file import load_yaml


class Told(msgspec.Struct, frozen=True):
    """What one source says: assets by key, and exposures."""

    assets: Mapping[str, AssetFacts] = {}
    exposures: tuple[Exposure, ...] = ()


class ExposureOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something outside Dagster that people look at: a dashboard, a report, an API."""

    name: str
    """Its name as people know it: `Glucose Overview`."""
    upstream: tuple[str, ...] = ()
    """Keys of the assets that it shows."""
    kind: str = "dashboard"
    """What it is: `dashboard`, `report`, `api`, …"""
    owners: tuple[str, ...] = ()
    """Who looks after it."""
    url: str = ""
    """Where it is."""


class ExternalOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something outside Dagster that assets are made from: an API, a database, a file drop."""

    name: str
    """Its name; it stands in the graph as an asset of this key."""
    feeds: tuple[str, ...] = ()
    """Keys of the assets that read it."""
    description: str = ""
    """What it is: `Fetched via DLT rest_api`."""
    kind: str = ""
    """What sort of system: `api`, `postgres`, …"""
    owners: tuple[str, ...] = ()
    """Who looks after it."""


class AssetOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What definitions would say of an asset, where no webserver can be asked."""

    upstream: tuple[str, ...] = ()
    """Keys of the assets that it reads."""
    group: str = ""
    """Its group."""
    owners: tuple[str, ...] = ()
    """Addresses, or `team:name`."""
    kinds: tuple[str, ...] = ()
    """Kinds, such as `dbt`."""
    description: str = ""
    """What it is."""
    metadata: dict[str, str] = {}
    """Plain metadata: `alert_severity_override`, `alert_channels`, `layer`, …"""


class LineageFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file that `file` names."""

    exposures: tuple[ExposureOption, ...] = ()
    externals: tuple[ExternalOption, ...] = ()
    assets: dict[str, AssetOption] = {}


def read_lineage_file(path: Path) -> Told:
    """The YAML file at `path`. Raises ConfigError, which names what is wrong and where."""
    content = load_yaml(path)
    try:
        written = msgspec.convert({} if content is None else content, LineageFile)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    return told(written.exposures, written.externals, written.assets)


def told(
    exposures: Iterable[ExposureOption], externals: Iterable[ExternalOption], assets: Mapping[str, AssetOption]
) -> Told:
    """What was written, as facts. An external is an asset that is not executed, and an edge to each that it feeds."""
    facts = {key: _facts(key, option) for key, option in assets.items()}
    return Told(
        merged(facts, *(_external(option) for option in externals)),
        tuple(Exposure(e.name, e.upstream, e.kind, e.owners, e.url) for e in exposures),
    )


def _facts(key: str, option: AssetOption) -> AssetFacts:
    return AssetFacts(
        key,
        upstream=option.upstream,
        group=option.group,
        owners=option.owners,
        kinds=option.kinds,
        description=option.description,
        metadata=option.metadata,
    )


def _external(option: ExternalOption) -> dict[str, AssetFacts]:
    system = AssetFacts(
        option.name,
        owners=option.owners,
        kinds=(option.kind,) if option.kind else (),
        description=option.description,
        executable=False,
    )
    return {option.name: system, **{key: AssetFacts(key, upstream=(option.name,)) for key in option.feeds}}
