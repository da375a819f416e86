"""Opens the SQLite file of the state store, and says in our words what a database says in its own."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, create_engine, event, exc

from pipeline.errors import RetryableError, StateError

PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "wal_autocheckpoint=4000", "cache_size=-8000")


def open_sqlite(path: Path) -> Engine:
    """An engine on the file, made if it is not there; see `examine` for one that is.

    WAL with synchronous=NORMAL keeps every commit through a kill of the process; a power cut may lose the last ones
    and nothing else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: sqlite3.Connection, _: object) -> None:
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def plain_connection(engine: Engine) -> sqlite3.Connection:
    """A connection of SQLite's own driver, in autocommit mode; the caller closes it."""
    pooled = engine.raw_connection()
    connection = pooled.driver_connection
    assert isinstance(connection, sqlite3.Connection)
    pooled.detach()
    connection.isolation_level = None
    return connection


def damaged(path: Path, what: str) -> str:
    """What to tell somebody whose state file cannot be read."""
    return (
        f"the state store {path} is damaged ({what}): nothing was changed. Restore it from a backup without its "
        f"`{path.name}-wal`, `{path.name}-shm` and `{path.name}.lock`, or move all four away to start anew (positions, "
        "open alerts and unsent payloads in it are lost then)"
    )


@contextmanager
def translating(path: Path) -> Iterator[None]:
    """Database errors as ours: RetryableError where waiting may help (full, locked), else StateError."""
    try:
        yield
    except (exc.OperationalError, sqlite3.OperationalError) as error:
        text = _said(error)
        if "full" in text or "locked" in text or "disk I/O" in text or "unable to open" in text:
            raise RetryableError(f"the state store {path} cannot be written: {text}") from error
        raise StateError(damaged(path, text)) from error
    except (exc.DatabaseError, sqlite3.DatabaseError) as error:
        raise StateError(damaged(path, _said(error))) from error


def _said(error: Exception) -> str:
    return str(error.orig) if isinstance(error, exc.DBAPIError) else str(error)
