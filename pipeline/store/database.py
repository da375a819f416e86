"""Opens the SQLite file of the state store, and says in our words what a database says in its own."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RetryableError, StateError

if TYPE_CHECKING:
    from sqlalchemy import Engine

PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=5000", "wal_autocheckpoint=4000", "cache_size=-6000")
_WRITES = ("secure_delete=OFF", "temp_store=MEMORY")
"""Of the state store's own connections. Some builds of SQLite write zeros over what is deleted, which reads and writes
each page of a payload once more; and what a statement may have to take back goes to a file beyond 64 KiB."""


def connect_sqlite(path: Path) -> sqlite3.Connection:
    """A connection to the file in autocommit mode, for one thread at a time; the caller closes it. See `examine`.

    WAL with synchronous=NORMAL keeps every commit through a kill of the process; a power cut may lose the last ones
    and nothing else.
    """
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    _prepare(connection)
    for pragma in _WRITES:
        connection.execute(f"PRAGMA {pragma}")
    return connection


def open_sqlite(path: Path) -> "Engine":
    """An engine on the file, made if it is not there."""
    from sqlalchemy import create_engine, event  # 130 ms, which a start on an existing file does not need

    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: sqlite3.Connection, _: object = None) -> None:
    for pragma in PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


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
    except Exception as error:
        said = getattr(error, "orig", error)  # SQLAlchemy's hold the driver's own
        if not isinstance(said, sqlite3.DatabaseError):
            raise
        text = str(said)
        passes = any(word in text for word in ("full", "locked", "disk I/O", "unable to open"))
        if isinstance(said, sqlite3.OperationalError) and passes:
            raise RetryableError(f"the state store {path} cannot be written: {text}") from error
        raise StateError(damaged(path, text)) from error
