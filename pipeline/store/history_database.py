"""Opens the history: a SQLite file, or a schema of PostgreSQL; to write it, or to read it beside whoever writes.

Whatever is wrong with it is a RetryableError that says what to do: the alerts go on without their history, what belongs
into it waits in the outbox, and once somebody has seen to it the next try succeeds.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, event, exc, inspect, select
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from pipeline.errors import PermanentError, RetryableError, StateError
from pipeline.store.database import open_sqlite
from pipeline.store.history_migrations import HISTORY_KIND, KIND, STEPS
from pipeline.store.history_schema import META
from pipeline.store.place import Place
from pipeline.store.steps import Step, climb, version_of

_HEADER: Final = b"SQLite format 3\0"
_OPTION: Final = "the history's `postgresql.url`"


class Database(Protocol):
    """An opened history."""

    engine: Engine
    name: str
    upsert: Callable[..., Any]
    """The dialect's `insert`, which knows `on_conflict_do_update`."""

    def translating(self) -> AbstractContextManager[None]:
        """Database errors as RetryableError; PermanentError where the very values are refused."""
        ...

    def alone(self, connection: Connection) -> None:
        """Keep other processes out of this until the transaction's end."""
        ...

    def moved(self) -> bool:
        """What is open is no more what stands at its place."""
        ...

    def close(self) -> None: ...


def open_to_write(place: Place, steps: Sequence[Step] = STEPS) -> Database:
    """Open it, made if it is not there, its schema brought up. Raises RetryableError."""
    database = _opened(place, reads_only=False)
    try:
        with database.translating():
            if _kind(database.engine) not in (HISTORY_KIND, ""):
                raise RetryableError(_strange(database))
            climb(database.engine, META, steps, lambda version, known: _newer(database, version, known), database.alone)
    except BaseException as error:
        database.close()
        if isinstance(error, StateError):
            raise RetryableError(str(error)) from error
        raise
    return database


def open_to_read(place: Place, steps: Sequence[Step] = STEPS) -> Database:
    """Open what is there, and change nothing. Raises RetryableError: not there, damaged, of another version."""
    if not place.url and not Path(place.path).is_file():
        raise RetryableError(
            f"there is no history {place.path}: no daemon with an exporter `store` has run with it, or it ran in "
            "another folder"
        )
    database = _opened(place, reads_only=True)
    try:
        with database.translating():
            kind = _kind(database.engine)
            version = version_of(database.engine, META) if kind == HISTORY_KIND else 0
        if kind != HISTORY_KIND:
            begun = f"{database.name} is empty: no daemon has begun it yet"
            raise RetryableError(_strange(database) if kind else begun)
        if version > len(steps):
            raise RetryableError(_newer(database, version, len(steps)))
        if version < len(steps):
            raise RetryableError(
                f"{database.name} has schema {version}, this program knows {len(steps)}: it is lifted when this "
                "version's daemon starts on it"
            )
    except BaseException:
        database.close()
        raise
    return database


def _kind(engine: Engine) -> str:
    """What its `meta` says it is; "" for a database without tables, "something else" for one of other tables."""
    with engine.connect() as connection:
        names = inspect(connection).get_table_names()  # asked once: another process may be creating them
        if META.name not in names:
            return "something else" if names else ""
        return connection.scalar(select(META.c.value).where(META.c.key == KIND)) or "something else"


def _strange(database: Database) -> str:
    return (
        f"{database.name} is no history of dagtel, and is left alone: give the exporter `store` another `path` "
        "(`postgresql.schema`)"
    )


def _newer(database: Database, version: int, known: int) -> str:
    return (
        f"{database.name} has schema {version}, this program knows {known}: run the newer program, or give the "
        "exporter `store` another `path` (`postgresql.schema`)"
    )


def _opened(place: Place, reads_only: bool) -> Database:
    if not place.url:
        return _File(Path(place.path), reads_only)
    return _in_postgres(place)


class _File:
    """A history in a SQLite file."""

    upsert = staticmethod(sqlite_insert)

    def __init__(self, path: Path, reads_only: bool) -> None:
        self.path, self.name = path, f"the history {path}"
        with self.translating():
            if path.exists() and path.stat().st_size:
                with path.open("rb") as file:
                    if file.read(len(_HEADER)) != _HEADER:
                        raise sqlite3.DatabaseError("its header is none of SQLite's")
            self.engine = open_sqlite(path)
            if reads_only:
                event.listen(self.engine, "connect", _only_read)
            with self.engine.connect():
                pass
            self._inode = path.stat().st_ino

    @contextmanager
    def translating(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RetryableError(f"{self.name} cannot be opened: {error.strerror or error}") from error
        except (exc.DatabaseError, sqlite3.DatabaseError) as error:
            text = str(error.orig) if isinstance(error, exc.DBAPIError) else str(error)
            raise RetryableError(self._said(text)) from error

    def _said(self, text: str) -> str:
        if "locked" in text:
            return f"{self.name} is locked by another process"
        if any(word in text for word in ("malformed", "not a database", "header", "no such table", "no such column")):
            return (
                f"{self.name} is damaged ({text}): move it and its `-wal` and `-shm` away to begin another, or restore "
                "it from a backup without those two"
            )
        return f"{self.name} cannot be used now: {text}"

    def alone(self, connection: Connection) -> None:
        """A write transaction keeps others out; this one becomes one."""
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def moved(self) -> bool:
        try:
            return self.path.stat().st_ino != self._inode
        except OSError:
            return True

    def close(self) -> None:
        self.engine.dispose()


def _only_read(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA query_only=ON")


def _in_postgres(place: Place) -> Database:
    from sqlalchemy.dialects.postgresql import insert

    from pipeline.store.postgres import PostgresSchema  # psycopg: only who has it there pays

    class InPostgres(PostgresSchema):
        """A history in a schema of PostgreSQL."""

        upsert = staticmethod(insert)

        @contextmanager
        def translating(self) -> Iterator[None]:
            try:
                with super().translating():
                    yield
            except StateError as error:
                cause = error.__cause__
                state = str(getattr(getattr(cause, "orig", None), "sqlstate", None) or "")
                if state.startswith("22"):  # data exceptions: the same values will be refused again
                    raise PermanentError(str(error)) from error
                raise RetryableError(str(error)) from error

        def moved(self) -> bool:
            return False

    try:
        return InPostgres(place.url, place.schema, "the history", _OPTION)
    except StateError as error:
        raise RetryableError(str(error)) from error
