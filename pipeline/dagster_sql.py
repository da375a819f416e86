"""Dagster's PostgreSQL database, and the rows of runs in either kind of storage; errors said in our words.

The driver is psycopg 3, our own: what Dagster itself has installed is nothing to us.
"""

import sqlite3
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import LiteralString, TypeAlias, cast

import anyio.to_thread
import msgspec
import psycopg
from psycopg.abc import Buffer

from pipeline.clock import Clock
from pipeline.dagster_files import ask
from pipeline.dagster_home import PostgresStorage, SqliteStorage, Storage
from pipeline.errors import PermanentError, RetryableError
from pipeline.options import Secret
from pipeline.run_rows import RunRow, RunRows, run_row

Value: TypeAlias = str | int | float | bytes | None
Row: TypeAlias = tuple[Value, ...]
Parameter: TypeAlias = Value | Sequence[int] | Sequence[str]


_BODIES = "SELECT run_id, run_body FROM runs WHERE run_id IN (SELECT value FROM json_each(?))"
_TAGS = "SELECT run_id, key, value FROM run_tags WHERE run_id IN (SELECT value FROM json_each(?))"

# --- PostgreSQL ------------------------------------------------------------------------------------------------------


class _Raw(psycopg.adapt.Loader):
    """A text column as the bytes that are stored, whatever their encoding."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)


class Postgres:
    """One open connection. `text` columns come as bytes, `varchar` as str."""

    def __init__(self, connection: psycopg.AsyncConnection[Row], place: str) -> None:
        self._connection, self.place = connection, place

    async def fetch(self, query: LiteralString, parameters: Sequence[Parameter] = ()) -> list[Row]:
        """The rows of one statement. Raises RetryableError, or PermanentError when the schema is another one."""
        with _translating(self.place):
            cursor = await self._connection.execute(query, parameters)
            return await cursor.fetchall()


@asynccontextmanager
async def open_postgres(url: Secret) -> AsyncIterator[Postgres]:
    """A connection for as long as the context is open. Raises RetryableError when none comes about."""
    place = _place(url)
    with _translating(place):
        connection: psycopg.AsyncConnection[Row] = await psycopg.AsyncConnection.connect(
            url.reveal(), autocommit=True, application_name="dagtel", client_encoding="utf8", connect_timeout=10
        )
    try:
        connection.adapters.register_loader("text", _Raw)
        yield Postgres(connection, place)
    finally:  # its own context would first roll back, which a cancelled task cannot wait for
        await connection.close()


def _place(url: Secret) -> str:
    """The server and database without user and password, for messages. Raises PermanentError when it is no URL."""
    try:
        parts = psycopg.conninfo.conninfo_to_dict(url.reveal())
    except psycopg.ProgrammingError:  # its text may repeat the password
        raise PermanentError("dagster: `postgres_url` is no connection URL as PostgreSQL takes it") from None
    return f"PostgreSQL {parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts.get('dbname', '')}"


@contextmanager
def _translating(place: str) -> Iterator[None]:
    try:
        yield
    except psycopg.errors.UndefinedTable as error:
        raise RetryableError(f"{place} holds no Dagster storage (yet): {_first_line(error)}") from error
    except (psycopg.errors.UndefinedColumn, psycopg.errors.InsufficientPrivilege) as error:
        raise PermanentError(f"{place} cannot be read as Dagster's storage: {_first_line(error)}") from error
    except psycopg.Error as error:
        raise RetryableError(f"{place} does not answer: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# --- rows of runs ----------------------------------------------------------------------------------------------------


class PostgresRunRows:
    """Run rows over a connection that somebody else holds."""

    def __init__(self, database: Postgres) -> None:
        self._database = database

    async def look_up(self, run_ids: Iterable[str]) -> Mapping[str, RunRow]:
        ids = list(run_ids)
        bodies = await self._database.fetch("SELECT run_id, run_body FROM runs WHERE run_id = ANY(%s)", [ids])
        tags = await self._database.fetch(
            "SELECT run_id, key::varchar, value::varchar FROM run_tags WHERE run_id = ANY(%s)",
            [ids],
        )
        return _joined(bodies, tags)


class PostgresRuns:
    """Run rows over a connection of its own for each question: for who asks rarely."""

    def __init__(self, url: Secret) -> None:
        self._url = url

    async def look_up(self, run_ids: Iterable[str]) -> Mapping[str, RunRow]:
        async with open_postgres(self._url) as database:
            return await PostgresRunRows(database).look_up(run_ids)


class SqliteRunRows:
    """Run rows from `history/runs.db`. A file that is not there, or is just being made, has none."""

    def __init__(self, file: Path, clock: Clock) -> None:
        self._file, self._clock = file, clock

    async def look_up(self, run_ids: Iterable[str]) -> Mapping[str, RunRow]:
        return await anyio.to_thread.run_sync(self._look_up, list(run_ids))

    def _look_up(self, run_ids: list[str]) -> Mapping[str, RunRow]:
        ids = [msgspec.json.encode(run_ids).decode()]

        def question(database: sqlite3.Connection) -> dict[str, RunRow]:
            return _joined(database.execute(_BODIES, ids).fetchall(), database.execute(_TAGS, ids).fetchall())

        try:
            return ask(self._file, question, self._clock.wall_ns(), insist=True) or {}
        except sqlite3.Error as error:
            raise RetryableError(f"{self._file} cannot be read: {error}") from error


def open_run_rows(storage: Storage, clock: Clock) -> RunRows:
    """Run rows of a storage."""
    match storage:
        case SqliteStorage():
            return SqliteRunRows(storage.runs, clock)
        case PostgresStorage():
            return PostgresRuns(storage.url)


def _joined(bodies: Iterable[Row], tags: Iterable[Row]) -> dict[str, RunRow]:
    tags_of: dict[str, list[tuple[str, str | None]]] = {}
    for run_id, key, value in cast("Iterable[tuple[str, str, str | None]]", tags):
        tags_of.setdefault(run_id, []).append((key, value))
    return {
        run_id: run_row(body or b"", tags_of.get(run_id, ()))
        for run_id, body in cast("Iterable[tuple[str, str | bytes | None]]", bodies)
    }
