"""The state store's SQLite file: one process at a time owns it, by a lock file beside it.

The lock file is also a witness of the store that was here: its generation (which counts the starts), and whether it
was closed. A file that is gone or made anew has an older generation, one that was not closed has its `-wal`; what
differs is not taken for a first start.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from pipeline.errors import StateError
from pipeline.store.database import connect_sqlite, open_sqlite, translating
from pipeline.store.examine import Witness, examine, generation_of, version_of
from pipeline.store.records import SCHEMA, Commit
from pipeline.store.sqlite_writes import write
from pipeline.store.transaction import Transaction, Value

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

_CLOSED: Final = "closed"


class SqliteFile:
    """See `pipeline.store.state.Database`."""

    shared = False

    def __init__(self, path: Path) -> None:
        """Lock and open it. Raises StateError: damaged, or in use by another process."""
        self.path = path
        self.name = f"the state store {path}"
        self._lock = _lock(path)
        self._witnessed = False
        self._commits = threading.Lock()
        """Held by who writes: SQLite lets a second writer wait by sleeping, longer and longer."""
        self._reads = threading.Lock()
        """Held by who reads: a connection serves one thread at a time."""
        self._connections: list[sqlite3.Connection] = []
        try:
            examine(path, _read(self._lock))
        except BaseException:
            self._lock.close()
            raise

    @cached_property
    def engine(self) -> "Engine":
        """Made for who asks."""
        return open_sqlite(self.path)

    @cached_property
    def _writer(self) -> sqlite3.Connection:
        return self._connected()

    @cached_property
    def _reader(self) -> sqlite3.Connection:
        return self._connected()

    def _connected(self) -> sqlite3.Connection:
        connection = connect_sqlite(self.path)
        self._connections.append(connection)
        return connection

    def lift(self) -> None:
        if not self.path.exists() or version_of(self._writer) != SCHEMA:
            from pipeline.store.migrations import migrate

            migrate(self.engine, _alone)

    def translating(self) -> AbstractContextManager[None]:
        return translating(self.path)

    @contextmanager
    def reading(self) -> Iterator[Transaction]:
        with self._reads, translating(self.path):
            yield _Transaction(self._reader)

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        with self._commits, translating(self.path):
            writer = self._writer
            writer.execute("BEGIN IMMEDIATE")
            try:
                yield _Transaction(writer)
                writer.execute("COMMIT")
            except BaseException:
                if writer.in_transaction:  # a full disk ends the transaction by itself
                    writer.execute("ROLLBACK")
                raise

    def move(self, old: str, new: str) -> None:
        with self.writing() as tx:
            tx.run(
                "INSERT INTO state_tables (shard, owner, name) SELECT shard, ?, name FROM state_tables WHERE owner = ? "
                "ON CONFLICT DO NOTHING",
                new,
                old,
            )
            tx.run(
                "UPDATE state_rows SET state_table = (SELECT theirs.id FROM state_tables AS ours "
                "JOIN state_tables AS theirs USING (shard, name) WHERE ours.id = state_table AND theirs.owner = ?) "
                "WHERE state_table IN (SELECT id FROM state_tables WHERE owner = ?)",
                new,
                old,
            )

    def forget(self, owner: str) -> None:
        with self.writing() as tx:
            tx.run("DELETE FROM state_rows WHERE state_table IN (SELECT id FROM state_tables WHERE owner = ?)", owner)

    def write(self, commit: Commit) -> str | None:
        with self._commits, translating(self.path):
            if not self._witnessed:
                self._bear_witness(self._writer)
            return write(self._writer, commit)

    def _bear_witness(self, writer: sqlite3.Connection) -> None:
        """Note the generation, once it would survive a power cut."""
        writer.execute("PRAGMA wal_checkpoint").fetchall()
        _note(self._lock, Witness(generation_of(writer), closed=False))
        self._witnessed = True

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        if "engine" in self.__dict__:
            self.engine.dispose()
        if not self._lock.closed and not Path(f"{self.path}-wal").exists():
            _note(self._lock, Witness(_read(self._lock).generation))
        self._lock.close()


def _alone(connection: "Connection") -> None:
    """Python's driver begins no transaction before what is no INSERT, UPDATE or DELETE; a step is to be all or none."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class _Transaction:
    """See `pipeline.store.transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def run(self, text: str, *values: Value) -> list[tuple[Any, ...]]:
        return self._connection.execute(text, values).fetchall()


@contextmanager
def visiting(path: Path) -> Iterator[bool]:
    """While somebody else than the owner uses the file; gives whether a process owns it now.

    Without an owner the last one to close it takes the `-wal` in, and says so to the witness. Raises StateError:
    damaged.
    """
    owned = is_locked(path)
    lock = Path(f"{path}.lock")
    if not owned:
        with lock.open("a+") as handle:
            examine(path, _read(handle))
    yield owned
    if not owned and not is_locked(path) and not Path(f"{path}-wal").exists():
        with lock.open("a+") as handle:
            _note(handle, Witness(_read(handle).generation))


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
        owner = handle.readline().strip() or "unknown"
        handle.close()
        raise StateError(f"the state store {path} is in use by another dagtel (pid {owner})") from None
    _note(handle, _read(handle))
    return handle


def _note(handle: IO[str], witness: Witness) -> None:
    handle.truncate(0)
    handle.write(f"{os.getpid()}\n{witness.generation}\n{_CLOSED if witness.closed else 'open'}\n")
    handle.flush()


def _read(handle: IO[str]) -> Witness:
    """What the lock file says; an older one, or a new one, says nothing."""
    handle.seek(0)
    _, generation, closed, *_ = [*handle.read().split("\n"), "", "", ""]
    return Witness(int(generation) if generation.isdecimal() else 0, closed in ("", _CLOSED))
