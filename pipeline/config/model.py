"""What a configuration file says, typed. The docstrings here are the text of docs/configuration.md.

Component blocks stay raw (`Yaml`): their types are known once the plugins are found (`pipeline.topology`).
"""

import re
from collections.abc import Iterator
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from pipeline.addresses import address_fault, is_loopback
from pipeline.errors import Problem
from pipeline.http import Tls
from pipeline.options import Duration, Secret, Size
from pipeline.yaml_tree import Yaml

LEAST_TOKEN: Final = 16
LEAST_SECRET: Final = 32
_SCHEMA: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


class PipelineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One pipeline. Its id is a signal, or `signal/name`: `events`, `traces`, `metrics`, `logs`, `alerts/night`."""

    receivers: tuple[str, ...] = ()
    """Ids of the receivers that feed it, and of connectors that other pipelines export to."""
    processors: tuple[str, ...] = ()
    """Ids of its processors, in the order in which items pass them."""
    exporters: tuple[str, ...] = ()
    """Ids of the exporters that its items go to, and of connectors that feed other pipelines."""


class IntakeConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is read at once. Reading pauses on its own while an exporter with `on_full: block` has no room."""

    max_bytes: Size = Size("8MiB")
    """Bytes that were read and are not yet processed, all receivers together, at most."""
    max_items: int = 5000
    """Items in one batch at most."""
    tell_after: Duration = Duration("1m")
    """No input taken for so long is told, as an alert of kind `pipeline_silent`. 0: never."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from _at_least_one(self, "max_bytes", "max_items")


class PostgresqlState(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """State in a PostgreSQL database, for several processes or machines (docs/cluster.md)."""

    url: Secret
    """The database: `postgresql://user:password@host:5432/name`; write `${env:NAME}`. A direct connection, or a pooler
    that keeps a session to one connection."""
    schema: str = "dagtel"
    """The schema in it, made if it is not there. Daemons that share the work share it; others need one of their own."""

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.url.reveal().startswith(("postgresql://", "postgres://")):
            yield "url", "is no URL of PostgreSQL; write for example `postgresql://user:password@host:5432/name`"
        if not _SCHEMA.fullmatch(self.schema):
            yield "schema", "must be small letters, digits and `_`, 63 at most, and begin with a letter"


class StateConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where positions, component state and payloads that wait to be sent are kept: in a file, or in PostgreSQL."""

    path: str = "dagtel-state.db"
    """The SQLite file; one daemon owns it at a time. Not used with `postgresql`."""
    postgresql: PostgresqlState | None = None
    """In PostgreSQL instead of the file."""
    moved: dict[str, str] = {}
    """State of components that were renamed: old id → new id."""
    forget: tuple[str, ...] = ()
    """Ids of components whose stored state is thrown away at the start, because they are gone or begin anew;
    `exporters.ID` throws away the payloads that an exporter has not sent."""


class DeadLettersConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Input that could not be decoded, items on which a component raises, payloads that a backend refuses."""

    queue_size: Size = Size("256MiB")
    """Bytes of dead letters kept on disk; then the oldest go, counted."""
    exporters: tuple[str, ...] = ()
    """Exporters that take logs: each dead letter is also sent there as a log record."""


class MetricsTelemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's own metrics, for Prometheus."""

    address: str = "127.0.0.1:8888"
    """Where `/metrics` is served, as `host:port`; `""` turns it off."""
    level: Literal["none", "basic", "normal", "detailed"] = "normal"
    """`none` measures nothing, `detailed` tells failed sends by their error; `basic` and `normal` are alike."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from address_fault("address", self.address, "127.0.0.1:8888")


class HealthTelemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether the daemon lives and each pipeline is ready."""

    address: str = "127.0.0.1:13133"
    """Where `/healthz` and `/readyz` are served, as `host:port`; `""` turns them off."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from address_fault("address", self.address, "127.0.0.1:8888")


class LokiTelemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Sends the daemon's own log to Loki as well, one record a request, beside the pipelines."""

    url: str
    """The push address: `http://loki:3100/loki/api/v1/push`."""
    labels: dict[str, str] = {}
    """Labels of its stream, beside `service_name`."""


class LogsTelemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's own log, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """The least level that is written."""
    format: Literal["text", "json"] = "text"
    """A line for people, or a JSON object a line."""
    loki: LokiTelemetry | None = None
    """Off when it is not there."""


class TracesTelemetry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's own spans (a batch, a checkpoint, a send), by OTLP over HTTP."""

    endpoint: str = ""
    """The OTLP address: `http://jaeger:4318`; `""` turns them off."""
    headers: dict[str, Secret] = {}
    """Headers of each request."""


class TelemetryConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the daemon says about itself."""

    metrics: MetricsTelemetry = MetricsTelemetry()
    health: HealthTelemetry = HealthTelemetry()
    logs: LogsTelemetry = LogsTelemetry()
    traces: TracesTelemetry = TracesTelemetry()


class WebserverConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Dagster's webserver, which launches what is retried."""

    url: str = ""
    """Its address, or its `/graphql` itself: `http://dagster-webserver:3000`; empty: there is no Retry."""
    headers: dict[str, Secret] = {}
    """Headers of each call, such as `Dagster-Cloud-Api-Token`; write `${env:NAME}`."""
    timeout: Duration = Duration("20s")
    """How long a launch may take: Dagster loads the code location first."""
    tls: Tls = Tls()
    """TLS of the connection."""

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from _http("url", self.url)
        if self.timeout <= 0:
            yield "timeout", "must be more than 0"


class ApiConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What people and programs do with alerts over HTTP: the API (docs/api.md), and the links in messages that act
    (docs/acting.md)."""

    address: str = ""
    """Where `/api/v1` and the links' pages are served, as `host:port`; `""` turns them off."""
    token: Secret = Secret("")
    """What callers of the API send as `Authorization: Bearer …`, 16 characters at least: `${env:DAGTEL_API_TOKEN}`.
    Required when `address` is more than this machine. Links do not need it: each carries its own permission."""
    url: str = ""
    """The address by which people reach the pages: `https://dagtel.example.com`. Without it messages have no links that
    act."""
    secret: Secret = Secret("")
    """The key that links are signed with, 32 characters at least: `${env:DAGTEL_LINK_SECRET}`. Several with commas
    between: the last one signs, all are accepted. Empty: one is made at the first start and kept in the state store."""
    link_lifetime: Duration = Duration("3 days")
    """How long a link in a message works; four weeks at most."""
    dagster: WebserverConfig = WebserverConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from address_fault("address", self.address, "127.0.0.1:8890")
        yield from _http("url", self.url)
        if self.address and not self.token and not is_loopback(self.address):
            yield "token", f"is required, as {self.address} can be reached from other machines"
        if self.token and len(self.token.reveal()) < LEAST_TOKEN:
            yield "token", f"has less than {LEAST_TOKEN} characters: it could be guessed"
        if self.secret and any(len(key) < LEAST_SECRET for key in self.secrets()):
            yield "secret", f"has a key of less than {LEAST_SECRET} characters: it could be guessed"
        if self.url and not self.address:
            yield "url", "leads to pages that are not served: set `address`"
        if self.link_lifetime <= 0:
            yield "link_lifetime", "must be more than 0"
        if self.link_lifetime > Duration("4 weeks"):
            yield "link_lifetime", "must be four weeks at most: what a link did is remembered for 30 days"

    def secrets(self) -> tuple[str, ...]:
        """The keys that are configured."""
        return tuple(key.strip() for key in self.secret.reveal().split(",") if key.strip())


class ServiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the configured components work together."""

    pipelines: dict[str, PipelineConfig] = {}
    """Pipelines by id. Each carries one signal from its receivers through its processors to its exporters."""
    extensions: tuple[str, ...] = ()
    """Ids of the extensions that run with the service."""
    clock: Literal["system", "events"] = "system"
    """What timers follow: the wall clock, or the time of the events (for files and replays)."""
    checkpoint_interval: Duration = Duration("1s")
    """How often positions, state and payloads are committed; nothing is sent before."""
    shutdown_timeout: Duration = Duration("30s")
    """How long a stop may take to finish what is in flight."""
    intake: IntakeConfig = IntakeConfig()
    state: StateConfig = StateConfig()
    dead_letters: DeadLettersConfig = DeadLettersConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    api: ApiConfig = ApiConfig()

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.checkpoint_interval <= 0:
            yield "checkpoint_interval", "must be more than 0"


class Config(msgspec.Struct, frozen=True):
    """A configuration as read: component blocks by id, raw, and the service.

    `tree` is the merged source, for the lines of later problems; `files` are its files in the order in which they were
    merged; `faults` is what reading found, so that planning can report all at once; `outside` are the files that
    `${file:…}` named.
    """

    receivers: dict[str, Yaml]
    processors: dict[str, Yaml]
    connectors: dict[str, Yaml]
    exporters: dict[str, Yaml]
    extensions: dict[str, Yaml]
    service: ServiceConfig
    tree: Yaml
    files: tuple[str, ...] = ()
    faults: tuple[Problem, ...] = ()
    outside: tuple[str, ...] = ()


def _at_least_one(block: msgspec.Struct, *names: str) -> Iterator[tuple[str, str]]:
    for name in names:
        if getattr(block, name) < 1:
            yield name, "must be at least 1"


def _http(name: str, url: str) -> Iterator[tuple[str, str]]:
    """A fault when `url` is neither "" nor the address of a website, without a question or a password in it."""
    if not url:
        return
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or any(c.isspace() for c in url):
        yield name, "begins with http:// or https://, and names a host"
    elif parts.query or parts.fragment or "@" in parts.netloc:
        yield name, "is an address alone, without `?`, `#` or a password"
