"""Where facts of assets come from: files and a webserver, asked in the background, parsed once for all shards.

A source gives the same object while nothing has changed. Its version is the wall's time of the change: that grows over
restarts, and is the same in every shard.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

import anyio.to_thread
import msgspec

from pipeline.asset_graph import fetch_asset_graph, parse_asset_nodes
from pipeline.clock import Clock
from pipeline.errors import ConfigError, DecodeError, RetryableError
from pipeline.http import HttpClient
from pipeline.lineage import AssetFacts
from pipeline.options import Duration, Secret
from pipeline.yaml_file import load_yaml
from processors.enrichment_assets import AssetOption, Said, facts_of

Assets: TypeAlias = Mapping[str, AssetFacts]


class GraphqlOption(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Dagster webserver to ask for the asset graph."""

    url: str = ""
    """Its address, `http://localhost:3000`. Empty: none is asked."""
    headers: dict[str, Secret] = {}
    """Further headers, such as `Dagster-Cloud-Api-Token`."""
    interval: Duration = Duration("60s")
    """How often to ask."""
    timeout: Duration = Duration("30s")
    """How long an answer may take."""


class _Versions:
    """Gives the last answer again while it says the same."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.last: Said | None = None

    def of(self, assets: Assets) -> Said:
        if self.last is None or self.last.assets != assets:
            self.last = Said(assets, self._clock.wall_ns())
        return self.last


class FileSource:
    """A file that is read again when its time or size has changed."""

    def __init__(self, path: str, parse: Callable[[Path], Assets], clock: Clock) -> None:
        self._path, self._parse = Path(path), parse
        self._versions = _Versions(clock)
        self._seen: tuple[int, int] | None = None

    async def fetch(self) -> Said:
        """What it says now. Raises RetryableError while it is missing or broken: what it said before stands."""
        return await anyio.to_thread.run_sync(self._fetch)

    def _fetch(self) -> Said:
        try:
            status = self._path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if self._versions.last is None or seen != self._seen:
                self._versions.of(self._parse(self._path))
                self._seen = seen
        except OSError as error:
            raise RetryableError(f"{self._path} cannot be read: {error.strerror}") from error
        except (ConfigError, DecodeError) as error:
            raise RetryableError(f"{self._path}: {error}") from error
        assert self._versions.last is not None
        return self._versions.last


class WebserverSource:
    """Dagster's webserver."""

    def __init__(self, http: HttpClient, option: GraphqlOption, clock: Clock) -> None:
        self._http, self._option = http, option
        self._versions = _Versions(clock)

    async def fetch(self) -> Said:
        """What it says now. Raises RetryableError."""
        headers = {name: value.reveal() for name, value in self._option.headers.items()}
        url, timeout_s = self._option.url, self._option.timeout
        return self._versions.of(await fetch_asset_graph(self._http, url, headers, timeout_s))


def read_asset_graph(path: Path) -> Assets:
    """A webserver's answer in a file. Raises OSError, DecodeError."""
    return parse_asset_nodes(path.read_bytes())


class _TableFile(msgspec.Struct):
    """The `table` file; it may be the one that `lineage_impact` reads, so other parts are none of ours."""

    assets: dict[str, AssetOption] = {}


def read_table(path: Path) -> Assets:
    """The `assets` of a YAML file. Raises ConfigError, which names what is wrong and where."""
    content = load_yaml(path)
    try:
        written = msgspec.convert({} if content is None else content, _TableFile, dec_hook=_duration)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}") from error
    return facts_of(written.assets)


def _duration(kind: type, value: object) -> object:
    if kind is Duration and isinstance(value, str | int | float):
        return Duration(value)
    raise NotImplementedError(f"{kind} cannot be made of {value!r}")
