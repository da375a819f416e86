"""The state store: positions, state rows, outbox, receipts and dead letters, committed together.

One transaction is one moment: after any crash all of them are those of the same checkpoint. A shard has an owner
epoch, counted up by whoever takes the shard on; a commit that carries an older one changes nothing and raises.
All methods block and are called off the loop's thread.
"""

import fcntl
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from sqlalchemy import Connection, Engine, Table, delete, func, select, update
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert

from pipeline.components import Payload, Position, Receipt
from pipeline.errors import StateError
from pipeline.store.database import open_sqlite, plain_connection, translating
from pipeline.store.migrations import migrate
from pipeline.store.records import (
    Ack,
    Commit,
    DeadLetter,
    OutboxRow,
    ShardState,
    StateRow,
    StoredRow,
    Waiting,
)
from pipeline.store.schema import DEAD_LETTERS, META, OUTBOX, POSITIONS, RECEIPTS, ROWS, SHARDS
from pipeline.store.sqlite_writes import write

__all__ = ["Ack", "Commit", "DeadLetter", "OutboxRow", "ShardState", "StateRow", "StateStore", "StoredRow", "Waiting"]


class StateStore:
    """A state store in one SQLite file, owned by one process at a time (a lock file beside it says so)."""

    def __init__(self, path: Path) -> None:
        """Open it, bring its schema up. Raises StateError: damaged, newer, or in use by another process."""
        self.path = path
        self._lock = _lock(path)
        self._commits = threading.Lock()
        """Held by who writes: SQLite lets a second writer wait by sleeping, longer and longer."""
        self._writer: sqlite3.Connection | None = None
        try:
            self._engine: Engine = open_sqlite(path)
        except BaseException:
            self._lock.close()
            raise
        try:
            with translating(path):
                migrate(self._engine)
            self._writer = plain_connection(self._engine)
            self.generation = self._next_generation()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of file and lock; safe to call twice."""
        if self._writer is not None:
            self._writer.close()
        self._engine.dispose()
        self._lock.close()

    def take_shard(self, shard: str) -> ShardState:
        """Become the owner of a shard: count its epoch up and load its rows, in one transaction."""
        with self._write() as tx:
            epoch = int(tx.scalar(select(SHARDS.c.epoch).where(SHARDS.c.shard == shard)) or 0) + 1
            tx.execute(_upsert(SHARDS, ("shard",)), {"shard": shard, "epoch": epoch})
            rows: dict[tuple[str, str], list[StoredRow]] = {}
            found = tx.execute(
                select(ROWS.c.owner, ROWS.c.name, ROWS.c.key, ROWS.c.version, ROWS.c.value).where(ROWS.c.shard == shard)
            )
            for owner, name, key, version, value in found:
                rows.setdefault((owner, name), []).append((key, version, value))
        return ShardState(epoch, rows)

    def positions(self, sources: Iterable[str]) -> dict[str, Position]:
        """The stored positions of these sources; those that have none are left out."""
        wanted = list(sources)
        with self._read() as tx:
            found = tx.execute(select(POSITIONS.c.source, POSITIONS.c.data).where(POSITIONS.c.source.in_(wanted)))
            return {source: msgspec.msgpack.decode(data, type=Position) for source, data in found}

    def commit(self, commit: Commit) -> None:
        """Write all of it or nothing. Raises StateError when a shard has another owner by now, RetryableError when the
        disk is full or the file is locked."""
        with self._commits, translating(self.path):
            assert self._writer is not None
            taken = write(self._writer, commit)
        if taken is not None:
            raise StateError(f"shard {taken} has been taken over by another process; this one must end")

    def waiting(self) -> list[Waiting]:
        """The outbox without its bytes, in the order of building."""
        with self._read() as tx:
            found = tx.execute(select(OUTBOX.c.id, OUTBOX.c.exporter, OUTBOX.c.size).order_by(OUTBOX.c.id))
            return [Waiting(*row) for row in found]

    def payload(self, id: int) -> Payload | None:
        """One payload's bytes; None when it is no longer in the outbox."""
        with self._read() as tx:
            data = tx.scalar(select(OUTBOX.c.data).where(OUTBOX.c.id == id))
        return None if data is None else msgspec.msgpack.decode(data, type=Payload)

    def receipts(self) -> dict[str, Receipt]:
        """What each exporter wants to be given back."""
        with self._read() as tx:
            found = tx.execute(select(RECEIPTS.c.exporter, RECEIPTS.c.data))
            return {row.exporter: row.data for row in found}

    def owners(self) -> set[str]:
        """The components that have state."""
        with self._read() as tx:
            return set(tx.scalars(select(ROWS.c.owner).distinct()))

    def move(self, old: str, new: str) -> None:
        """Give the state of one component to another."""
        with self._write() as tx:
            tx.execute(update(ROWS).where(ROWS.c.owner == old).values(owner=new))

    def forget(self, owner: str) -> None:
        """Delete a component's state."""
        with self._write() as tx:
            tx.execute(delete(ROWS).where(ROWS.c.owner == owner))

    def dead_letters(self, limit: int = 1000, after: int = 0) -> list[DeadLetter]:
        """Dead letters with an id above `after`, oldest first."""
        columns = [c for c in DEAD_LETTERS.c if c.name != "size"]
        with self._read() as tx:
            found = tx.execute(
                select(*columns).where(DEAD_LETTERS.c.id > after).order_by(DEAD_LETTERS.c.id).limit(limit)
            )
            return [DeadLetter(*row) for row in found]

    def trim_dead_letters(self, cap: int) -> int:
        """Drop the oldest dead letters until all bodies together hold at most `cap` bytes; says how many went."""
        with self._write() as tx:
            excess = int(tx.scalar(select(func.coalesce(func.sum(DEAD_LETTERS.c.size), 0))) or 0) - cap
            gone: list[int] = []
            for id, size in tx.execute(select(DEAD_LETTERS.c.id, DEAD_LETTERS.c.size).order_by(DEAD_LETTERS.c.id)):
                if excess <= 0:
                    break
                gone.append(id)
                excess -= size
            if gone:
                tx.execute(delete(DEAD_LETTERS).where(DEAD_LETTERS.c.id <= gone[-1]))
        return len(gone)

    def _next_generation(self) -> int:
        with self._write() as tx:
            generation = int(tx.scalar(select(META.c.value).where(META.c.key == "generation")) or 0) + 1
            tx.execute(_upsert(META, ("key",)), {"key": "generation", "value": str(generation)})
        return generation

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with self._commits, translating(self.path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with translating(self.path), self._engine.connect() as connection:
            yield connection


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


def _upsert(table: Table, keys: tuple[str, ...]) -> Insert:
    statement = upsert(table)
    changed = {c.name: statement.excluded[c.name] for c in table.c if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=changed)
