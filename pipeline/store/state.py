"""The state store: positions, state rows, outbox, receipts and dead letters, committed together.

One transaction is one moment: after any crash all of them are those of the same checkpoint. A shard has an owner
epoch, counted up by whoever takes the shard on; a commit that carries an older one changes nothing and raises.
All methods block and are called off the loop's thread.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from sqlalchemy import Connection, Delete, Engine, Table, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.sqlite import Insert
from sqlalchemy.dialects.sqlite import insert as upsert

from pipeline.components import Payload, Position, Receipt
from pipeline.errors import StateError
from pipeline.store.database import open_sqlite, translating
from pipeline.store.migrations import migrate
from pipeline.store.schema import DEAD_LETTERS, META, OUTBOX, POSITIONS, RECEIPTS, ROWS, SHARDS

_ROW_KEY = ("shard", "owner", "name", "key")

StoredRow = tuple[bytes, int, bytes]
"""Key, version and value of a state row, encoded."""


class StateRow(msgspec.Struct, frozen=True, gc=False):
    """A changed row of one component's table in one shard; `value` None deletes it."""

    shard: str
    owner: str
    name: str
    key: bytes
    version: int
    value: bytes | None


class OutboxRow(msgspec.Struct, frozen=True, gc=False):
    """A payload that waits to be sent. Ids grow in the order of building."""

    id: int
    exporter: str
    payload: Payload


class Waiting(msgspec.Struct, frozen=True, gc=False):
    """An outbox row without its bytes."""

    id: int
    exporter: str
    size: int


class Ack(msgspec.Struct, frozen=True, gc=False):
    """A payload that needs no more sending, and what its exporter wants to be given back."""

    id: int
    exporter: str
    receipt: Receipt | None = None


class DeadLetter(msgspec.Struct, frozen=True, gc=False):
    """Input, an item or a payload that could not be used: why, by which component, where it came from, its bytes."""

    id: int
    at_ns: int
    component: str
    reason: str
    detail: str
    origin: str
    body: bytes


class Commit(msgspec.Struct, frozen=True):
    """What one transaction holds. `epochs` are those under which its shards were taken on."""

    epochs: Mapping[str, int] = {}
    positions: Mapping[str, Position] = {}
    rows: Sequence[StateRow] = ()
    outbox: Sequence[OutboxRow] = ()
    acks: Sequence[Ack] = ()
    dead: Sequence[DeadLetter] = ()


class ShardState(msgspec.Struct, frozen=True):
    """A shard as it was stored: its new epoch, and the rows of each (owner, table)."""

    epoch: int
    rows: Mapping[tuple[str, str], Sequence[StoredRow]]


class StateStore:
    """A state store in one SQLite file, owned by one process at a time (a lock file beside it says so)."""

    def __init__(self, path: Path) -> None:
        """Open it, bring its schema up. Raises StateError: damaged, newer, or in use by another process."""
        self.path = path
        self._lock = _lock(path)
        try:
            self._engine: Engine = open_sqlite(path)
        except BaseException:
            self._lock.close()
            raise
        try:
            with translating(path):
                migrate(self._engine)
            self.generation = self._next_generation()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of file and lock; safe to call twice."""
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
        with self._write() as tx:
            for shard, epoch in commit.epochs.items():
                if tx.scalar(select(SHARDS.c.epoch).where(SHARDS.c.shard == shard)) != epoch:
                    raise StateError(f"shard {shard} has been taken over by another process; this one must end")
            _write_positions(tx, commit.positions)
            _write_rows(tx, commit.rows)
            _write_outbox(tx, commit.outbox)
            _write_acks(tx, commit.acks)
            if commit.dead:
                tx.execute(
                    insert(DEAD_LETTERS), [{**msgspec.structs.asdict(d), "size": len(d.body)} for d in commit.dead]
                )

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
        with translating(self.path), self._engine.begin() as connection:
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


def _write_positions(tx: Connection, positions: Mapping[str, Position]) -> None:
    if positions:
        values = [{"source": s, "data": msgspec.msgpack.encode(p)} for s, p in positions.items()]
        tx.execute(_upsert(POSITIONS, ("source",)), values)


def _write_rows(tx: Connection, rows: Sequence[StateRow]) -> None:
    """A checkpoint can have thousands of these: they go past SQLAlchemy's binding, which costs 5 µs a row."""
    kept = [(r.shard, r.owner, r.name, r.key, r.version, r.value) for r in rows if r.value is not None]
    gone = [(r.shard, r.owner, r.name, r.key) for r in rows if r.value is None]
    if kept:
        tx.exec_driver_sql(_sql(tx, _upsert(ROWS, _ROW_KEY)), kept)
    if gone:
        c = ROWS.c
        one = (c.shard == bindparam("s"), c.owner == bindparam("o"), c.name == bindparam("n"), c.key == bindparam("k"))
        tx.exec_driver_sql(_sql(tx, delete(ROWS).where(*one)), gone)


def _sql(tx: Connection, statement: Insert | Delete) -> str:
    return str(statement.compile(dialect=tx.dialect))


def _write_outbox(tx: Connection, outbox: Sequence[OutboxRow]) -> None:
    if outbox:
        tx.execute(
            insert(OUTBOX),
            [
                {
                    "id": r.id,
                    "exporter": r.exporter,
                    "size": len(r.payload.body),
                    "data": msgspec.msgpack.encode(r.payload),
                }
                for r in outbox
            ],
        )


def _write_acks(tx: Connection, acks: Sequence[Ack]) -> None:
    if acks:
        tx.execute(delete(OUTBOX).where(OUTBOX.c.id == bindparam("i")), [{"i": a.id} for a in acks])
        receipts = {a.exporter: a.receipt for a in acks if a.receipt is not None}
        if receipts:
            values = [{"exporter": e, "data": r} for e, r in receipts.items()]
            tx.execute(_upsert(RECEIPTS, ("exporter",)), values)
