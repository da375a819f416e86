"""Where a Dagster instance keeps its event log: read from its `dagster.yaml`, without importing Dagster.

Source: Dagster's instance reference; the layout below `history/` is that of Dagster 1.7 to 1.13.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias, cast
from urllib.parse import quote, urlencode

import msgspec

from pipeline.errors import ConfigError, PermanentError
from pipeline.options import Secret
from pipeline.yaml_file import load_yaml


class SqliteStorage(msgspec.Struct, frozen=True):
    """Files: one database a run in `events` (or one for all, `event_log.db`), the rows of runs in `runs`."""

    events: Path
    runs: Path


class PostgresStorage(msgspec.Struct, frozen=True):
    """One database; `url` as libpq takes it."""

    url: Secret


Storage: TypeAlias = SqliteStorage | PostgresStorage
_Options: TypeAlias = Mapping[str, object]


def find_storage(home: str, postgres_url: Secret) -> Storage:
    """The PostgreSQL database at `postgres_url`, else the storage of the instance whose DAGSTER_HOME is `home`.

    Raises PermanentError: neither is given, `home` is no folder, or its storage is of a kind that is not read.
    """
    if postgres_url.reveal():
        return PostgresStorage(Secret(libpq_url(postgres_url.reveal())))
    if not home:
        raise PermanentError("dagster: give `home` (the folder that DAGSTER_HOME names) or `postgres_url`")
    folder = Path(home).expanduser()
    if not folder.is_dir():
        raise PermanentError(f"dagster: {folder} is no folder; `home` is what DAGSTER_HOME names")
    return _from_settings(folder, _settings(folder / "dagster.yaml"))


def libpq_url(url: str) -> str:
    """The URL without SQLAlchemy's driver: `postgresql+psycopg2://` is `postgresql://` to everybody else."""
    scheme, separator, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}{separator}{rest}"


def _settings(file: Path) -> _Options:
    if not file.exists():
        return {}
    try:
        settings = load_yaml(file)
        return {} if settings is None else _mapping(settings, str(file))
    except ConfigError as error:
        raise PermanentError(f"dagster: {error}") from error


def _from_settings(home: Path, settings: _Options) -> Storage:
    if "storage" in settings:
        storage = _mapping(settings["storage"], "storage")
        kind = next(iter(storage), "")
        options = _mapping(storage.get(kind) or {}, f"storage.{kind}")
        if kind == "postgres":
            return _postgres(options)
        if kind == "sqlite":
            base = Path(_text(options.get("base_dir"), "storage.sqlite.base_dir"))
            return SqliteStorage(base / "history" / "runs", base / "history" / "runs.db")
        raise PermanentError(f"dagster: storage of kind `{kind}` is not read; PostgreSQL and SQLite are")
    if "event_log_storage" in settings:
        return _legacy(home, settings)
    return SqliteStorage(home / "history" / "runs", home / "history" / "runs.db")


def _legacy(home: Path, settings: _Options) -> Storage:
    """`event_log_storage` and `run_storage`, each configured by its class."""
    options = _mapping(settings["event_log_storage"], "event_log_storage")
    name, config = options.get("class"), _mapping(options.get("config") or {}, "event_log_storage.config")
    if name == "PostgresEventLogStorage":
        return _postgres(config)
    if name in ("SqliteEventLogStorage", "ConsolidatedSqliteEventLogStorage"):
        events = Path(_text(config.get("base_dir"), "event_log_storage.config.base_dir"))
        return SqliteStorage(events, _legacy_runs(home, settings))
    raise PermanentError(f"dagster: event log storage `{name}` is not read; PostgreSQL and SQLite are")


def _legacy_runs(home: Path, settings: _Options) -> Path:
    if "run_storage" not in settings:
        return home / "history" / "runs.db"
    options = _mapping(settings["run_storage"], "run_storage")
    if options.get("class") != "SqliteRunStorage":
        raise PermanentError("dagster: an event log in SQLite is read only where the runs are in SQLite, too")
    config = _mapping(options.get("config") or {}, "run_storage.config")
    return Path(_text(config.get("base_dir"), "run_storage.config.base_dir")) / "runs.db"


def _postgres(options: _Options) -> PostgresStorage:
    if options.get("auth_provider"):
        raise PermanentError("dagster: an `auth_provider` is not supported; give `postgres_url` with a password")
    if options.get("postgres_url"):
        return PostgresStorage(Secret(libpq_url(_text(options["postgres_url"], "postgres_url"))))
    parts = _mapping(options.get("postgres_db") or {}, "postgres_db")
    user, password = (_text(parts.get(k, ""), f"postgres_db.{k}") for k in ("username", "password"))
    who = quote(user, safe="") + (f":{quote(password, safe='')}" if password else "")
    place = f"{_text(parts.get('hostname', ''), 'hostname')}:{_text(parts.get('port', 5432), 'port')}"
    url = f"postgresql://{who}@{place}/{_text(parts.get('db_name', ''), 'db_name')}"
    params = _mapping(parts.get("params") or {}, "postgres_db.params")
    return PostgresStorage(Secret(url + (f"?{urlencode(params, quote_via=quote)}" if params else "")))


def _text(value: object, where: str) -> str:
    """A StringSource: the text itself, or `{env: NAME}`."""
    if isinstance(value, Mapping) and set(value) == {"env"}:
        name = str(value["env"])
        if name not in os.environ:
            raise PermanentError(f"dagster: {where} in dagster.yaml names the environment variable {name}: not set")
        return os.environ[name]
    if isinstance(value, str | int):
        return str(value)
    raise PermanentError(f"dagster: {where} in dagster.yaml is no text")


def _mapping(value: object, where: str) -> _Options:
    if not isinstance(value, Mapping):
        raise PermanentError(f"dagster: {where}: expected keys and values")
    return cast(_Options, value)
