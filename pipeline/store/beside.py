"""A state store as somebody else than its owner uses it: beside the daemon that has it, without its lock.

SQLite in WAL mode and PostgreSQL both let others read and append while the owner works. What may be written this way
is in `commands.py`, and nothing else.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine

from pipeline.errors import StateError
from pipeline.store.database import open_sqlite, translating
from pipeline.store.migrations import is_current
from pipeline.store.sqlite_file import visiting


class Beside:
    """The engine to use, and whether a daemon has the store now (None: the database does not say)."""

    def __init__(self, engine: Engine, name: str, in_use: bool | None) -> None:
        self.engine, self.name, self.in_use = engine, name, in_use
        self.by_wall = True
        """Whether its daemon's time is the wall's, which a configuration says otherwise (`clock: events`)."""


@contextmanager
def open_beside(path: str, postgresql_url: str = "", schema: str = "") -> Iterator[Beside]:
    """The store that the configuration names, which must be there already.

    Raises StateError: not there, damaged, of another version; RetryableError: no answer, or locked for too long.
    """
    with _in_postgres(postgresql_url, schema) if postgresql_url else _in_file(Path(path)) as beside:
        if not is_current(beside.engine):
            raise StateError(
                f"{beside.name} was written by another version of dagtel: start that one's daemon on it first"
            )
        yield beside


@contextmanager
def _in_file(path: Path) -> Iterator[Beside]:
    if not path.exists():
        raise StateError(f"there is no state store {path}: no daemon has run with it, or it ran in another folder")
    with visiting(path) as owned:
        engine = open_sqlite(path)
        try:
            with translating(path):
                yield Beside(engine, f"the state store {path}", owned)
        finally:
            engine.dispose()


@contextmanager
def _in_postgres(url: str, schema: str) -> Iterator[Beside]:
    from pipeline.store.postgres import PostgresSchema  # psycopg: only who has its state there pays

    database = PostgresSchema(url, schema)
    try:
        with database.translating():
            yield Beside(database.engine, database.name, None)
    finally:
        database.close()
