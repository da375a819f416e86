"""The state store's SQLite file: one process at a time owns it, by a lock file beside it."""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO

from sqlalchemy import Connection
from sqlalchemy.dialects.sqlite import insert

from pipeline.errors import StateError
from pipeline.store.database import open_sqlite, plain_connection, translating
from pipeline.store.records import Commit
from pipeline.store.sqlite_writes import write


class SqliteFile:
    """See `pipeline.store.state.Database`."""

    shared = False
    upsert = staticmethod(insert)

    def __init__(self, path: Path) -> None:
        """Lock and open it. Raises StateError: damaged, or in use by another process."""
        self.path = path
        self.name = f"the state store {path}"
        self._lock = _lock(path)
        self._commits = threading.Lock()
        """Held by who writes: SQLite lets a second writer wait by sleeping, longer and longer."""
        self._writer: sqlite3.Connection | None = None
        try:
            self.engine = open_sqlite(path)
        except BaseException:
            self._lock.close()
            raise

    def translating(self) -> AbstractContextManager[None]:
        return translating(self.path)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        with self._commits, translating(self.path), self.engine.begin() as connection:
            yield connection

    def alone(self, connection: Connection) -> None:
        """The lock file keeps others out."""

    def write(self, commit: Commit) -> str | None:
        with self._commits, translating(self.path):
            if self._writer is None:
                self._writer = plain_connection(self.engine)
            return write(self._writer, commit)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self.engine.dispose()
        self._lock.close()


def is_locked(path: Path) -> bool:
    """Whether a process owns the file now."""
    lock = Path(f"{path}.lock")
    if not lock.exists():
        return False
    with lock.open("r") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock(path: Path) -> IO[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = Path(f"{path}.lock").open("a+")  # noqa: SIM115  # held as long as the store
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise StateError(f"the state store {path} is in use by another dagtel (pid {owner})") from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle
